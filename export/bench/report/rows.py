"""Hold the results of `tfdistill quickstart`: one row for each file and model, compared with a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfdistill.export.bench.report.page import DASH, Column, MainColumn, filled, number, points, times
from tfdistill.metrics.interval import paired


@dataclass
class Row:
    """Describe one .tflite file, or a model without a file. None means unknown.

    Args:
        model: name of the model.
        method: how it was trained, such as "distilled" or "labels".
        runtime: "LiteRT", "Keras" or "scikit-learn".
        dev_accuracy: score on dev in the report's metric, of the Keras model.
        test_accuracy: score on test in the report's metric, of the file or else of the model.
        bytes: size of the file.
        latency_ms: with `median` and `p90`, as `bench_file` returns it.
        right: "1" for each test example that is answered rightly, "0" for the others, for intervals of differences.
        searched: learning rates that were tried, with their score on dev.
        seconds: of the training.
    """

    model: str
    method: str = ""
    runtime: str = ""
    seed: int | None = None
    parameters: int | None = None
    dev_accuracy: float | None = None
    test_accuracy: float | None = None
    keras_test_accuracy: float | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    operators: Mapping[str, int] | None = None
    quantization: str | None = None
    latency_ms: Mapping[str, float] | None = None
    first_ms: float | None = None
    peak_memory_mb: float | None = None
    threads: int | None = None
    length: int | None = None
    parity: Mapping[str, float] | None = None
    learning_rate: float | None = None
    searched: Mapping[float, float] | None = None
    seconds: float | None = None
    right: str | None = None

    @property
    def label(self) -> str:
        """Name what rows of one colour have in common: model and method."""
        return " · ".join(filter(None, (self.model, self.method)))

    @property
    def name(self) -> str:
        """Name the row in a sentence."""
        return ", ".join(filter(None, (self.model, self.method, self.quantization)))

    @property
    def score(self) -> float | None:
        """Return the score on test, or on dev where test is unknown."""
        score = self.dev_accuracy if self.test_accuracy is None else self.test_accuracy
        return None if score is None or math.isnan(score) else score

    @property
    def ms(self) -> float | None:
        """Return the median latency."""
        return (self.latency_ms or {}).get("median")


@dataclass
class Report:
    """Hold everything that the quickstart's page shows.

    Args:
        data: `name`, `task`, `label_names`, `splits` (examples of each) and `metric` ("accuracy" by default).
        rows: the first one is the baseline that sizes and latencies are compared with.
        notes: what a reader must know, besides what the rows tell.
        curves: for each label of a row, points with `step`, `loss` and `dev_accuracy`.
        confusion: for each label of a row, the matrix of true (rows) and predicted (columns) classes.
        fast: whether the run saw a small part of the data only.
    """

    title: str
    data: Mapping[str, Any]
    rows: list[Row]
    created: str = ""
    command: str = ""
    seed: int | None = None
    fast: bool = False
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    confusion: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def metric(self) -> str:
        """Return the name of the scores."""
        return self.data.get("metric", "accuracy")

    @property
    def base(self) -> Row:
        """Return the row that sizes and latencies are compared with."""
        return self.rows[0]


def columns_of(report: Report) -> list[Column]:
    """Return the columns of the table that some row fills."""
    base, metric = report.base, report.metric
    form = ".1%" if metric == "accuracy" else ".3f"

    def latency(row: Row) -> str:
        high = (row.latency_ms or {}).get("p90")
        return number(row.ms, ".1f") + (f" ({high:.1f})" if high is not None else "")

    columns: list[Column] = [
        ("Model", lambda row: row.model),
        ("Training", lambda row: row.method or DASH),
        ("Format", lambda row: row.quantization or row.runtime or DASH),
        (f"Test {metric}", lambda row: number(row.test_accuracy, form)),
        ("Size MB", lambda row: number(row.bytes and row.bytes / 1e6, ".1f")),
        ("Smaller", lambda row: times(base.bytes, row.bytes)),
        ("Latency ms (p90)", latency),
        ("Faster", lambda row: times(base.ms, row.ms)),
        ("Memory MB", lambda row: number(row.peak_memory_mb, ".0f")),
        ("Same answer as Keras", lambda row: number((row.parity or {}).get("argmax_agreement"), ".1%")),
        (f"Dev {metric}", lambda row: number(row.dev_accuracy, form)),
        ("Parameters", lambda row: number(row.parameters, ",d")),
        ("Trained s", lambda row: number(row.seconds, ".0f")),
    ]
    if len({row.seed for row in report.rows}) > 1:
        columns.append(("Seed", lambda row: number(row.seed, "d")))
    return filled(columns, report.rows)


def main_columns(report: Report) -> list[MainColumn]:
    """Return the columns that a reader chooses by: model, score, size and latency, compared with the baseline."""
    base, form = report.base, ".1%" if report.metric == "accuracy" else ".3f"

    def none(row: Row) -> str:
        return DASH

    def how(row: Row) -> str:
        return " · ".join(filter(None, (row.method, row.quantization or row.runtime)))

    def score(row: Row) -> str:
        return number(row.score, form)

    def lost(row: Row) -> str:
        half = half_width(row, base)
        if row is base or half is None or row.score is None or base.score is None:
            return DASH
        return f"{points(row.score - base.score)} ± {100 * half:.1f}"

    columns: list[MainColumn] = [
        ("Model", lambda row: row.model, how),
        (report.metric.capitalize(), score, lost),
        ("MB", lambda row: number(row.bytes and row.bytes / 1e6, ".1f"), lambda row: times(base.bytes, row.bytes)),
        ("ms", lambda row: number(row.ms, ".1f"), lambda row: times(base.ms, row.ms)),
    ]
    return [
        (name, cell, none if all(small(row) == DASH for row in report.rows) else small)
        for name, cell, small in columns
        if any(cell(row) != DASH for row in report.rows)
    ]


def difference_interval(row: Row, other: Row) -> tuple[float, float] | None:
    """Return the 95 % interval of the difference of two accuracies on test; None if examples are unknown or differ."""
    if not row.right or not other.right or len(row.right) != len(other.right):
        return None
    return paired([each == "1" for each in row.right], [each == "1" for each in other.right])


def half_width(row: Row, other: Row) -> float | None:
    """Return half the width of the 95 % interval of a difference."""
    found = difference_interval(row, other)
    return None if found is None else (found[1] - found[0]) / 2


def narrow(columns: Sequence[Column]) -> list[Column]:
    """Choose and shorten columns to fit 80 characters."""
    cells = dict(columns)
    score = next((name for name in cells if name.startswith(("Test ", "Dev "))), "")
    names = {"Model": "Model", "Format": "Format", score: score.partition(" ")[2].capitalize(), "Size MB": "MB"}
    names |= {"Smaller": "Smaller", "Latency ms (p90)": "ms", "Faster": "Faster"}
    cells["Model"] = lambda row: row.label
    if "Latency ms (p90)" in cells:
        cells["Latency ms (p90)"] = lambda row: number(row.ms, ".1f")
    return [(short, cells[name]) for name, short in names.items() if name in cells]
