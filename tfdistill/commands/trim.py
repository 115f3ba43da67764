"""`tfdistill trim`: a model without the word pieces that its data never uses, and what that changes on held-out text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tfdistill.system.files import require_new


def texts_of(split: Any) -> list[str]:
    """All texts of a split, first and second."""
    return [*split.texts, *(split.texts_b or [])]


def trim_model(
    model: Any,
    data: Any,
    *,
    more: Iterator[str] | None = None,
    min_count: int = 1,
    at_least: int = 0,
    embedding_size: int | None = None,
    max_length: int = 64,
) -> tuple[Any, dict[str, Any]]:
    """`model` with the pieces that the train and unlabelled texts of `data` use, and a report.

    Args:
        more: further texts whose pieces stay.
        min_count: pieces that occur less often go.
        at_least: so many pieces stay, as for `pieces_to_keep`.
        embedding_size: columns of the word table, which becomes a product of two matrices; None leaves it whole.
        max_length: tokens in a row, for the comparison.

    Returns:
        (the small model, {"pieces", "parameters": [before, after], "embedding_loss", "splits": for dev and test, where
        they are, the fields of `compress.vocabulary.Segmentation` and `Parity`, and "scores": [before, after]}).

    Raises:
        UserError: as `pieces_to_keep`, `trim_vocabulary` and `factorise_embedding`.
    """
    from tfdistill.compress.embedding import factorise_embedding
    from tfdistill.compress.vocabulary import compare_models, compare_segmentation, pieces_to_keep, trim_vocabulary
    from tfdistill.models.predict import evaluate

    read = [text for name in ("train", "unlabelled") if name in data.splits for text in texts_of(data.splits[name])]
    kept = pieces_to_keep(model.tokenizer, [*read, *(more or ())], min_count=min_count, at_least=at_least)
    small = trim_vocabulary(model, kept)
    report: dict[str, Any] = {
        "pieces": [len(model.tokenizer.vocabulary), len(kept)],
        "embedding_loss": None,
        "splits": {},
    }
    if embedding_size is not None:
        small, report["embedding_loss"] = factorise_embedding(small, embedding_size)
    report["parameters"] = [model.count_params(), small.count_params()]
    for name in ("dev", "test"):
        split = data.splits.get(name)
        if split is None:
            continue
        segmentation = compare_segmentation(model.tokenizer, small.tokenizer, texts_of(split))
        parity = compare_models(model, small, split.texts, split.texts_b, max_length=max_length)
        scores = None
        if split.labels is not None:
            scores = [evaluate(each, data, name, max_length=max_length) for each in (model, small)]
        report["splits"][name] = {**asdict(segmentation), **asdict(parity), "scores": scores}
    return small, report


def trim(
    model: Annotated[str, typer.Argument(help="a model directory, for instance RUN/student")],
    data: Annotated[
        str, typer.Option("--data", help="the data that the model was trained on; train says which pieces stay")
    ],
    out: Annotated[Path, typer.Option("--out", help="directory to write")],
    text: Annotated[
        str | None, typer.Option("--text", help="further plain text whose pieces stay: .txt, .txt.gz or a directory")
    ] = None,
    min_count: Annotated[int, typer.Option("--min-count", min=1, help="pieces that occur less often go")] = 1,
    pieces: Annotated[
        int,
        typer.Option(
            "--pieces", min=0, help="keep so many: filled up from the vocabulary's beginning, where BERT's is frequent"
        ),
    ] = 0,
    embedding_size: Annotated[
        int | None, typer.Option("--embedding-size", min=1, help="columns of the word table, by SVD; all by default")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a model at --out")] = False,
) -> None:
    """Make a model smaller: drop the word pieces that its data never uses.

    Texts of kept pieces give the same logits as before. Other words fall into shorter pieces; no word newly becomes [UNK]
    where the vocabulary has all its characters.

    Example: `tfdistill trim RUN/student --data demo:movie-snippets --out SMALL`
    """
    from tfdistill.corpora.plain_text import documents, text_files
    from tfdistill.models.load import data_for, load, max_length_of, recipe_of
    from tfdistill.models.hf import save_directory

    require_new(out, "config.json" if force else None, ", or --force to replace a model")
    loaded = load(model)
    texts = data_for(loaded, model, data)
    more = None if text is None else (document for path in text_files(text) for document in documents(path))
    small, report = trim_model(
        loaded,
        texts,
        more=more,
        min_count=min_count,
        at_least=pieces,
        embedding_size=embedding_size,
        max_length=max_length_of(model, 64),
    )
    save_directory(small, out, recipe={**recipe_of(model), "trimmed": report})
    _show(report, out)


def _show(report: dict[str, Any], out: Path) -> None:
    console = Console()
    before, after = report["parameters"]
    pieces = f"{report['pieces'][1]:,} of {report['pieces'][0]:,} word pieces stay"
    parameters = f"{before / 1e6:.2f} M → {after / 1e6:.2f} M parameters (−{100 * (1 - after / before):.0f} %)"
    console.print(f"{pieces}; {parameters}", highlight=False, soft_wrap=True)
    if report["embedding_loss"] is not None:
        console.print(f"the word table lost {100 * report['embedding_loss']:.1f} % of its norm", highlight=False)
    table = Table(title="held-out text, before → after")
    for heading in (
        "split",
        "words split otherwise",
        "[UNK]",
        "texts of the same pieces",
        "their logits differ by",
        "same answer",
        "score",
    ):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name, found in report["splits"].items():
        score = "–"
        if found["scores"] is not None:
            metric = next(iter(found["scores"][0]))
            score = " → ".join(f"{values[metric]:.4f}" for values in found["scores"]) + f" {metric}"
        table.add_row(
            name,
            f"{100 * found['resegmented']:.2f} %",
            f"{100 * found['unknown_before']:.3f} → {100 * found['unknown']:.3f} %",
            f"{100 * found['same_pieces']:.1f} %",
            f"{found['max_difference']:.1e}",
            f"{100 * found['same_answer']:.2f} %",
            score,
        )
    console.print(table)
    console.print(f"next: tfdistill export {out} --quantize dynamic_int8 --out BUNDLE", highlight=False, soft_wrap=True)
