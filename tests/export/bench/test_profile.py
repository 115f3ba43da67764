"""Profiles: parts that make up a whole."""

from __future__ import annotations

import pytest

from tfdistill.errors import UserError
from tfdistill.export.bench import litert_profiler
from tfdistill.export.bench.profile import Operator, profile_of, remarks

OPERATORS = [
    Operator("GATHER", "built-in", 0.1),
    Operator("Fully Connected (NC, F32) GEMM", "delegate", 0.5),
    Operator("Fully Connected (NC, F32) GEMM", "delegate", 0.3),
]


def test_parts_and_whole():
    found = profile_of(OPERATORS, total_ms=0.93, runs=7)
    assert (found["total_ms"], found["accounted_ms"], found["remainder_ms"]) == (0.93, 0.9, 0.03)
    assert found["complete"] and found["runs"] == 7 and len(found["operators"]) == 3
    assert found["kinds"] == [
        {"kind": "Fully Connected (NC, F32) GEMM", "runtime": "delegate", "count": 2, "ms": 0.8, "share": 0.8602},
        {"kind": "GATHER", "runtime": "built-in", "count": 1, "ms": 0.1, "share": 0.1075},
    ]
    assert remarks("m", found) == []


def test_parts_that_do_not_make_up_the_whole_are_reported():
    for total in (1.0, 0.8):  # too little and too much
        found = profile_of(OPERATORS, total_ms=total, runs=7)
        assert not found["complete"] and "0.90" in remarks("m", found)[0]
    assert profile_of(OPERATORS, total_ms=1.0, runs=7, tolerance=0.11)["complete"]
    small = [Operator("ADD", "built-in", 0.0)] * 20  # the clock counts whole microseconds
    assert profile_of(small, total_ms=0.02, runs=1)["complete"]
    slowed = {**profile_of(OPERATORS, total_ms=0.9, runs=7), "unprofiled_ms": 0.7}
    assert "0.70 ms" in remarks("m", slowed)[0]


def test_a_build_without_a_profiler(tmp_path, monkeypatch):
    import ai_edge_litert

    monkeypatch.setattr(ai_edge_litert, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(UserError, match="libLiteRt"):
        litert_profiler.Library()
