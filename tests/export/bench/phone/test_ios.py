"""Results of the iOS benchmark app, in the forms that its source and that of its library give."""

from __future__ import annotations

import json

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from typer.testing import CliRunner

from tfdistill.commands.app import app
from tfdistill.errors import UserError
from tfdistill.export.bench.phone import ios

# As BenchmarkViewController.mm writes it on the screen.
SHOWN = """Startup latency: 12.5 ms

Inference:
 - Num runs: 50
 - Average: 6.05 ms
 - Min: 5.8 ms 
 - Max: 7 ms 
 - Std deviation: 0.21 ms

Warmup:
 - Num runs: 5
 - Average: 6.4 ms
 - Min: 6 ms 
 - Max: 9.8 ms 
 - Std deviation: 0.4 ms
"""  # noqa: W291
# As the library logs it to Xcode's console.
LOG = (
    "INFO: STARTING!\nINFO: count=5 first=9800 curr=6001 min=5900 max=9800 avg=6400 std=400 p5=5950 median=6020 p95=6800\n"
    "INFO: count=50 first=6100 curr=6000 min=5800 max=7000 avg=6050 std=210 p5=5850 median=6000 p95=6500\n"
    "INFO: Inference timings in us: Init: 12500, First inference: 9800, Warmup (avg): 6400, Inference (avg): 6050\n"
    "INFO: Memory footprint delta from the start of the tool (MB): init=20.5 overall=31.25\n"
)
TABLE = (
    "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
    "============================== Run Order ==============================\n"
    "\t  [node type]\t [first]\t [avg ms]\t [%]\t [cdf%]\t [mem KB]\t[times called]\t[Name]\n"
    "\t FULLY_CONNECTED\t 6.0\t 5.9\t 100%\t 100%\t 0.0\t 1\t[logits]:0\n"
)
# BenchmarkResult (benchmark_result.proto) in the JSON form of messages.
MESSAGE = {
    "latencyMetrics": {
        "avgMs": 6.05,
        "minMs": 5.8,
        "maxMs": 7.0,
        "stddevMs": 0.21,
        "medianMs": 6.0,
        "p5Ms": 5.85,
        "p95Ms": 6.5,
        "initMs": 12.5,
        "firstInferenceMs": 9.8,
        "averageWarmUpMs": 6.4,
    },
    "memoryMetrics": {"initFootprintKb": "20992", "overallFootprintKb": "32000"},
    "miscMetrics": {"modelSizeMb": 0.1, "numRuns": 50, "numWarmupRuns": 5},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A file with our inputs and nothing else: nobody runs it here."""
    made = schema.ModelT()
    made.version, made.operatorCodes, made.buffers = 3, [], [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0, 1, 2], []
    for name in ("segment_ids", "token_ids", "padding_mask"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"serving_default_{name}:0".encode(), [1, 8], schema.TensorType.INT32
        graph.tensors.append(tensor)
    made.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), file_identifier=b"TFL3")
    path = tmp_path_factory.mktemp("files") / "m-fp32.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def read(tmp_path, model, text):
    path = tmp_path / "result"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ios.read_result(path, model)


@pytest.mark.parametrize("form", ["screen", "log", "message", "snake case"])
def test_every_form(tmp_path, model, form):
    fields = {
        "latency_metrics": {"avg_ms": 6.05, "min_ms": 5.8, "max_ms": 7, "stddev_ms": 0.21},
        "misc_metrics": {"num_runs": 50},
    }
    texts = {
        "screen": SHOWN,
        "log": LOG.replace("\n", "\r\n"),
        "message": json.dumps(MESSAGE),
        "snake case": json.dumps(fields),
    }
    found = read(tmp_path, model, texts[form])
    latency = found["latency_ms"]
    assert (latency["mean"], latency["min"], latency["max"], latency["std"]) == (6.05, 5.8, 7.0, 0.21)
    assert found["runs"] == 50 and found["length"] == 8 and found["bytes"] == model.stat().st_size
    assert found["minimum"] == {"warmup": form != "snake case", "runs": True}
    if form in ("log", "message"):
        assert (latency["median"], latency["p95"], found["init_ms"], found["first_ms"]) == (6.0, 6.5, 12.5, 9.8)
        assert found["memory_mb"] == 31.25
    else:
        assert "median" not in latency and found["memory_mb"] is None
    if form == "screen":
        assert found["init_ms"] == 12.5 and found["warmup"] == 5


BAD = {
    "options": json.dumps({"benchmark_name": "m", "graph": "m.tflite"}),
    "other JSON": json.dumps({"loss": 1, "step": 2}),
    "a list": "[1, 2]",
    "empty object": "{}",
    "cut off": json.dumps(MESSAGE)[:90],
    "too deep": "[" * 100_000,
    "no number": json.dumps({**MESSAGE, "miscMetrics": {"numRuns": "many"}}),
    "no mean": json.dumps(MESSAGE).replace("avgMs", "other"),
    "NaN": json.dumps(MESSAGE).replace("6.05", "NaN"),
    "no runs": SHOWN.replace("Num runs: 50", "Num runs: 0"),
    "field of another kind": json.dumps({**MESSAGE, "memoryMetrics": 3}),
    "empty file": "",
    "half a screen": SHOWN[:70],
    "log without runs": LOG.splitlines()[1],
    "damaged log": LOG.replace("avg=6050", "avg=e"),
    "cut off log": LOG.splitlines()[1] + "\ncount=50",
    "no time at all": SHOWN.replace("Average: 6.05", "Average: 0"),
    "not UTF-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_refused_in_one_line(tmp_path, model, case):
    with pytest.raises(UserError, match="result") as raised:
        read(tmp_path, model, BAD[case])
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600


def test_the_command(tmp_path, model):
    log, page = tmp_path / "log.txt", tmp_path / "report.html"
    log.write_text(LOG + TABLE)
    words = ["bench", str(model), "--ios", str(log), "--profile"]
    result = CliRunner().invoke(app, [*words, "--report", str(page)])
    assert result.exit_code == 0 and "Apple phone, iOS" in result.output and "6.00" in result.output, result.output
    assert "iPhone" in page.read_text("utf-8") and "FULLY_CONNECTED" in page.read_text("utf-8")
    for options, message in {
        (*words, "--ios", str(log)): "2 `--ios` for 1",
        ("bench", str(model), "--ios", str(tmp_path / "none")): "none",
    }.items():
        result = CliRunner().invoke(app, list(options))
        assert isinstance(result.exception, UserError) and message in str(result.exception), options
    log.write_text(LOG)
    result = CliRunner().invoke(app, words)
    assert "log.txt" in str(result.exception) and "--profile" in str(result.exception)


def test_options_for_the_app(tmp_path, model):
    path = tmp_path / "benchmark_params.json"
    result = CliRunner().invoke(app, ["bench", str(model), "--threads", "2", "--ios-params", str(path)])
    assert result.exit_code == 0, result.output
    options = json.loads(path.read_text())
    assert options["graph"] == "m-fp32.tflite" and options["num_threads"] == "2" and options["num_runs"] == "50"
    assert options["input_layer_shape"] == "1,8:1,8:1,8" and "token_ids,0,3" in options["input_layer_value_range"]
    assert all(isinstance(value, str) for value in options.values())  # the app accepts nothing else
