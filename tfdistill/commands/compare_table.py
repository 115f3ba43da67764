"""Show what `tfdistill compare` read as a table, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdistill.commands.compare_rows import Row
from tfdistill.errors import UserError, optional
from tfdistill.export.bench.report.bench_rows import names_of
from tfdistill.export.bench.report.svg import plain_ticks
from tfdistill.system.console import make_table
from tfdistill.system.escapes import visible
from tfdistill.system.files import atomic_file, require_file_place

_ENDINGS = (".png", ".svg", ".pdf")
_TEXT = ("method", "metric", "file")  # columns of text
# The columns that a narrow terminal leaves out, in this order. Name, factor, score and size always stay.
_DISPENSABLE = ("seed", "metric", "file", "ms", "method", "parameters", "kept")
_LEAST_NAME = 16  # characters of the first column before another column is left out
_EDGES = 3  # characters between two columns


def as_table(rows: Sequence[Row], width: int | None = None) -> Any:
    """Return a table for the terminal, without empty columns.

    Args:
        rows: as `rows_of` returns them.
        width: characters in a line, for which columns are left out (see `left_out`); None shows all.
    """
    columns, missing = _columns(rows, short=False), left_out(rows, width)
    if width is not None and (missing or _width(columns, max(map(len, columns[""]))) > width):
        columns = _columns(rows, short=True)
    shown = {name: cells for name, cells in columns.items() if name not in missing}
    title = "compression factor → score"
    if "metric" not in shown and (metrics := {_metric(row, rows) for row in rows if row.metric}):
        title = f"compression factor → {', '.join(sorted(metrics))} in %"
    return make_table(list(shown), list(zip(*shown.values(), strict=True)), title=title, left=_TEXT)


def left_out(rows: Sequence[Row], width: int | None) -> list[str]:
    """Return the columns that do not fit into a line of `width` characters."""
    columns, missing = _columns(rows, short=True), []
    for name in _DISPENSABLE if width is not None else ():
        if _width(columns, min(_LEAST_NAME, max(map(len, columns[""])))) <= (width or 0):
            break
        if name in columns:
            del columns[name]
            missing.append(name)
    return missing


def _width(columns: dict[str, list[str]], names: int) -> int:
    """Return the characters in a line of a table whose first column has `names` of them."""
    widths = [max(len(heading), *map(len, cells)) for heading, cells in columns.items() if heading]
    return names + sum(widths) + _EDGES * (len(widths) + 1) + 1


def _columns(rows: Sequence[Row], short: bool) -> dict[str, list[str]]:
    """Return the cells of each column that is not empty; with `short` the ends of paths that tell them apart."""

    def cells(pattern: str, values: Sequence[Any]) -> list[str]:
        return ["" if value is None else pattern.format(value) for value in values]

    def scaled(values: Sequence[float | None], scale: float) -> list[float | None]:
        return [None if value is None else value * scale for value in values]

    paths = [Path(row.name) for row in rows if row.kind in ("teacher", "run", "bundle")]
    names = {str(path): name for path, name in names_of(paths).items()} if short and paths else {}
    columns = {
        "": [("  " if row.of else "") + names.get(row.name, row.name) for row in rows],
        "method": [row.method if row.state == "done" else f"{row.method}, {row.state}" for row in rows],
        "seed": cells("{}", [row.seed for row in rows]),
        "parameters": cells("{:,}", [row.parameters for row in rows]),
        "factor": cells("{:.2f}×", [row.factor for row in rows]),
        "score": cells("{:.2f}", scaled([row.score for row in rows], 100)),
        "metric": [_metric(row, rows) for row in rows],
        "kept": cells("{:.1f} %", scaled([row.kept for row in rows], 100)),
        "file": [row.quantization or "" for row in rows],
        "MB": cells("{:.1f}", scaled([row.bytes for row in rows], 1e-6)),
        "ms": cells("{:.2f}", [row.latency_ms for row in rows]),
    }
    return {name: values for name, values in columns.items() if any(values)}


def _metric(row: Row, rows: Sequence[Row]) -> str:
    """Name a row's split and metric, and its data where the rows have different data."""
    several = len({other.data for other in rows if other.data}) > 1
    return " ".join(filter(None, [row.split, _words(row.metric)])) + (f" ({row.data})" if row.data and several else "")


def _words(metric: str | None) -> str:
    return (metric or "").replace("_", " ")


def check_plot(path: str | os.PathLike) -> None:
    """Check before the work that a picture can be drawn and written.

    Raises:
        UserError: the path has another ending, cannot be written, or matplotlib is missing.
    """
    if Path(path).suffix.lower() not in _ENDINGS:
        raise UserError(f"received --plot {path}. Give a name that ends in .png, .svg or .pdf")
    require_file_place(path, "choose another `--plot`")
    optional("matplotlib", "quickstart")


def write_plot(rows: Sequence[Row], path: str | os.PathLike) -> Path:
    """Plot score over compression factor, one colour for each method.

    Args:
        rows: as `rows_of` returns them.
        path: ends in .png, .svg or .pdf.

    Returns:
        The path.

    Raises:
        UserError: no row has both numbers, or as for `check_plot`.
    """
    path = Path(path)
    check_plot(path)
    shown = [row for row in rows if row.factor is not None and row.score is not None]
    if not shown:
        raise UserError(
            "no row has both a compression factor and a score to plot. Give the teacher's run with `--teacher`"
        )
    figure = optional("matplotlib.figure", "quickstart").Figure(figsize=(8, 5), layout="constrained")
    with optional("matplotlib", "quickstart").rc_context({"text.parse_math": False}):  # a name may contain $
        _draw(figure.subplots(), shown)
        with atomic_file(path, "choose another `--plot`") as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
    return path


def _draw(axes: Any, shown: Sequence[Row]) -> None:
    colors = optional("matplotlib", "quickstart").colormaps["tab10"].colors
    for number, method in enumerate(dict.fromkeys(row.method for row in shown)):
        own = [row for row in shown if row.method == method]
        points = [(row.factor, 100 * (row.score or 0)) for row in own]
        marker = "x" if own[0].kind == "published" else "o"
        axes.scatter(
            *zip(*points, strict=True), color=[colors[number % 10]], marker=marker, label=visible(method or "run")
        )
        for row, point in zip(own, points, strict=True):
            name = row.name if row.kind == "published" else Path(row.name).name
            axes.annotate(visible(name), point, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    plain_ticks(axes)
    axes.set_xlabel("compression factor (teacher parameters ÷ student parameters)")
    axes.set_ylabel(", ".join(dict.fromkeys(_words(row.metric) for row in shown)) + ", %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
