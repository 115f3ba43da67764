"""`tfdistill trim`: remove tokens that the data never uses, and compare the models on held-out text."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tfdistill.commands.model_and_data import ModelAndData
from tfdistill.commands.options import OutOption, ReplaceModelOption, with_column_options
from tfdistill.commands.tables import new_name, show_next
from tfdistill.metrics.notation import shown
from tfdistill.system.console import make_table, show, show_table
from tfdistill.system.files import require_new


@with_column_options
def trim(
    model: Annotated[str, typer.Argument(help="a run, or a model directory")],
    data: Annotated[
        str, typer.Option("--data", help="the data that the model was trained on; tokens of its train split stay")
    ],
    out: OutOption,
    text: Annotated[
        str | None, typer.Option("--text", help="plain text whose tokens stay too: .txt, .txt.gz or a directory")
    ] = None,
    min_count: Annotated[int, typer.Option("--min-count", min=1, help="remove tokens that occur less often")] = 1,
    pieces: Annotated[
        int,
        typer.Option(
            "--keep-tokens",
            min=0,
            help="keep at least this many tokens, added from the start of the vocabulary, where BERT's are frequent",
        ),
    ] = 0,
    embedding_size: Annotated[
        int | None,
        typer.Option("--embedding-size", min=1, help="columns of the token table, by SVD; all by default"),
    ] = None,
    force: ReplaceModelOption = False,
) -> None:
    """Make a model smaller by removing tokens that its data never uses.

    Texts of the remaining tokens give the same logits as before. Other words are split into shorter tokens. No word
    becomes [UNK] if the vocabulary has all its characters.

    Example: `tfdistill trim RUN --data demo:movie-snippets --out SMALL`
    """
    require_new(out, "config.json" if force else None, "Choose a new name, or use --force to replace a model.")
    loaded, dataset = ModelAndData(model, data).load()
    assert dataset is not None
    from tfdistill.compress.trim import trim_model
    from tfdistill.corpora.plain_text import documents, text_files
    from tfdistill.models.hf import save_directory
    from tfdistill.models.training_record import max_length_of, recipe_of

    small, report = trim_model(
        loaded,
        dataset,
        more=None if text is None else (document for path in text_files(text) for document in documents(path)),
        min_count=min_count,
        at_least=pieces,
        embedding_size=embedding_size,
        max_length=max_length_of(model),
    )
    save_directory(small, out, recipe={**recipe_of(model), "trimmed": report})
    _show(report)
    show_next("tfdistill", "export", out, "--quantize", "dynamic_int8", "--data", data, "--out", new_name("BUNDLE"))


def _show(report: dict[str, Any]) -> None:
    before, after = report["parameters"]
    tokens = f"{report['pieces'][1]:,} of {report['pieces'][0]:,} tokens stay"
    parameters = f"{before / 1e6:.2f} M → {after / 1e6:.2f} M parameters (−{100 * (1 - after / before):.0f} %)"
    show(f"{tokens}; {parameters}")
    if report["embedding_loss"] is not None:
        show(f"the token table lost {100 * report['embedding_loss']:.1f} % of its norm")
    headings = (
        "split",
        "words split differently",
        "[UNK]",
        "same tokens",
        "their logits differ by",
        "same answer",
        "score",
    )
    rows = [
        (
            name,
            f"{100 * split['resegmented']:.2f} %",
            f"{100 * split['unknown_before']:.3f} → {100 * split['unknown']:.3f} %",
            f"{100 * split['same_pieces']:.1f} %",
            "–" if split["max_difference"] is None else f"{split['max_difference']:.1e}",
            f"{100 * split['same_answer']:.2f} %",
            _score(split["scores"]),
        )
        for name, split in report["splits"].items()
    ]
    show_table(make_table(headings, rows, title="held-out text, before → after"))


def _score(scores: list[dict[str, float]] | None) -> str:
    """Return the first metric before and after, or a dash for a split without labels."""
    if scores is None:
        return "–"
    metric = next(iter(scores[0]))
    return " → ".join(shown(metric, values[metric]) for values in scores) + f" {metric}"
