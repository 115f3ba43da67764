"""Rows of a report: what they say of size, speed and score, against a baseline, and as cells of a table. Imports no TensorFlow."""

from __future__ import annotations

import math
from typing import Any

from tfdistill.errors import UserError

Row = dict[str, Any]
Report = dict[str, Any]

DASH = "–"


def difference_of(report: Report, value: float | None, other: float | None) -> tuple[str, str] | None:
    """A signed difference of scores with its unit."""
    if value is None or other is None:
        return None
    if metric_of(report) == "accuracy":
        return f"{100 * (value - other):+.1f}".replace("-", "−"), "points"
    return f"{value - other:+.3f}".replace("-", "−"), ""


def finite(value: Any) -> Any:
    """A copy as JSON can hold it: None for NaN and infinities."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def baseline_of(report: Report) -> Row | None:
    """The row that sizes and speeds are compared with. Raises UserError when there is no such row."""
    number = report.get("baseline")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(report["rows"]):
        raise UserError(f"baseline is {number!r}; expected the number of one of the {len(report['rows'])} rows, from 0")
    return report["rows"][number]


def metric_of(report: Report) -> str:
    """What the scores are called."""
    return report["data"].get("metric", "accuracy")


def score_of(row: Row | None) -> float | None:
    """On test where it is known, otherwise on dev."""
    if row is None:
        return None
    return row["test_accuracy"] if row.get("test_accuracy") is not None else row.get("dev_accuracy")


def size_of(row: Row) -> float | None:
    """Bytes."""
    return row.get("bytes")


def latency_of(row: Row) -> float | None:
    """Milliseconds, the median."""
    return (row.get("latency_ms") or {}).get("median")


def ratio_of(row: Row, baseline: Row | None, of: Any) -> float | None:
    """How many times smaller or faster, `of` being `size_of` or `latency_of`."""
    if baseline is None or not of(row) or not of(baseline):
        return None
    return of(baseline) / of(row)


def name_of(row: Row | None) -> str:
    """For a sentence."""
    if row is None:
        return "the baseline"
    return " ".join([f"{row['model']},"] * bool(row.get("method")) + [row.get("method") or row["model"]]) + (
        f", {row['quantization']}" if row.get("quantization") else ""
    )


def savings(row: Row, baseline: Row | None) -> list[tuple[str, str]]:
    """Such as ("5.0×", "smaller") and ("4.0×", "faster")."""
    parts = []
    for ratio, more, less in (
        (ratio_of(row, baseline, size_of), "smaller", "larger"),
        (ratio_of(row, baseline, latency_of), "faster", "slower"),
    ):
        if ratio:
            parts.append((f"{max(ratio, 1 / ratio):.1f}×", more if ratio >= 1 else less))
    return parts


def key_of(row: Row) -> tuple[str, str]:
    """What rows of one colour have in common: model and method."""
    return row["model"], row.get("method") or ""


def columns_of(report: Report) -> list[tuple[str, Any]]:
    """(heading, row → text), without the columns that no row fills."""
    baseline, metric = baseline_of(report), metric_of(report)

    def number(value: float | None, form: str) -> str:
        return DASH if value is None else format(value, form)

    def score(key: str) -> Any:
        form = ".1%" if metric == "accuracy" else ".3f"
        return lambda row: number(row.get(key), form)

    def times(of: Any) -> Any:
        return lambda row: (
            number(ratio_of(row, baseline, of), ".1f").replace(DASH, "") + "×" if ratio_of(row, baseline, of) else DASH
        )

    def latency(row: Row) -> str:
        values = row.get("latency_ms") or {}
        return f"{values['median']:.1f} ({values['p90']:.1f})" if "p90" in values else number(latency_of(row), ".1f")

    columns = [
        ("Model", lambda row: row["model"]),
        ("Training", lambda row: row.get("method") or DASH),
        ("Format", lambda row: row.get("quantization") or row.get("runtime") or DASH),
        (f"Test {metric}", score("test_accuracy")),
        ("Size MB", lambda row: number(row["bytes"] / 1e6 if row.get("bytes") else None, ".1f")),
        ("Smaller", times(size_of)),
        ("Latency ms (p90)", latency),
        ("Faster", times(latency_of)),
        ("Memory MB", lambda row: number(row.get("peak_memory_mb"), ".0f")),
        ("Same answers", lambda row: number((row.get("parity") or {}).get("argmax_agreement"), ".1%")),
        (f"Dev {metric}", score("dev_accuracy")),
        ("Parameters", lambda row: number(row.get("parameters"), ",d")),
        ("Trained s", lambda row: number(row.get("seconds"), ".0f")),
    ]
    if len({row.get("seed") for row in report["rows"]}) > 1:
        columns.append(("Seed", lambda row: number(row.get("seed"), "d")))
    return [(name, cell) for name, cell in columns if any(cell(row) != DASH for row in report["rows"])]


def narrow(columns: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Those that fit 80 characters."""
    cells = dict(columns)
    score = next((name for name in cells if name.startswith(("Test ", "Dev "))), "")

    def model(row: Row) -> str:
        return " · ".join(part for part in (row["model"], row.get("method")) if part)

    short: dict[str, Any] = {
        "Model": model,
        "Format": cells.get("Format"),
        score.partition(" ")[2].capitalize(): cells.get(score),
    }
    short |= {"MB": cells.get("Size MB"), "Smaller": cells.get("Smaller")}
    if "Latency ms (p90)" in cells:
        short |= {"ms": lambda row: cells["Latency ms (p90)"](row).partition(" ")[0], "Faster": cells.get("Faster")}
    return [(name, cell) for name, cell in short.items() if cell is not None]
