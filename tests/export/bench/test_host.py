"""Measure files on this machine."""

from __future__ import annotations

import pytest

from tfdistill.errors import UserError
from tfdistill.export.bench import host
from tfdistill.export.bench.host import Case, bench_cases, bench_file, machine, main, signature_lengths


@pytest.mark.heavy
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


@pytest.mark.heavy
def test_what_was_asked_of_a_measurement(files):
    assert bench_file(files[0], runs=7)["minimum"] == {
        "warmup": True,
        "runs": False,
        "mlperf_runs": False,
        "mlperf_seconds": False,
    }
    found = bench_file(files[0], runs=50)
    assert found["minimum"]["runs"] and 0 < found["load_ms"] < found["first_ms"]


@pytest.mark.heavy
def test_several_files_by_turns(files):
    done = []
    cases = [Case(file) for file in files]
    results = bench_cases(cases, runs=3, warmup=1, repeats=2, progress=lambda: done.append(1))
    assert [result["file"] for result in results] == ["bert-fp32.tflite", "bilstm-fp32.tflite"]
    assert len(done) == 4 and all(result["repeats"] == 2 for result in results)


@pytest.mark.heavy
def test_pooled_repeats(files, monkeypatch):
    """Three parts of each file alternate, and all their inferences count together."""
    order = []

    def measured(path, *, runs, seconds, times, **rest):
        assert (runs, seconds, times) == (4, 2.0, True)  # a third of 10, rounded up, and of 6 s
        order.append(path)
        slow = len(order) > 4  # the last parts
        return {
            "times_ms": [2.0 + slow] * runs,
            "seconds": 2.5,
            "warmup": 1,
            "runs": runs,
            "latency_ms": dict.fromkeys(("median", "p90", "p95", "mean", "min"), 2.0 + slow),
            **dict.fromkeys(("load_ms", "first_ms", "peak_memory_mb", "memory_delta_mb"), 5.0 + slow),
        }

    monkeypatch.setattr(host, "bench_file", measured)
    options = {"runs": 10, "seconds": 6.0, "repeats": 3, "pooled": True}
    found, _ = bench_cases([Case("a"), Case("b")], **options)
    assert order == ["a", "b"] * 3
    # Eight inferences took 2 ms and four took 3.
    assert found["latency_ms"] == {"median": 2.0, "p90": 3.0, "p95": 3.0, "min": 2.0, "mean": 2.3333}
    assert (found["runs"], found["seconds"], found["repeats"]) == (12, 7.5, 3)
    assert found["first_ms"] == 5.0 and "times_ms" not in found and not found["mlperf_minimum"]
    monkeypatch.setattr(host, "MLPERF_QUERIES", 12)
    monkeypatch.setattr(host, "MLPERF_SECONDS", 7.5)
    assert bench_cases([Case("a")], **options)[0]["mlperf_minimum"]


@pytest.mark.heavy
def test_pooled_repeats_of_a_file(files):
    (found,) = bench_cases([Case(files[0], 1, 3)], runs=5, warmup=1, repeats=2, pooled=True)
    assert (found["runs"], found["repeats"], found["tokens"]) == (6, 2, 3) and "times_ms" not in found


@pytest.mark.heavy
def test_the_lengths_of_signatures(files, tmp_path):
    assert [signature_lengths(path) for path in files] == [[8], [8]]
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(files[0].read_bytes()[:500])
    assert signature_lengths(damaged) == []
    with pytest.raises(UserError, match=r"x\.tflite"):
        signature_lengths(tmp_path / "x.tflite")


@pytest.mark.heavy
def test_what_cannot_be_measured(files, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(files[0].read_bytes()[:5000])
    with pytest.raises(UserError, match=r"damaged\.tflite"):
        bench_file(damaged)
    with pytest.raises(UserError, match=r"x\.tflite"):
        bench_file(tmp_path / "x.tflite")
    for name in ("threads", "runs", "warmup"):
        with pytest.raises(UserError, match=f"{name} is 0"):
            bench_file(files[0], **{name: 0})
    with pytest.raises(UserError, match="repeats is 0"):
        bench_cases([Case(files[0])], repeats=0)


@pytest.mark.heavy
def test_mlperfs_minimum_and_several_threads(files, monkeypatch):
    result = bench_file(files[0], runs=1, seconds=0.3)
    assert result["runs"] > 1 and result["seconds"] >= 0.3 and not result["mlperf_minimum"]
    results = bench_cases([Case(files[1], threads) for threads in (1, 2)], runs=2, warmup=1, repeats=1)
    assert [(found["file"], found["threads"]) for found in results] == [("bilstm-fp32.tflite", n) for n in (1, 2)]
    with pytest.raises(UserError, match="seconds is nan"):
        bench_file(files[0], seconds=float("nan"))
    monkeypatch.setattr(host, "MLPERF_SECONDS", 0.0)
    measured = host.measure(files[0], 1, host.MLPERF_QUERIES, 1, None, 0.0)
    assert measured["mlperf_minimum"] and measured["runs"] == 1024


@pytest.mark.heavy
def test_command(files, capfd):
    assert main([str(files[0]), "--runs", "2", "--warmup", "1"]) == 0
    assert "median" in capfd.readouterr().out


def test_machine():
    assert machine()["cores"] >= 1 and machine()["memory_gb"] > 0
