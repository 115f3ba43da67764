"""Read all forms of output that benchmark_model has had."""

from __future__ import annotations

import pytest

from tfdistill.errors import UserError
from tfdistill.export.bench.phone.benchmark_model import parse, parse_profile

# Copied from TensorFlow's benchmark_model.cc and stats_calculator.h, in the three forms that they have had.
TIMINGS = (
    "INFO: Inference timings in us: Init: 12500, First inference: 9800, Warmup (avg): 6000.5, Inference (avg): {avg}"
)


MEMORY = "INFO: Memory footprint delta from the start of the tool (MB): init=20.5 overall=31.25"


START = "INFO: STARTING!\nINFO: Log parameter values verbosely: [0]\nINFO: Min num runs: [50]\n"


FORMS = {
    "percentiles": (
        "INFO: count=83 first=9800 curr=6001 min=5900 max=9800 avg=6100.2 std=400 p5=5950 median=6020 p95=6800\n",
        "INFO: count=50 first=6100 curr=6000 min=5800 max=7000 avg={avg} std=210 p5=5850 median={median} p95=6500\n",
    ),
    "no percentiles": (
        "count=83 first=9800 curr=6001 min=5900 max=9800 avg=6100.2 std=400\n",
        "count=50 first=6100 curr=6000 min=5800 max=7000 avg={avg} std=210\n",
    ),
    "oldest": (
        "curr=6001 count=83 min=5900 max=9800 avg=6100.2 std=400\n",
        "curr=6000 count=50 min=5800 max=7000 avg={avg} std=210\n",
    ),
}


def output(form: str, median: int = 6000) -> str:
    return "".join([START, *FORMS[form], TIMINGS, "\n", MEMORY, "\n"]).format(avg=median + 50.5, median=median)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_tools_output(form):
    found = parse(output(form), "m.tflite")
    latency = found["latency_ms"]
    assert latency["min"] == 5.8 and latency["max"] == 7.0 and latency["mean"] == 6.0505 and latency["std"] == 0.21
    assert latency.get("median") == (6.0 if form == "percentiles" else None)
    assert latency.get("p95") == (6.5 if form == "percentiles" else None)
    assert found["runs"] == 50 and found["init_ms"] == 12.5 and found["first_ms"] == 9.8 and found["memory_mb"] == 31.25


def test_runs_that_all_took_the_same_time():
    found = parse("count=3 curr=7(all same)\ncount=50 curr=6000(all same)\n", "m.tflite")
    assert found["latency_ms"] == dict.fromkeys(("median", "p95", "min", "max", "mean"), 6.0) | {"std": 0.0}
    assert found["memory_mb"] is None and found["delegation"] is None


@pytest.mark.parametrize("printed", ["", "count=0\ncount=0\n", "count=5 first=1 curr=1 min=1 max=2 avg=1.5 std=0\n"])
def test_no_statistics_of_runs(printed):
    with pytest.raises(UserError, match=r"m\.tflite"):
        parse(printed, "m.tflite")


# Copied from TensorFlow's profile_summary_formatter.cc and stats_calculator.cc, in all forms that they have had.
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
    assert parse(output, "m")["latency_ms"]["mean"] == 0.98  # not the sum over operators, which follows it


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
