"""The page of `tfdistill bench --report`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tfdistill.data.splits import Split
from tfdistill.export.bench.disagreements import worst_disagreements
from tfdistill.export.bench.profile import Operator, profile_of
from tfdistill.export.bench.report.bench_page import write_bench_report
from tfdistill.export.bench.report.bench_rows import names_of, on_front, rows_of


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
    scores = {
        key: None if value is None else {"metric": metric, metric: value, "rows": 400, "argmax_agreement": 0.99}
        for key, value in (("test", test), ("parity", dev))
    }
    manifest = {"files": {}, "quantization": "dynamic_int8", "parameters": 1234567, "family": "bert", **scores}
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
    assert "a &lt;b&gt;text&lt;/b&gt;" in page and "1 of 3" in page
    assert "3.90 of 4.00 ms" in page and "Fully Connected (NC, F32) GEMM" in page
    assert "4.50×" not in page and "0.22×" in page  # large is slower than the baseline
    assert "86.7 to 92.6 %" in page and "3 ✗" in page and "Same answer as Keras:" in page
    assert "useless: 3 runs" in page and "cores 2, int8: yes" in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    numbers = json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)
    assert numbers["measured"][str(small)][1]["profile"]["total_ms"] == 4.0 and numbers["rows"][1]["front"]


@pytest.mark.heavy
def test_one_number_for_one_thing(measured, tmp_path):
    """All 30 texts right is not certainty, and the bar has the milliseconds of the line below it."""
    profile = profile_of([Operator("GATHER", "built-in", 0.058)], total_ms=0.064, runs=50)
    profile |= {"unprofiled_ms": 0.06, "partitions": 1, "timed_alone": []}
    path = bundle(tmp_path, "right", test=1.0)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["test"] = {"metric": "accuracy", "accuracy": 1.0, "rows": 30}
    (path / "manifest.json").write_text(json.dumps(manifest))
    page = write_bench_report({path: [result(0.06, profile=profile)]}, tmp_path / "r.html").read_text("utf-8")
    assert "88.6 to 100.0 %" in page and "Same answer as Keras" not in page
    assert "0.06 of 0.06 ms" in page and re.search(r">\s*0\.06\s*<", page) and not re.search(r">\s*0\.1\s*<", page)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=y>',
    "{{ 7*7 }}",
    "a\x1b[2J",
    "\u202eevil",
    "&lt;",
    "' onload='x",
]


@pytest.mark.heavy
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_a_bundle_says_becomes_part_of_the_page(tmp_path, name):
    path = bundle(tmp_path, "b", test=0.5)
    manifest = json.loads((path / "manifest.json").read_text()) | {"quantization": name, "family": name}
    (path / "manifest.json").write_text(json.dumps(manifest))
    split = Split([name], None, np.array([0]))
    logits = np.array([[1.0, 0.0]])
    names = (name, "b")
    apart = worst_disagreements("classification", split, logits, -logits, lengths=np.array([3]), label_names=names)
    profile = profile_of([Operator(name, name, 1.0)], total_ms=1.0, runs=50)
    profile |= {"unprofiled_ms": 1.0, "partitions": 1, "timed_alone": [name]}
    measured = {path: [result(1.0, 8, disagreements=apart, profile=profile), result(2.0, 16)]}
    page = tmp_path / "r.html"
    write_bench_report(measured, page, title=name, notes=[name], facts={name: {name: name}}, command=name, created=name)
    text = page.read_text("utf-8")
    assert not re.search(r"<script|<img|onload='|49", re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))
    assert not re.search(r"<script|<img|[\x00-\x08\x0b-\x1f\u202e]", text)


@pytest.mark.parametrize(
    "value", [None, 1, -2.5, "x", [], [1], {}, {"metric": []}, {"metric": "m", "m": "x"}, True, 1e300]
)
def test_any_type_in_a_manifest(tmp_path, value):
    path = bundle(tmp_path, "b")
    keys = ("quantization", "family", "parameters", "test", "parity", "files", "latency")
    (path / "manifest.json").write_text(json.dumps(dict.fromkeys(keys, value)))
    (row,) = rows_of({path: [result(1.0)]})
    assert row["score"] is None and (row["quantization"] is None or isinstance(row["quantization"], str))


def test_a_page_of_little(tmp_path):
    phone = result(3.0, runs=50, delegate="gpu", agree=False, init_ms=7.0, memory_mb=9.0)
    for key in ("load_ms", "first_ms", "peak_memory_mb", "tokens", "mlperf_minimum"):
        del phone[key]
    phone["latency_ms"] = {"mean": 3.0, "min": 2.0, "max": 4.0, "std": 0.1}
    page = write_bench_report({tmp_path / "m.tflite": [phone]}, tmp_path / "r.html").read_text("utf-8")
    assert "--data" in page and "<svg" not in page and "5 %" in page


def test_the_page_says_which_file_to_ship(tmp_path):
    files = {bundle(tmp_path, "slow", 0.9): [result(4.0)], bundle(tmp_path, "fast", 0.895): [result(1.0)],
             bundle(tmp_path, "bad", 0.5): [result(0.1)]}  # fmt: skip
    page = write_bench_report(files, tmp_path / "page.html", baseline=tmp_path / "slow").read_text("utf-8")
    assert "Ship fast: 89.5 % accuracy, 2.0 MB, 1.00 ms, −0.5 points (95 % interval −4.8 to +3.7) against slow" in page
