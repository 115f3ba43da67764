"""`tfdistill compress`: a BiLSTM whose file zips to a fraction, by clustered or pruned weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tfdistill.errors import UserError
from tfdistill.system.console import readable, task
from tfdistill.system.files import require_new
from tfdistill.system.tensorflow_import import import_tensorflow


def compress(
    model: Annotated[str, typer.Argument(help="directory of a BiLSTM student")],
    data: Annotated[str, typer.Option("--data", help="data to learn on (train, unlabelled) and to measure on")],
    out: Annotated[Path, typer.Option("--out", help="directory to write")],
    clusters: Annotated[int | None, typer.Option("--clusters", help="different values of a matrix, such as 32")] = None,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", help="share of zeros of a matrix, such as 0.5")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="optimizer steps")] = 200,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0, help="of Adam")] = 1e-3,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="texts in a step")] = 32,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    force: Annotated[bool, typer.Option("--force", help="replace a model at --out")] = False,
) -> None:
    """Cluster or prune the weights of a BiLSTM with TensorFlow Model Optimization, so that its file zips smaller.

    Apps are transferred zipped; on the device the file is as large and as fast as before. The model learns from its own outputs
    before.

    Example: `tfdistill compress RUN/student --data demo:movie-snippets --clusters 32 --out SMALL`
    """
    if (clusters is None) == (sparsity is None):
        raise UserError("expected either --clusters N or --sparsity SHARE")
    import_tensorflow()
    from tfdistill.compress import tfmot as twin
    from tfdistill.data.splits import concatenate
    from tfdistill.models.hf import save_directory
    from tfdistill.models.load import data_for, load, max_length_of, recipe_of
    from tfdistill.models.predict import encode, evaluate, predict_logits

    require_new(out, "config.json" if force else None, "Choose another `--out`, or `--force` to replace a model.")
    student = load(model)
    twin.require_known(student)
    texts, length = data_for(student, model, data), max_length_of(model, 64)
    read: list[Any] = [texts.splits[name] for name in ("train", "unlabelled") if name in texts.splits]
    rows = encode(student, concatenate(read), length)
    chosen: dict[str, Any] = {"method": "prune", "sparsity": sparsity}
    if clusters is not None:
        chosen = {"method": "cluster", "clusters": clusters}
    how = twin.Compression(
        **chosen,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )

    def measured() -> dict[str, Any]:
        scores = {
            name: evaluate(student, texts, name, max_length=length) for name in ("dev", "test") if name in texts.splits
        }
        return {"zipped": twin.zipped(student), "scores": scores, "matrices": twin.content(student)}

    before = measured()
    with task("the student reads its texts", len(rows)) as advance:
        logits = predict_logits(student, rows, advance=advance)
    with task(how.method, how.steps) as advance:
        twin.compress(student, rows, logits, how, advance)
    after = measured()
    report = {
        "how": chosen | {"steps": steps, "learning_rate": learning_rate, "seed": seed},
        "before": before,
        "after": after,
    }
    save_directory(student, out, recipe={**recipe_of(model), "compressed": report})
    _show(report, out)


def _show(report: dict[str, Any], out: Path) -> None:
    console, before, after = Console(), report["before"], report["after"]
    table = Table(title="matrices, before → after")
    for heading in ("matrix", "size", "different values", "zeros"):
        table.add_column(heading, justify="left" if heading == "matrix" else "right")
    for name, now in after["matrices"].items():
        then = before["matrices"][name]
        table.add_row(
            name,
            f"{now['size']:,}",
            f"{then['values']:,} → {now['values']:,}",
            f"{100 * then['zero']:.0f} → {100 * now['zero']:.0f} %",
        )
    console.print(table)
    share = 100 * (1 - after["zipped"] / before["zipped"])
    console.print(
        f"weights in float32, zipped: {readable(before['zipped'])} → {readable(after['zipped'])} (−{share:.0f} %)",
        highlight=False,
    )
    for name, then in before["scores"].items():
        metric = next(iter(then))
        console.print(f"{name} {metric}: {then[metric]:.4f} → {after['scores'][name][metric]:.4f}", highlight=False)
    console.print(
        f"next: tfdistill export {out} --quantize dynamic_int8 --out BUNDLE, whose manifest has the file's zipped size",
        highlight=False,
        soft_wrap=True,
    )
