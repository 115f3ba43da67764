"""The page of `tfdistill bench --report`, and the disagreements on it."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.export.bench.disagreements import worst_disagreements
from tfdistill.export.bench.profile import Operator, profile_of
from tfdistill.export.bench.report.bench_figures import on_front
from tfdistill.export.bench.report.bench_page import names_of, rows_of, write_bench_report
from tfdistill.metrics.scores import score


def result(ms: float, tokens: int = 16, threads: int = 1, **more):
    return {
        "file": "model.tflite",
        "bytes": 2_000_000,
        "threads": threads,
        "tokens": tokens,
        "length": tokens,
        "latency_ms": {"median": ms, "p90": 1.1 * ms, "p95": 1.2 * ms, "min": ms, "mean": ms},
        "load_ms": 2.0,
        "first_ms": 5.0,
        "peak_memory_mb": 60.0,
        "memory_delta_mb": 20.0,
        "runs": 50,
        "warmup": 5,
        "minimum": {"warmup": True, "runs": True, "mlperf_runs": False, "mlperf_seconds": False},
        "mlperf_minimum": False,
        **more,
    }


def bundle(
    root: Path, name: str, test: float | None = None, dev: float | None = None, metric: str = "accuracy"
) -> Path:
    path = root / name
    path.mkdir(parents=True)
    said = {
        key: None if value is None else {"metric": metric, metric: value, "rows": 400, "argmax_agreement": 0.99}
        for key, value in (("test", test), ("parity", dev))
    }
    manifest = {"files": {}, "quantization": "dynamic_int8", "parameters": 1234567, "family": "bert", **said}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


PROFILE = profile_of(
    [Operator("GATHER", "built-in", 0.5), Operator("Fully Connected (NC, F32) GEMM", "delegate", 3.4)], total_ms=4.0, runs=50
) | {"unprofiled_ms": 3.9, "partitions": 1, "timed_alone": []}  # fmt: skip


@pytest.fixture
def measured(tmp_path):
    split = Split(["a <b>text</b>", "film", "other"], None, np.array([0, 1, 1]))
    keras, file = np.array([[0.1, 0.0], [2.0, 0.0], [-1.0, 1.0]]), np.array([[0.0, 0.1], [0.0, 0.0], [-1.0, 1.0]])
    apart = worst_disagreements(
        "classification", split, keras, file, lengths=np.array([3, 3, 3]), label_names=("no", "yes")
    )
    few = {"runs": 3, "minimum": {"warmup": True, "runs": False}}
    return {
        bundle(tmp_path, "small", test=0.8, dev=0.81): [result(1.0, 8), result(2.0, 16, profile=PROFILE, disagreements=apart)],
        bundle(tmp_path, "large", test=0.9, dev=0.88): [result(5.0, 8), result(9.0, 16, bytes=8_000_000)],
        bundle(tmp_path, "useless", test=0.7): [result(3.0, 8), result(6.0, 16, bytes=9_000_000, **few)],
    }  # fmt: skip


def test_front():
    def row(score, ms, size):
        return {"score": score, "ms": ms, "bytes": size}

    rows = [row(0.9, 9, 8), row(0.8, 2, 2), row(0.8, 3, 2), row(0.7, 1, 9), row(None, 0.1, 1), row(0.8, 2, 2)]
    assert on_front(rows) == [True, True, False, True, False, True]  # equal ones do not beat each other


def test_rows_and_their_scores(measured, tmp_path):
    rows = rows_of(measured)
    assert [(row["model"], row["score"], row["split"], row["ms"], row["front"]) for row in rows] == [
        ("small", 0.8, "test", 2.0, True),
        ("large", 0.9, "test", 9.0, True),
        ("useless", 0.7, "test", 6.0, False),
    ]
    assert rows[0]["same_answers"] == 0.99 and rows[0]["parameters"] == 1234567
    only_dev = bundle(tmp_path, "dev-only", dev=0.85)
    rows = rows_of({**measured, only_dev: [result(1.0)]})
    assert [(row["score"], row["split"]) for row in rows] == [(0.81, "dev"), (0.88, "dev"), (0.7, "dev"), (0.85, "dev")]
    other = bundle(tmp_path, "other-metric", test=0.5, metric="pearson")
    assert [row["score"] for row in rows_of({**measured, other: [result(1.0)]})] == [0.8, 0.9, 0.7, None]
    rows = rows_of({tmp_path / "small": [result(1.0, threads=1), result(0.6, threads=2)]})
    assert [(row["threads"], row["ms"]) for row in rows] == [(1, 1.0), (2, 0.6)]


def test_names():
    paths = [Path("a/x"), Path("b/x"), Path("b/y")]
    assert list(names_of(paths).values()) == ["a/x", "b/x", "b/y"] and names_of(paths[1:])[Path("b/x")] == "x"
    both = [Path("a/model.tflite"), Path("a")]
    assert list(names_of(both).values()) == ["a/model.tflite", "a"]


def test_page_needs_nothing_else(measured, tmp_path):
    path = tmp_path / "out" / "report.html"
    small = next(iter(measured))
    write_bench_report(
        measured, path, baseline=small, facts={"Machine": {"cores": 2, "int8": True}}, command="tfdistill bench"
    )
    page = path.read_text("utf-8")
    assert sorted(each.name for each in path.parent.iterdir()) == ["report.html", "report.json"]
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)", page) and "#0a0b0c" not in page
    assert "<title>Models on this machine</title>" in page and page.count("<svg ") == 4
    assert "a &lt;b&gt;text&lt;/b&gt;" in page and "1 of 3 texts get another answer" in page
    assert "3.90 of 4.00 ms accounted for" in page and "Fully Connected (NC, F32) GEMM" in page
    assert "4.50×" not in page and "0.22×" in page  # large is slower than the baseline
    assert "standard error 1.5 points" in page and "3 ✗" in page
    assert "useless: 3 runs, warm-up 5: fewer than" in page and "cores 2, int8 yes" in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    said = json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)
    assert said["measured"][str(small)][1]["profile"]["total_ms"] == 4.0 and said["rows"][1]["front"]


def test_a_page_of_little(tmp_path):
    phone = result(3.0, runs=50, delegate="gpu", agree=False, init_ms=7.0, memory_mb=9.0)
    for key in ("load_ms", "first_ms", "peak_memory_mb", "tokens", "mlperf_minimum"):
        del phone[key]
    phone["latency_ms"] = {"mean": 3.0, "min": 2.0, "max": 4.0, "std": 0.1}
    page = write_bench_report({tmp_path / "m.tflite": [phone]}, tmp_path / "r.html").read_text("utf-8")
    assert "No bundle says how good it is" in page and "<svg" not in page and "repeats on the phone differ" in page
    with pytest.raises(UserError, match=r"--report .*: expected a path that ends in \.html"):
        write_bench_report({}, tmp_path / "report.pdf")


def test_worst_disagreements_by_hand():
    split = Split(["same", "flip", "far"], None, np.array([0, 0, 1]))
    keras, file = np.array([[0.0, 1.0], [0.1, 0.0], [0.0, 4.0]]), np.array([[0.0, 1.0], [0.0, 0.1], [0.0, 1.0]])
    found = worst_disagreements(
        "classification",
        split,
        keras,
        file,
        lengths=np.ones(3, int),
        scores=partial(score, "classification", split.labels),
        label_names=("no", "yes"),
        most=2,
    )
    assert [row["text"] for row in found["worst"]] == ["flip", "far"]  # another answer first
    assert found["differing"] == 1 and found["rows"] == 3 and found["keras_accuracy"] == pytest.approx(2 / 3)
    first, second = found["worst"]
    assert (first["keras"], first["file"], first["label"]) == ("no", "yes", "no")
    assert second["difference"] == pytest.approx(1 / (1 + np.exp(-4)) - 1 / (1 + np.exp(-1)), abs=1e-6)
    assert found["max_difference"] == pytest.approx(second["difference"], abs=1e-6)


def test_worst_disagreements_of_other_tasks():
    split = Split(["x", "y"], ["p", "q"], np.array([[1.0, 0.0], [0.0, 0.0]], "float32"))
    keras, file = np.array([[3.0, -3.0], [0.1, -1.0]]), np.array([[3.0, -3.0], [-0.1, -1.0]])
    found = worst_disagreements("multilabel", split, keras, file, lengths=np.ones(2, int), label_names=("a", "b"))
    assert found["differing"] == 1 and found["worst"][0]["text_b"] == "q"
    assert (found["worst"][0]["keras"], found["worst"][0]["file"], found["worst"][0]["label"]) == ("a", "none", "none")
    split = Split(["x", "y"], None, np.array([1.0, np.nan], "float32"))
    keras, file = np.array([[1.0], [2.0]]), np.array([[1.0], [2.5]])
    found = worst_disagreements("regression", split, keras, file, lengths=np.ones(2, int))
    assert found["worst"][0]["difference"] == 0.5 and found["differing"] == 0 and "label" not in found["worst"][0]
    with pytest.raises(UserError, match="received a model for token_classification"):
        worst_disagreements("token_classification", split, keras, file, lengths=np.ones(2, int))
