"""Share the parts of both report pages: cells, facts, templates, and the files of a page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from tfdistill.errors import optional
from tfdistill.system.escapes import visible
from tfdistill.system.files import atomic_write

DASH = "–"
_NEAR = 0.01  # of the best score: files that are this near count as equally good
R = TypeVar("R")
Column = tuple[str, Callable[[Any], str]]  # heading, and the text of a row's cell
# Heading, the text of a row's cell, and the smaller text below it.
MainColumn = tuple[str, Callable[[Any], str], Callable[[Any], str]]


def number(value: float | None, form: str) -> str:
    """Format a number, a share such as "36.7 %" with a form that ends in %; a dash for None and NaN."""
    return DASH if value is None or not math.isfinite(value) else format(value, form).replace("%", " %")


def times(baseline: float | None, value: float | None, form: str = ".1f") -> str:
    """Format how many times smaller a value is than the baseline's, such as "5.0×"."""
    return f"{baseline / value:{form}}×" if baseline and value else DASH


def fastest_near_best(rows: Sequence[R], score: Callable[[R], float], cost: Callable[[R], Any]) -> R:
    """Return the row with the least cost among those at most one point below the best score."""
    top = max(map(score, rows))
    return min((row for row in rows if score(row) >= top - _NEAR), key=cost)


def points(difference: float) -> str:
    """Format a difference of scores in points, such as "−1.8"."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def within(interval: tuple[float, float]) -> str:
    """Return "(95 % interval −2.1 to +0.3)" for the interval of a difference of scores."""
    return f"(95 % interval {points(interval[0])} to {points(interval[1])})"


def filled(columns: Sequence[Column], rows: Sequence[Any]) -> list[Column]:
    """Leave out the columns that are empty in all rows."""
    return [(name, cell) for name, cell in columns if any(cell(row) != DASH for row in rows)]


def flat(value: Any) -> str:
    """Write a fact about data, machine or versions on one line."""
    if isinstance(value, Mapping):
        return ", ".join(_fact(str(key), item) for key, item in value.items() if item is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _fact(key: str, value: Any) -> str:
    """Write an entry of a fact: "memory 23.5 GB", "int8 dot product: no", "train 8,035"."""
    words = key.split("_")
    if words[-1] in ("gb", "mb", "ms"):
        unit = words[-1] if words[-1] == "ms" else words[-1].upper()
        return f"{' '.join(words[:-1])} {flat(value)} {unit}"
    return f"{' '.join(words)}{':' if isinstance(value, bool) else ''} {flat(value)}"


def cells_of(columns: Sequence[MainColumn], row: Any) -> list[tuple[str, str]]:
    """Return the text of each cell of a row, and the smaller text below it, "" for none."""
    return [(cell(row), "" if small(row) == DASH else small(row)) for _, cell, small in columns]


def day(created: str) -> str:
    """Write a time such as 2026-12-01T01:02:03+00:00 as "2026-12-01 01:02 UTC"; other texts stay."""
    date, _, clock = created.partition("T")
    return f"{date} {clock[:5]} UTC" if clock.endswith("+00:00") else created


def finite(value: Any) -> Any:
    """Copy a value for JSON, with None instead of NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_page(path: Path, template: str, numbers: Mapping[str, Any], **values: Any) -> Path:
    """Write a page that needs no other file, and its numbers next to it (report.html, report.json).

    Args:
        path: of the page; ends in .html.
        template: name of the template, which extends base.html.jinja. All texts are escaped.
        numbers: content of the JSON file; the template sees it as well.
        values: what the template needs in addition to, or instead of, `numbers`.

    Returns:
        The path.

    Raises:
        UserError: a file cannot be written, or jinja2 is missing.
    """
    jinja2 = optional("jinja2", "quickstart")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda each: resources.files(__package__).joinpath(each).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # what is escaped already is Markup
    )
    page = environment.get_template(template).render(**{**numbers, **values})
    content = json.dumps(finite(numbers), indent=2, ensure_ascii=False, default=str)
    atomic_write(path.with_suffix(".json"), f"{content}\n")
    return atomic_write(path, page)
