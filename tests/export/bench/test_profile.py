"""Profiles: parts that make up a whole, and the tables that benchmark_model prints."""

from __future__ import annotations

import pytest

from tfdistill.errors import UserError
from tfdistill.export.bench import litert_profiler
from tfdistill.export.bench.phone.benchmark_model import parse, parse_profile
from tfdistill.export.bench.profile import Operator, profile_of, remarks
from tfdistill.export.bench.report.bench_figures import plain_kind

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


def test_parts_that_do_not_make_up_the_whole_are_said():
    for total in (1.0, 0.8):  # too little and too much
        found = profile_of(OPERATORS, total_ms=total, runs=7)
        assert not found["complete"] and "the operators make up 0.90 of" in remarks("m", found)[0]
    assert profile_of(OPERATORS, total_ms=1.0, runs=7, tolerance=0.11)["complete"]
    small = [Operator("ADD", "built-in", 0.0)] * 20  # the clock tells whole microseconds
    assert profile_of(small, total_ms=0.02, runs=1)["complete"]
    slowed = {**profile_of(OPERATORS, total_ms=0.9, runs=7), "unprofiled_ms": 0.7}
    assert "trust the shares" in remarks("m", slowed)[0]


def test_kinds_of_both_runtimes_have_one_name():
    assert plain_kind("Fully Connected (NC, QD8, F32, QC8W) GEMM") == plain_kind("FULLY_CONNECTED") == "Fully Connected"
    assert plain_kind("UNIDIRECTIONAL_SEQUENCE_LSTM") == "Unidirectional Sequence LSTM"
    assert plain_kind("GELU (NC)") == "GELU"


def test_a_build_without_a_profiler(tmp_path, monkeypatch):
    import ai_edge_litert

    monkeypatch.setattr(ai_edge_litert, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(UserError, match="has no libLiteRt"):
        litert_profiler._Library()


# The words are those of TensorFlow's profile_summary_formatter.cc and stats_calculator.cc, in the forms that they had.
STATISTICS = (
    "INFO: count=5 first=9 curr=9 min=9 max=9 avg=1900.5 std=0\n"
    "INFO: count=50 first=1 curr=2 min=1 max=3 avg=980 std=1 p5=1 median=990 p95=2\n"
)
HEAD = "INFO: Profiling Info for Benchmark Initialization:\n{init}INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
INIT = (
    "============================== Run Order ==============================\n"
    "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n"
    "\t         AllocateTensors\t    9.000\t    9.000\t 100.000%\t 100.000%\t     0.000\t        1\tAllocateTensors/0\n\n"
)
KINDS = (
    "============================== Top by Computation Time ==============================\n"
    "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n"
    "\t         FULLY_CONNECTED\t    0.700\t    0.700\t  70.000%\t  70.000%\t     0.000\t        1\t[logits]:7\n\n"
    "Number of nodes executed: 2\n"
    "============================== Summary by node type ==============================\n"
    "\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]\n"
    "\t         FULLY_CONNECTED\t        1\t     0.700\t   70.000%\t   70.000%\t     0.000\t        1\n\n"
    "Timings (microseconds): count=50 first=900 curr=901 min=800 max=999 avg=950 std=3\n"
    "Memory (bytes): count=0\n2 nodes observed\n"
)
ORDER = "============================== Run Order ==============================\n"
TABLES = {
    "table": ORDER
    + "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n"
    "\t                  GATHER\t    0.300\t    0.250\t  25.000%\t  25.000%\t     0.000\t        1\t[a, b]:3\n"
    "\tFully Connected (NC, F32) GEMM\t    0.700\t    0.700\t  70.000%\t  95.000%\t     0.000\t    1\t"
    "Delegate/Fully Connected (NC, F32) GEMM:0\n\n",
    "table with start": ORDER
    + "\t  [node type]\t [start]\t [first]\t [avg ms]\t [%]\t [cdf%]\t [mem KB]\t[times called]\t[Name]\n"
    "\t GATHER\t 0.000\t 0.300\t 0.250\t 25.0%\t 25.0%\t 0.000\t 0\t[a]:3\n"
    "\t Fully Connected (NC, F32) GEMM\t 0.3\t 0.7\t 0.7\t 70%\t 95%\t 0.000\t 0\tDelegate/Fully Connected (NC, F32) GEMM:0\n\n",
    "csv": ORDER + "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n"
    "GATHER, 0.3, 0.25, 25%, 25%, 0, 1, [a\t b]:3\n"
    "Fully Connected (NC, F32) GEMM, 0.7, 0.7, 70%, 95%, 0, 1, Delegate/Fully Connected (NC\t F32) GEMM:0\n\n",
    "csv with start": ORDER + "node type, start, first, avg_ms, %, cdf%, mem KB, times called, name\n"
    "GATHER, 0, 0.3, 0.25, 25%, 25%, 0, 1, [a, b]:3\n"
    "Fully Connected (NC, F32) GEMM, 0.3, 0.7, 7e-1, 70%, 95%, 0, 1, Delegate/Fully Connected (NC, F32) GEMM:0\n\n",
}


@pytest.mark.parametrize("form", TABLES)
def test_every_form_of_the_table_of_operators(form):
    output = STATISTICS + HEAD.format(init=INIT) + TABLES[form] + KINDS
    found = parse_profile(output, "m")
    assert found is not None
    assert found["operators"] == [
        {"kind": "GATHER", "runtime": "built-in", "ms": 0.25},
        {"kind": "Fully Connected (NC, F32) GEMM", "runtime": "delegate", "ms": 0.7},
    ]
    assert found["total_ms"] == 0.98 and found["accounted_ms"] == 0.95 and found["complete"] and found["runs"] == 50
    assert parse(output, "m")["latency_ms"]["mean"] == 0.98  # not the sum over operators, which stands behind it


def test_operators_within_a_delegate_take_the_place_of_its_node():
    output = (
        STATISTICS
        + HEAD.format(init="")
        + ORDER
        + "\t GATHER\t 0.3\t 0.25\t 25%\t 25%\t 0.0\t 1\t[a]:3\n\t TfLiteXNNPackDelegate\t 0.7\t 0.72\t 72%\t 97%\t 0.0\t 1\t[b]:4\n\n"
        + KINDS
        + "Delegate internal: \n"
        + ORDER
        + "\t DelegateOpInvoke\t 0.1\t 0.2\t 30%\t 30%\t 0.0\t 2\tDelegate/Softmax (NC, F32):1\n"
        + KINDS
    )
    found = parse_profile(output, "m")
    assert found is not None and [(each["kind"], each["ms"]) for each in found["operators"]] == [
        ("GATHER", 0.25),
        ("Softmax (NC, F32)", 0.4),
    ]
    assert not found["complete"]


def test_output_without_a_table():
    assert parse_profile(STATISTICS, "m") is None
