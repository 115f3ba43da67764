"""Draw the figures of both report pages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfdistill.export.bench.report.svg import COLOURS, FAINT, INK, MARKERS, OTHER_MARKER, percent, plain_ticks, svg
from tfdistill.system.escapes import visible

_OTHER, _REMAINDER = "everything else", "not in an operator"
_MOST_KINDS = 7
_GREY, _LIGHT = "#8a8f98", "#c9ccd1"
_STYLES = ("solid", (0, (5, 2)), (0, (2, 2)))
_AREA, _AREAS = 90.0, (30.0, 420.0)  # of a point, in square points; the smallest and the largest where size matters


class Point(NamedTuple):
    """Describe a model in the scatter plots: its score, and what it costs.

    `quantization` chooses the marker, `label` is the text next to it, and the `best` points get rings and a line. Points
    of one `group`, such as the formats of one model, are joined by a line and labelled once.
    """

    score: float
    colour: str
    ms: float | None
    bytes: float | None
    quantization: str | None = None
    label: str = ""
    best: bool = False
    group: str = ""


def trade_offs(points: Sequence[Point], metric: str, levels: Sequence[tuple[float, str]] = ()) -> list[tuple[str, str]]:
    """Draw scores over latency and over size, on logarithmic axes.

    Args:
        points: those without latency or size are left out.
        metric: name of the scores; accuracy is drawn in percent.
        levels: (score, colour) of models without latency and size, drawn as lines.

    Returns:
        (caption, SVG) of each figure that has points.
    """
    by_latency = [(point.ms, point) for point in points if point.ms]
    by_size = [(point.bytes / 1e6, point) for point in points if point.bytes]
    caption = f"{metric.capitalize()} against %s: up and left is better"
    figures = []
    if by_latency:
        larger = "; the larger, the more megabytes"
        figures.append((caption % "latency" + larger, _scatter(by_latency, metric, "latency (ms)", levels)))
    if by_size:
        figures.append((caption % "size", _scatter(by_size, metric, "size (MB)", levels)))
    return figures


def _scatter(
    placed: Sequence[tuple[float, Point]], metric: str, xlabel: str, levels: Sequence[tuple[float, str]]
) -> str:
    largest = max(point.bytes or 0 for _, point in placed) or 1

    def area(point: Point) -> float:
        return _AREAS[0] + (_AREAS[1] - _AREAS[0]) * (point.bytes or 0) / largest if "ms" in xlabel else _AREA

    def draw(axes: Any) -> None:
        best = sorted((x, point.score) for x, point in placed if point.best)
        if best:
            axes.plot(*zip(*best, strict=True), color=_GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        for number, (x, point) in sorted(enumerate(placed), key=lambda each: -area(each[1][1])):  # small ones on top
            marker = MARKERS.get(point.quantization or "", OTHER_MARKER)[0]
            style = {"alpha": 0.8, "linewidths": 1.6, "edgecolors": INK if point.best else "none", "zorder": 2}
            axes.scatter([x], [point.score], s=area(point), marker=marker, color=point.colour, **style)
            if not point.group:
                place = math.sqrt(area(point)) / 2 + 2, -11 if number % 2 else 4  # neighbours may overlap
                axes.annotate(point.label, (x, point.score), xytext=place, textcoords="offset points", fontsize=9)
        _join(axes, placed)
        for level, colour in levels:
            axes.axhline(level, color=colour, linestyle=(0, (2, 3)), linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlim(min(x for x, _ in placed) / 1.5, max(x for x, _ in placed) * 1.6)
        plain_ticks(axes)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(metric)
        axes.margins(y=0.2)
        if metric == "accuracy":
            percent(axes)

    return svg(draw, xlabel)


def _join(axes: Any, placed: Sequence[tuple[float, Point]]) -> None:
    """Join the points of each group by a line, and write its label once: above the best one, below the worst, right of others."""
    groups = dict.fromkeys(point.group for _, point in placed if point.group)
    lines = [sorted((x, point.score, point) for x, point in placed if point.group == group) for group in groups]
    lines.sort(key=lambda line: -sum(y for _, y, _ in line) / len(line))
    for number, line in enumerate(lines):
        axes.plot(
            [x for x, _, _ in line],
            [y for _, y, _ in line],
            color=line[0][2].colour,
            linewidth=1.0,
            alpha=0.6,
            zorder=1,
        )
        beyond = number not in (0, len(lines) - 1)
        x, y, point = line[-1 if beyond else 0]
        place = (10, -3) if beyond else (-2, 9 if number == 0 else -17)
        axes.annotate(point.label, (x, y), xytext=place, textcoords="offset points", fontsize=9, color=point.colour)


def curves(
    series: Sequence[tuple[str, Sequence[tuple[int, float]]]], xlabel: str, ylabel: str, *, from_zero: bool = False
) -> str:
    """Draw lines as SVG.

    Args:
        series: (colour, points) of each line.
        xlabel: label of the x axis.
        ylabel: label of the y axis; an accuracy is drawn in percent.
        from_zero: start the y axis at 0, and mark each x.
    """

    def draw(axes: Any) -> None:
        for number, (colour, points) in enumerate(series):
            style, marker = _STYLES[number // len(COLOURS) % len(_STYLES)], "o" if len(points) < 15 else ""
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker=marker, markersize=4, linewidth=1.6, color=colour, linestyle=style)
        if from_zero:
            axes.set_xticks(sorted({x for _, points in series for x, _ in points}))
            axes.set_ylim(bottom=0)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if ylabel.endswith("accuracy"):
            percent(axes)

    return svg(draw, f"{xlabel} {ylabel}")


def operator_bars(profiles: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, list[tuple[str, str]]]:
    """Draw one bar of milliseconds for each (label, profile), split by kind of operator.

    Returns:
        The SVG, and (kind, colour) as its legend.
    """
    sums: list[dict[str, float]] = []
    totals: dict[str, float] = {}
    for _, profile in profiles:
        sums.append({})
        for each in profile["kinds"]:
            kind = plain_kind(each["kind"])
            for into in (sums[-1], totals):
                into[kind] = into.get(kind, 0.0) + each["ms"]
    shown = sorted(totals, key=lambda kind: -totals[kind])[:_MOST_KINDS]
    colours = dict(zip(shown, (colour for colour in COLOURS if colour != _GREY), strict=False))
    colours |= {_OTHER: _GREY, _REMAINDER: _LIGHT}
    bars = [{kind: by_kind.pop(kind, 0.0) for kind in shown} | {_OTHER: sum(by_kind.values())} for by_kind in sums]
    for bar, (_, profile) in zip(bars, profiles, strict=True):
        bar[_REMAINDER] = max(profile["remainder_ms"], 0.0)

    def draw(axes: Any) -> None:
        for position, bar in enumerate(bars):
            left = 0.0
            for kind, value in bar.items():
                axes.barh(position, value, left=left, height=0.66, color=colours[kind], linewidth=0)
                left += value
            axes.annotate(f"{left:.2f}", (left, position), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(profiles)), [visible(label) for label, _ in profiles])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0, labelcolor=INK, color=FAINT)
        axes.set_xlabel("ms of one inference")

    picture = svg(draw, "operators", height=1.0 + 0.42 * len(profiles), width=9.0)
    return picture, [(kind, colour) for kind, colour in colours.items() if any(bar[kind] > 0 for bar in bars)]


def plain_kind(kind: str) -> str:
    """Name a kind of operator alike for both runtimes.

    "Fully Connected (NC, QD8, F32, QC8W) GEMM" of XNNPACK and "FULLY_CONNECTED" of LiteRT become "Fully Connected".
    """
    short = kind.partition(" (")[0]
    if not re.fullmatch(r"[A-Z0-9_]+", short):
        return short
    return " ".join(word if word in ("LSTM", "GELU") else word.capitalize() for word in short.split("_"))
