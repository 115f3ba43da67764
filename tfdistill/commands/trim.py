"""`tfdistill trim`: a model without the word pieces that its data never uses, and what that changes on held-out text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tfdistill.compress.trim import trim_model
from tfdistill.system.files import require_new
from tfdistill.system.tensorflow_import import import_tensorflow


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
    import_tensorflow()
    from tfdistill.corpora.plain_text import documents, text_files
    from tfdistill.models.hf import save_directory
    from tfdistill.models.load import data_for, load, max_length_of, recipe_of

    require_new(out, "config.json" if force else None, "Choose another `--out`, or `--force` to replace a model.")
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
