"""`tfdistill compress`: cluster or prune the weights of a BiLSTM, so that its file zips to a fraction."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tfdistill.commands.model_and_data import ModelAndData
from tfdistill.commands.options import OutOption, ReplaceModelOption, with_column_options
from tfdistill.commands.tables import new_name, show_next
from tfdistill.errors import UserError
from tfdistill.metrics.notation import shown
from tfdistill.system.console import make_table, readable, show, show_table, task
from tfdistill.system.files import require_new


@with_column_options
def compress(
    model: Annotated[str, typer.Argument(help="directory of a BiLSTM student")],
    data: Annotated[
        str, typer.Option("--data", help="trains on its train and unlabelled texts; evaluates dev and test")
    ],
    out: OutOption,
    clusters: Annotated[
        int | None, typer.Option("--clusters", help="number of different values in a matrix, such as 32")
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", help="share of zeros in a matrix, such as 0.5")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="optimizer steps")] = 200,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0, help="learning rate of Adam")] = 1e-3,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="examples in a step")] = 32,
    seed: Annotated[int, typer.Option("--seed", min=0, help="seed of all random numbers")] = 1,
    force: ReplaceModelOption = False,
) -> None:
    """Experimental: cluster or prune the weights of a BiLSTM with tfmot, so that its file zips smaller.

    Apps are downloaded zipped; on the device the file is as large and as fast as before. The model learns to
    reproduce its own outputs.

    Example: `tfdistill compress RUN --data demo:movie-snippets --clusters 32 --out SMALL`
    """
    if (clusters is None) == (sparsity is None):
        raise UserError("Use either --clusters N or --sparsity SHARE.")
    require_new(out, "config.json" if force else None, "Choose a new name, or use --force to replace a model.")
    student, dataset = ModelAndData(model, data).load()
    assert dataset is not None
    from tfdistill.compress.tfmot import Compression, compress_student, require_known
    from tfdistill.models.hf import save_directory
    from tfdistill.models.training_record import max_length_of, recipe_of

    method: dict[str, Any] = {"method": "prune", "sparsity": sparsity}
    if clusters is not None:
        method = {"method": "cluster", "clusters": clusters}
    compression = Compression(**method, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    require_known(student)
    length = max_length_of(model)
    with task(compression.method, compression.steps) as advance:
        before, after = compress_student(student, dataset, compression, max_length=length, advance=advance)
    report = {
        "how": method | {"steps": steps, "learning_rate": learning_rate, "seed": seed},
        "before": before,
        "after": after,
    }
    save_directory(student, out, recipe={**recipe_of(model), "compressed": report})
    _show(before, after)
    show_next("tfdistill", "export", out, "--quantize", "dynamic_int8", "--data", data, "--out", new_name("BUNDLE"))


def _show(before: dict[str, Any], after: dict[str, Any]) -> None:
    rows = []
    for name, now in after["matrices"].items():
        then = before["matrices"][name]
        values = f"{then['values']:,} → {now['values']:,}"
        rows.append((name, f"{now['size']:,}", values, f"{100 * then['zero']:.0f} → {100 * now['zero']:.0f} %"))
    headings = ("matrix", "size", "different values", "zeros")
    show_table(make_table(headings, rows, title="matrices, before → after"))
    share = 100 * (1 - after["zipped"] / before["zipped"])
    sizes = f"{readable(before['zipped'])} → {readable(after['zipped'])} (−{share:.0f} %)"
    show(f"weights in float32, zipped: {sizes}")
    for name, then in before["scores"].items():
        metric = next(iter(then))
        show(f"{name} {metric}: {shown(metric, then[metric])} → {shown(metric, after['scores'][name][metric])}")
