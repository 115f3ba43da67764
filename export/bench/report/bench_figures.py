"""Figures of the page that `tfdistill bench --report` writes. Imports no TensorFlow."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tfdistill.export.bench.report.rows import Row
from tfdistill.export.bench.report.svg import COLOURS, FAINT, INK, MARKERS, OTHER_MARKER, percent, plain_ticks, svg

OTHER, REMAINDER = "everything else", "not in an operator"
_MOST_KINDS = 7
_GREY, _LIGHT = "#8a8f98", "#c9ccd1"
_AREA = (30.0, 420.0)  # of a point, in square points


def on_front(rows: Sequence[Row]) -> list[bool]:
    """For each row whether no other one is at least as good in `score`, `ms` and `bytes` and better in one of them."""

    def beats(one: Row, other: Row) -> bool:
        a, b = ((-row["score"], row["ms"], row["bytes"]) for row in (one, other))
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    known = [row.get("score") is not None and row.get("ms") is not None for row in rows]
    return [
        there and not any(other_there and beats(other, row) for other, other_there in zip(rows, known, strict=True))
        for row, there in zip(rows, known, strict=True)
    ]


def plain_kind(kind: str) -> str:
    """XNNPACK's "Fully Connected (NC, QD8, F32, QC8W) GEMM" and LiteRT's "FULLY_CONNECTED" as "Fully Connected"."""
    short = kind.partition(" (")[0]
    if not re.fullmatch(r"[A-Z0-9_]+", short):
        return short
    words = short.split("_")
    return " ".join(word if word in ("LSTM", "GELU") else word.capitalize() for word in words)


def front(rows: Sequence[Row], metric: str, colours: Sequence[str], of: str, label: str) -> str:
    """Score against `of` ("ms" or "bytes"), for rows that have both; rings and a line for the front, numbers as in the table."""

    def draw(axes: Any) -> None:
        placed = [
            (number, row, row[of] / (1e6 if of == "bytes" else 1))
            for number, row in enumerate(rows, 1)
            if row.get("score") is not None and row.get(of)
        ]
        largest = max(row["bytes"] for _, row, _ in placed)
        best = sorted((value, row["score"]) for _, row, value in placed if row["front"])
        axes.plot(*zip(*best, strict=True), color=_GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        for number, row, value in sorted(placed, key=lambda each: -each[1]["bytes"]):  # small ones on top
            area = _AREA[0] + (_AREA[1] - _AREA[0]) * row["bytes"] / largest if of == "ms" else 90.0
            axes.scatter(
                [value],
                [row["score"]],
                s=area,
                marker=MARKERS.get(row.get("quantization") or "", OTHER_MARKER)[0],
                color=colours[number - 1],
                alpha=0.8,
                linewidths=1.6,
                edgecolors=INK if row["front"] else "none",
                zorder=2,
            )
            axes.annotate(
                str(number),
                (value, row["score"]),
                xytext=(math.sqrt(area) / 2 + 2, 4 if number % 2 else -11),  # neighbours in the table may lie together
                textcoords="offset points",
                fontsize=9,
            )
        axes.set_xscale("log")
        values = [value for _, _, value in placed]
        axes.set_xlim(min(values) / 1.5, max(values) * 1.6)
        plain_ticks(axes)
        axes.set_xlabel(label)
        axes.set_ylabel(metric)
        axes.margins(y=0.2)
        if metric == "accuracy":
            percent(axes)

    return svg(draw, f"front {of}")


def lengths(series: Sequence[tuple[str, str, Sequence[tuple[int, float]]]]) -> str:
    """Milliseconds against tokens of a row. `series`: (name, colour, points)."""

    def draw(axes: Any) -> None:
        for number, (_, colour, points) in enumerate(series):
            style = ("solid", (0, (5, 2)), (0, (2, 2)))[number // len(COLOURS) % 3]
            axes.plot(
                *zip(*points, strict=True), marker="o", markersize=4, linewidth=1.6, color=colour, linestyle=style
            )
        axes.set_xticks(sorted({tokens for _, _, points in series for tokens, _ in points}))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("word pieces in the text")
        axes.set_ylabel("latency (ms)")

    return svg(draw, "lengths")


def operator_bars(profiles: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, list[tuple[str, str]]]:
    """One bar of milliseconds for each (label, profile), cut by kind of operator; and (kind, colour) as a legend."""
    sums = [_by_kind(profile) for _, profile in profiles]
    totals: dict[str, float] = {}
    for each in sums:
        for kind, value in each.items():
            totals[kind] = totals.get(kind, 0.0) + value
    shown = sorted(totals, key=lambda kind: -totals[kind])[:_MOST_KINDS]
    colours = {**dict(zip(shown, _without_grey(), strict=False)), OTHER: _GREY, REMAINDER: _LIGHT}

    def parts(position: int) -> dict[str, float]:
        found, profile = sums[position], profiles[position][1]
        rest = sum(value for kind, value in found.items() if kind not in shown)
        return {
            **{kind: found.get(kind, 0.0) for kind in shown},
            OTHER: rest,
            REMAINDER: max(profile["remainder_ms"], 0.0),
        }

    def draw(axes: Any) -> None:
        for position in range(len(profiles)):
            left = 0.0
            for kind, value in parts(position).items():
                axes.barh(position, value, left=left, height=0.66, color=colours[kind], linewidth=0)
                left += value
            axes.annotate(f"{left:.1f}", (left, position), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(profiles)), [label for label, _ in profiles])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0, labelcolor=INK, color=FAINT)
        axes.set_xlabel("ms of one inference")

    used = {kind for position in range(len(profiles)) for kind, value in parts(position).items() if value > 0}
    picture = svg(draw, "operators", height=1.0 + 0.42 * len(profiles), width=9.0)
    return picture, [(kind, colour) for kind, colour in colours.items() if kind in used]


def _by_kind(profile: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in profile["kinds"]:
        kind = plain_kind(each["kind"])
        found[kind] = found.get(kind, 0.0) + each["ms"]
    return found


def _without_grey() -> list[str]:
    return [colour for colour in COLOURS if colour != _GREY]
