"""Figures."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tfdistill.export.bench.report.figures import Point, curves, plain_kind, trade_offs


def test_kinds_of_both_runtimes_have_one_name():
    assert plain_kind("Fully Connected (NC, QD8, F32, QC8W) GEMM") == plain_kind("FULLY_CONNECTED") == "Fully Connected"
    assert plain_kind("UNIDIRECTIONAL_SEQUENCE_LSTM") == "Unidirectional Sequence LSTM"
    assert plain_kind("GELU (NC)") == "GELU"


def ticks(svg: str) -> list[float]:
    return [float(text) for text in re.findall(r">\s*([-−\d.]+) %\s*<", svg)]


@pytest.mark.parametrize(
    "scores", [(0.81, 0.85), (1.0, 1.0), (0.97, 1.0), (0.0, 0.02), (0.5, 0.5), (0.9985, 0.999), (0.1, 0.95)]
)
@pytest.mark.heavy
def test_ticks_in_percent(scores):
    """Each label is another one, evenly spaced, and none is below 0 or above 100 %."""
    points = [Point(score, "red", 1.0 + place, 1e6, None, str(place)) for place, score in enumerate(scores)]
    figures = [figure for _, figure in trade_offs(points, "accuracy")]
    figures.append(curves([("red", list(enumerate(scores)))], "step", "dev accuracy"))
    for figure in figures:
        shown = ticks(figure)
        steps = [round(b - a, 6) for a, b in pairwise(shown)]
        assert len(shown) >= 2 and min(shown) >= 0 and max(shown) <= 100 and min(steps) > 0
        assert max(steps) - min(steps) < 1e-6
