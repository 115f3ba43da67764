"""Measuring files and reporting on them."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tfdistill.commands.app import app
from tfdistill.errors import UserError
from tfdistill.export.bench import host
from tfdistill.export.bench.host import bench_cases, bench_file, bench_files, longest_row, machine, main
from tfdistill.export.bench.profile import profile_file
from tfdistill.export.bench.report.quickstart_page import main_findings, print_table, render, write_report
from tfdistill.export.bench.stateful import alone, has_state, without_state
from tfdistill.export.convert.convert import convert_model
from tfdistill.export.tflite.operators import operators
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.models.bert import BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.text_model import TextModel


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    bert = TextModel(BertConfig(4, 16, 1, 2, 32, max_position_embeddings=16), 2)  # four pieces: the smallest vocabulary
    lstm = TextModel(BiLSTMConfig(4, 8, 8, dense_size=8), 2)
    return [
        convert_model(model, out, name=model.family, length=8, modes=["fp32"])["fp32"].path for model in (bert, lstm)
    ]


def test_one_file(files):
    result = bench_file(files[0], runs=7, warmup=2)
    latency = result["latency_ms"]
    assert 0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p95"]
    assert result["first_ms"] >= latency["min"] and 10 < result["peak_memory_mb"] < 400
    assert 0 <= result["memory_delta_mb"] < result["peak_memory_mb"]
    expected = {
        "threads": 1,
        "runs": 7,
        "warmup": 2,
        "length": 8,
        "bytes": files[0].stat().st_size,
        "file": "bert-fp32.tflite",
    }
    assert {key: result[key] for key in expected} == expected


def test_what_was_asked_of_a_measurement(files):
    assert bench_file(files[0], runs=7)["minimum"] == {
        "warmup": True,
        "runs": False,
        "mlperf_runs": False,
        "mlperf_seconds": False,
    }
    found = bench_file(files[0], runs=50)
    assert found["minimum"]["runs"] and 0 < found["load_ms"] < found["first_ms"]


def test_profile(files):
    found = profile_file(files[0], runs=6, warmup=1)
    kinds = {(each["kind"].partition(" (")[0], each["runtime"]) for each in found["kinds"]}
    assert {("GATHER", "built-in"), ("Fully Connected", "delegate"), ("Softmax", "delegate")} <= kinds
    assert found["accounted_ms"] == pytest.approx(sum(each["ms"] for each in found["operators"]), abs=0.01)
    assert found["accounted_ms"] + found["remainder_ms"] == pytest.approx(found["total_ms"], abs=0.001)
    assert found["remainder_ms"] >= 0 and found["unprofiled_ms"] > 0 and found["partitions"] == 1
    assert (found["runs"], found["tokens"], found["length"], found["timed_alone"]) == (6, 8, 8, [])
    assert profile_file(files[0], runs=2, warmup=1, tokens=3)["tokens"] == 3


def test_profile_of_a_file_with_a_state(files):
    # LiteRT's CompiledModel has no variables, which a fused LSTM needs.
    content = files[1].read_bytes()
    assert has_state(content) and not has_state(files[0].read_bytes())
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in operators(content)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in operators(without_state(content))
    assert [operators(part) for _, part in alone(content, 8)] == [{"UNIDIRECTIONAL_SEQUENCE_LSTM": 1}] * 2
    found = profile_file(files[1], runs=3, warmup=1)
    assert found["timed_alone"] == ["UNIDIRECTIONAL_SEQUENCE_LSTM"] and found["tolerance"] == 0.1
    assert [each["kind"] for each in found["operators"][-2:]] == ["UNIDIRECTIONAL_SEQUENCE_LSTM"] * 2


def test_the_profiled_run_is_the_run_that_is_measured(files):
    code = (
        "import sys; from pathlib import Path; from tfdistill.export.bench.litert_profiler import Profiled\n"
        "file = Profiled(Path(sys.argv[1]), 1, 5); file.profiled_run(); print(*file.output())"
    )
    done = subprocess.run([sys.executable, "-c", code, files[0]], capture_output=True, text=True, check=True)
    expected = TFLiteModel(files[0]).row([0, 1, 2, 3, 0])
    assert [float(word) for word in done.stdout.split()] == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_cannot_be_profiled(files, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(files[0].read_bytes()[:5000])
    for path, tokens in ((damaged, None), (files[0], 99)):
        with pytest.raises(UserError, match=r"\.tflite could not be profiled \(.*measure it without --profile"):
            profile_file(path, tokens=tokens)


def test_several_files_by_turns(files):
    said = []
    results = bench_files(files, runs=3, warmup=1, repeats=2, progress=lambda done, total: said.append((done, total)))
    assert [result["file"] for result in results] == ["bert-fp32.tflite", "bilstm-fp32.tflite"]
    assert said == [(1, 4), (2, 4), (3, 4), (4, 4)] and all(result["repeats"] == 2 for result in results)


def test_a_measurement_in_turns(files, monkeypatch):
    """Three turns of each file, one after the other; what is said of them is said of all inferences together."""
    order = []

    def measured(path, *, runs, seconds, times, **rest):
        assert (runs, seconds, times) == (4, 2.0, True)  # a third of 10, rounded up, and of 6 s
        order.append(path)
        slow = len(order) > 4  # the last turn
        return {
            "times_ms": [2.0 + slow] * runs,
            "seconds": 2.5,
            "warmup": 1,
            "runs": runs,
            "latency_ms": dict.fromkeys(("median", "p90", "p95", "mean", "min"), 2.0 + slow),
            **dict.fromkeys(("load_ms", "first_ms", "peak_memory_mb", "memory_delta_mb"), 5.0 + slow),
        }

    monkeypatch.setattr(host, "bench_file", measured)
    said = []
    found, _ = bench_cases(
        [("a", 1, None), ("b", 1, None)],
        runs=10,
        repeats=1,
        seconds=6.0,
        turns=3,
        progress=lambda done, total: said.append((done, total)),
    )
    assert order == ["a", "b"] * 3 and said[0] == (1, 6) and said[-1] == (6, 6)
    # Eight inferences took 2 ms and four took 3.
    assert found["latency_ms"] == {"median": 2.0, "p90": 3.0, "p95": 3.0, "min": 2.0, "mean": 2.3333}
    assert (found["runs"], found["seconds"], found["turns"], found["repeats"]) == (12, 7.5, 3, 1)
    assert found["first_ms"] == 5.0 and "times_ms" not in found and not found["mlperf_minimum"]
    monkeypatch.setattr(host, "MLPERF_QUERIES", 12)
    monkeypatch.setattr(host, "MLPERF_SECONDS", 7.5)
    assert bench_cases([("a", 1, None)], runs=10, repeats=1, seconds=6.0, turns=3)[0]["mlperf_minimum"]


def test_turns_of_a_file(files):
    (found,) = bench_cases([(files[0], 1, 3)], runs=5, warmup=1, repeats=1, turns=2)
    assert (found["runs"], found["turns"], found["tokens"]) == (6, 2, 3) and "times_ms" not in found
    with pytest.raises(UserError, match="turns is 0; expected at least 1"):
        bench_cases([(files[0], 1, 3)], turns=0)


def test_the_longest_row(files, tmp_path):
    assert [longest_row(path) for path in files] == [8, 8]
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(files[0].read_bytes()[:500])
    assert longest_row(damaged) is None
    with pytest.raises(UserError, match=r"x\.tflite is missing"):
        longest_row(tmp_path / "x.tflite")


def test_rows_that_a_file_does_not_take_are_left_out(files, tmp_path):
    """The file takes 8, its baseline 16: rows of 12 are measured with the baseline alone."""
    model = TextModel(BertConfig(4, 16, 1, 2, 32, max_position_embeddings=16), 2)
    longer = convert_model(model, tmp_path, name="long", length=16, modes=["fp32"])["fp32"].path
    page = tmp_path / "report.html"
    options = ["--runs", "2", "--json", "--report", str(page)]
    result = CliRunner().invoke(app, ["bench", str(files[0]), "--baseline", str(longer), "--lengths", "4,12", *options])
    assert result.exit_code == 0, result.output
    said = f"{files[0]} takes 8 word pieces: rows of 12 are left out"
    assert said in result.stderr and said in page.read_text("utf-8")
    found = json.loads(result.stdout.splitlines()[-1])
    assert [each["tokens"] for each in found[str(longer)]] == [4, 12]
    (short,) = found[str(files[0])]
    assert short["tokens"] == 4 and short["faster"] > 0
    rows = json.loads(page.with_suffix(".json").read_text("utf-8"))["rows"]
    assert [row["tokens"] for row in rows] == [4, 4]  # what is compared is alike
    # The other way round the baseline has nothing to compare 12 with.
    result = CliRunner().invoke(
        app, ["bench", str(longer), "--baseline", str(files[0]), "--lengths", "4,12", "--runs", "2"]
    )
    assert result.exit_code == 0 and "–" in result.output, result.output
    result = CliRunner().invoke(app, ["bench", str(files[0]), "--lengths", "9,12", "--runs", "2"])
    assert str(result.exception) == f"{files[0]} takes 8 word pieces; received --lengths 9, 12; expected one that fits"


def test_what_cannot_be_measured(files, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(files[0].read_bytes()[:5000])
    with pytest.raises(UserError, match=r"damaged\.tflite could not be measured \(.*export it again"):
        bench_file(damaged)
    with pytest.raises(UserError, match=r"x\.tflite is missing"):
        bench_file(tmp_path / "x.tflite")
    for name in ("threads", "runs", "warmup"):
        with pytest.raises(UserError, match=f"{name} is 0; expected at least 1"):
            bench_file(files[0], **{name: 0})
    with pytest.raises(UserError, match="repeats is 0"):
        bench_files(files, repeats=0)


def test_mlperfs_minimum_and_several_threads(files, monkeypatch):
    result = bench_file(files[0], runs=1, seconds=0.3)
    assert result["runs"] > 1 and result["seconds"] >= 0.3 and not result["mlperf_minimum"]
    results = bench_files(files, threads=(1, 2), runs=2, warmup=1, repeats=1)
    assert [(found["file"][:4], found["threads"]) for found in results] == [
        ("bert", 1),
        ("bert", 2),
        ("bils", 1),
        ("bils", 2),
    ]
    with pytest.raises(UserError, match="seconds is nan"):
        bench_file(files[0], seconds=float("nan"))
    monkeypatch.setattr(host, "MLPERF_SECONDS", 0.0)
    measured = host._measure(files[0], 1, host.MLPERF_QUERIES, 1, None, 0.0)
    assert measured["mlperf_minimum"] and measured["runs"] == 1024


def test_command(files, capfd):
    assert main([str(files[0]), "--runs", "2", "--warmup", "1"]) == 0
    assert "latency (ms)  median" in capfd.readouterr().out


def test_machine():
    assert machine()["cores"] >= 1 and machine()["memory_gb"] > 0


def test_no_tensorflow_is_imported():
    names = [
        "bench.host",
        "bench.report",
        "bench.bench_report",
        "bench.litert_profiler",
        "bench.ios",
        "runtime",
        "verify",
    ]
    code = f"import sys; {'; '.join(f'import tfdistill.export.{name}' for name in names)}; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- report ---------------------------------------------------------------------------------------------------------


def row(model, method, test, size=None, latency=None, quantization=None, **more):
    return {
        "model": model,
        "method": method,
        "parameters": 1000,
        "dev_accuracy": None if test is None else test + 0.01,
        "test_accuracy": test,
        "file": None if size is None else "x.tflite",
        "bytes": size,
        "quantization": quantization,
        "latency_ms": None if latency is None else {"median": latency, "p90": latency * 1.1, "p95": latency * 1.2},
        "peak_memory_mb": None if size is None else 50.0,
        "threads": 1,
        "length": 64,
        "parity": None if size is None else {"max_abs_difference": 0.01, "argmax_agreement": 0.99},
        "seed": 1,
        "runtime": "LiteRT" if size else "scikit-learn",
        "seconds": 12.0,
        **more,
    }


@pytest.fixture
def report():
    return {
        "title": "Distilling <b>on</b> $reviews",
        "created": "2026-01-01 12:00",
        "seed": 1,
        "fast": True,
        "command": "tfdistill quickstart",
        "machine": {"cores": 2},
        "versions": {"keras": "3"},
        "data": {"name": "snippets", "task": "classification", "label_names": ["no", "yes"], "splits": {"train": 1000}},
        "notes": ["a note <script>"],
        "findings": ["one more finding"],
        "rows": [
            row("teacher", "fine-tuned", 0.86, 90_000_000, 20.0, "fp32"),
            row("teacher", "fine-tuned", 0.855, 23_000_000, 16.0, "dynamic_int8"),
            row("student", "labels", 0.83, 18_000_000, 5.0, "dynamic_int8"),
            row("student", "distilled", 0.842, 18_000_000, 5.0, "dynamic_int8"),
            row("student", "distilled", 0.843, 70_000_000, 10.0, "fp32"),
            row("TF-IDF + logistic regression", "labels", 0.76),
        ],
        "curves": [
            {
                "model": "student",
                "method": "distilled",
                "points": [{"step": n, "loss": 1 / n, "dev_accuracy": None if n % 2 else 0.8} for n in range(1, 9)],
            }
        ],
        "confusion": [{"model": "student", "method": "distilled", "matrix": [[40, 10], [5, 45]]}],
        "baseline": 0,
    }


def test_main_findings(report):
    assert main_findings(report) == [
        "student, distilled, dynamic_int8 against teacher, fine-tuned, fp32: 5.0× smaller, 4.0× faster, −1.8 points of accuracy.",
        "Distillation gained 1.2 points over labels alone (student, dynamic_int8).",
    ]


def test_a_loss_is_called_a_loss(report):
    report["rows"][2]["test_accuracy"] = 0.85
    report["rows"][3]["latency_ms"] = {"median": 40.0, "p90": 41.0, "p95": 42.0}
    assert "2.0× slower" in main_findings(report)[0]
    assert main_findings(report)[1] == "Distillation lost 0.8 points over labels alone (student, dynamic_int8)."


def test_several_seeds_are_averaged(report):
    report["rows"] += [
        row("student", "labels", 0.81, 18_000_000, 5.0, "dynamic_int8", seed=2),
        row("student", "distilled", 0.842, 18_000_000, 5.0, "dynamic_int8", seed=2),
    ]
    assert "gained 2.2 points over labels alone (student, dynamic_int8, mean of 2 seeds)" in main_findings(report)[1]


def test_correlations_are_no_percentages(report):
    report["data"]["metric"] = "Spearman correlation"
    assert main_findings(report)[0].endswith("−0.018 of Spearman correlation.")
    assert "0.842" in render(report) and "84.2%" not in render(report)


def test_page_needs_nothing_else(report, tmp_path):
    path = write_report(report, tmp_path / "out")
    page = path.read_text("utf-8")
    assert path.name == "report.html" and sorted(p.name for p in path.parent.iterdir()) == [
        "report.html",
        "report.json",
    ]
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)", page)
    assert "Distilling &lt;b&gt;on&lt;/b&gt; $reviews" in page and "a note &lt;script&gt;" in page
    assert page.count("<figure>") == 5 and page.count("<svg ") == 4
    assert "5.0×" in page and "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert "#0a0b0c" not in page
    ids = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
    assert json.loads((path.parent / "report.json").read_text())["rows"][0]["bytes"] == 90_000_000


def test_page_is_the_same_each_time(report):
    assert render(report) == render(copy.deepcopy(report))


def test_json_has_no_nan(report, tmp_path):
    report["rows"][5]["test_accuracy"] = float("nan")
    path = write_report(report, tmp_path)
    assert (
        json.loads((path.parent / "report.json").read_text(), parse_constant=pytest.fail)["rows"][5]["test_accuracy"]
        is None
    )


def test_a_report_of_little(report, tmp_path):
    little = {key: report[key] for key in ("title", "seed", "data")}
    little |= {"rows": [row("TF-IDF", "labels", None)], "baseline": None}
    assert main_findings(little) == []
    write_report(little, tmp_path)
    print_table(little, Console(record=True, quiet=True, width=80))


def test_baseline_is_a_row(report, tmp_path):
    report["baseline"] = 6
    with pytest.raises(UserError, match="baseline is 6; expected the number of one of the 6 rows"):
        write_report(report, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [80, 200])
def test_table(report, width):
    console = Console(record=True, width=width)
    print_table(report, console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert (
        "Distilling <b>on</b> $reviews" in text and "84.2%" in text and "5.0×" in text and "gained 1.2 points" in text
    )
    assert ("Parameters" in text) == (width == 200)
