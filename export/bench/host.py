"""Measure .tflite files on this machine, each in its own process. Imports no TensorFlow.

`python -m tfdistill.export.bench.host FILE [--json] [--threads 1] [--runs 50] [--warmup 5] [--tokens N] [--seconds S]`
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tfdistill.errors import UserError
from tfdistill.export.tflite.operators import read_file
from tfdistill.system.escapes import visible

# The least inferences and seconds of MLPerf Mobile's single stream, where the 90th percentile counts.
MLPERF_QUERIES, MLPERF_SECONDS = 1024, 60.0
# Parts of such a measurement, alternating with the other files.
MLPERF_PARTS = 6
LEAST_RUNS = 50
_INT8_FLAGS = ("avx512_vnni", "avx_vnni", "asimddp")  # without them int8 is hardly faster than fp32


class Case(NamedTuple):
    """Name one measurement: a file, its threads, and the tokens of the example (None fills the longest signature)."""

    path: str | os.PathLike
    threads: int = 1
    tokens: int | None = None


def typical_ms(result: dict[str, Any]) -> float:
    """Return the median latency of a result, or the mean where a phone's tool prints no median."""
    latency = result["latency_ms"]
    return latency.get("median", latency["mean"])


def bench_file(
    path: str | os.PathLike,
    *,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 5,
    tokens: int | None = None,
    seconds: float = 0.0,
    times: bool = False,
) -> dict[str, Any]:
    """Measure one file with LiteRT's interpreter and its default delegate (XNNPACK), one example at a time.

    Args:
        path: a .tflite file with int32 [1, length] inputs.
        threads: threads of one inference.
        runs: timed inferences, at least.
        warmup: inferences before them, including the first one.
        tokens: length of the example; the shortest signature that fits runs it. None fills the longest signature.
        seconds: keep timing inferences for this long at least.
        times: also return `times_ms`, the milliseconds of each timed inference.

    Returns:
        latency_ms: median, p90, p95, min and mean of the timed inferences.
        load_ms: loading the file, which is usually in the system's cache.
        first_ms: loading and the first inference, a cold start.
        peak_memory_mb: peak memory of the process, including the interpreter and Python.
        memory_delta_mb: how much the file added to it.
        seconds: total time of the timed inferences.
        minimum: which conditions hold: `warmup` (at least 1), `runs` (at least 50), `mlperf_runs` (1,024) and
            `mlperf_seconds` (60).
        mlperf_minimum: whether both of MLPerf Mobile's conditions hold.
        file, bytes, threads, runs (as timed), warmup, tokens, length (of the signature).

    Raises:
        UserError: the example does not fit, the file is missing or does not run, or a number is out of range.
    """
    for name, value in (("threads", threads), ("runs", runs), ("warmup", warmup), ("tokens", tokens)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}. Give at least 1")
    if not 0 <= seconds < float("inf"):
        raise UserError(f"seconds is {seconds}. Give a number of at least 0")
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is missing. Give a .tflite file")
    numbers = {"threads": threads, "runs": runs, "warmup": warmup, "seconds": seconds, "tokens": tokens}
    options = [word for name, value in numbers.items() if value is not None for word in (f"--{name}", str(value))]
    command = [sys.executable, "-P", "-m", "tfdistill.export.bench.host", str(path.resolve()), "--json", *options]
    done = subprocess.run([*command, *["--times"] * times], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{path} could not be measured ({lines[-1][:300]}). Export it again")
    return {"file": path.name, **json.loads(done.stdout.splitlines()[-1])}


def bench_cases(
    cases: Sequence[Case],
    *,
    runs: int = 50,
    warmup: int = 5,
    seconds: float = 0.0,
    repeats: int = 3,
    pooled: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Measure each case several times, alternately, so that a slow minute affects all alike.

    Args:
        cases: what to measure.
        runs: as for `bench_file`.
        warmup: as for `bench_file`.
        seconds: as for `bench_file`.
        repeats: measurements of each case.
        pooled: treat the repeats as parts of one measurement, which reach `runs` and `seconds` together.
        progress: called after each measurement.

    Returns:
        For each case a result of `bench_file` and `repeats`. Latencies, `first_ms` and memory are medians over the repeats,
        `min` is the least; pooled latencies are those of all inferences.

    Raises:
        UserError: as for `bench_file`.
    """
    if repeats < 1:
        raise UserError(f"repeats is {repeats}. Give at least 1")
    results: list[list[dict[str, Any]]] = [[] for _ in cases]
    parts = repeats if pooled else 1
    timing = partial(bench_file, runs=-(-runs // parts), warmup=warmup, seconds=seconds / parts, times=pooled)
    for _ in range(repeats):
        for (path, threads, tokens), measured in zip(cases, results, strict=True):
            measured.append(timing(path, threads=threads, tokens=tokens))
            progress()
    return [(_pooled if pooled else _summary)(measured) for measured in results]


def signature_lengths(path: str | os.PathLike) -> list[int]:
    """Return how many tokens each signature of a .tflite file accepts; empty for a damaged file.

    Raises:
        UserError: the file is missing or no .tflite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = read_file(path)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        graphs = [model.subgraphs[each.subgraphIndex] for each in model.signatureDefs or []]
        return [int(graph.tensors[graph.inputs[0]].shape[-1]) for graph in graphs]
    except Exception:  # a damaged flatbuffer fails in many ways; measuring reports it
        return []


def machine() -> dict[str, Any]:
    """Describe this machine: processor, cores, memory, system, and whether it has int8 dot products."""
    import psutil

    name, flags = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").is_file():
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        values = {key.strip(): value.strip() for key, _, value in lines}
        name, flags = values.get("model name", name), f" {values.get('flags', values.get('Features', ''))} "
    return {
        "processor": name,
        "architecture": platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "int8_dot_product": any(f" {flag} " in flags for flag in _INT8_FLAGS) if flags else None,
    }


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(values: Iterable[float]) -> float:
        return round(statistics.median(values), 4)

    latencies = [result["latency_ms"] for result in results]
    latency = {key: middle(each[key] for each in latencies) for key in ("median", "p90", "p95", "mean")}
    latency["min"] = min(each["min"] for each in latencies)
    keys = ("load_ms", "first_ms", "peak_memory_mb", "memory_delta_mb")
    numbers = {key: middle(result[key] for result in results) for key in keys}
    return {**results[0], **numbers, "latency_ms": latency, "repeats": len(results)}


def _pooled(results: list[dict[str, Any]]) -> dict[str, Any]:
    summary = _summary(results)
    del summary["times_ms"]
    times = [each for result in results for each in result["times_ms"]]
    seconds, warmup = sum(result["seconds"] for result in results), min(result["warmup"] for result in results)
    return {**summary, **_counted(times, seconds, warmup)}


def _counted(times: list[float], seconds: float, warmup: int) -> dict[str, Any]:
    """Summarize timed inferences: milliseconds of each, and seconds of all together."""
    import numpy as np

    p90, p95 = np.percentile(times, [90, 95])
    latency = {"median": statistics.median(times), "p90": p90, "p95": p95, "min": min(times)}
    latency["mean"] = statistics.fmean(times)
    mlperf = {"mlperf_runs": len(times) >= MLPERF_QUERIES, "mlperf_seconds": seconds >= MLPERF_SECONDS}
    return {
        "latency_ms": {key: round(float(value), 4) for key, value in latency.items()},
        "runs": len(times),
        "seconds": round(seconds, 3),
        "minimum": {"warmup": warmup >= 1, "runs": len(times) >= LEAST_RUNS, **mlperf},
        "mlperf_minimum": all(mlperf.values()),
    }


# --- in the process that is measured --------------------------------------------------------------------------------


def measure(
    path: Path, threads: int, runs: int, warmup: int, tokens: int | None, seconds: float, keep: bool = False
) -> dict[str, Any]:
    """Measure a file in this process. Arguments and result are those of `bench_file`; `keep` is its `times`."""
    from ai_edge_litert.interpreter import Interpreter

    before = _peak_memory_mb()
    start = time.perf_counter()
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    run, length = signature_for(interpreter, path.name, tokens)
    loaded = (time.perf_counter() - start) * 1e3
    count = tokens or length
    row = row_of(run.get_input_details(), count, length)
    start = time.perf_counter()
    run(**row)
    first = loaded + (time.perf_counter() - start) * 1e3
    for _ in range(warmup - 1):
        run(**row)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < runs or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        run(**row)
        times.append((time.perf_counter() - start) * 1e3)
    took = time.perf_counter() - began
    peak = _peak_memory_mb()
    return {
        **_counted(times, took, warmup),
        "load_ms": round(loaded, 3),
        "first_ms": round(first, 3),
        "peak_memory_mb": round(peak, 1),
        "memory_delta_mb": round(peak - before, 1),
        "bytes": path.stat().st_size,
        "threads": threads,
        "warmup": warmup,
        "tokens": count,
        "length": length,
        **({"times_ms": [round(each, 4) for each in times]} if keep else {}),
    }


def row_of(names: Iterable[str], tokens: int, length: int) -> dict[str, Any]:
    """Return an example of `tokens` ids for these inputs, int32 [1, length] each. Every vocabulary has ids below 4."""
    import numpy as np

    row = {name: np.zeros((1, length), np.int32) for name in names}
    for name, values in row.items():
        full = {"padding_mask": np.ones(tokens), "segment_ids": np.zeros(tokens)}
        values[0, :tokens] = full.get(name, np.arange(tokens) % 4)
    return row


def signature_for(interpreter: Any, name: str, tokens: int | None) -> tuple[Any, int]:
    """Return the shortest signature that accepts `tokens` (None: the longest), and its length.

    Raises:
        UserError: the file has other inputs, or the example is too long.
    """
    import numpy as np

    signatures = {}
    for key in interpreter.get_signature_list():
        details = interpreter.get_signature_runner(key).get_input_details().values()
        shapes = {tuple(int(n) for n in detail["shape"]) for detail in details}
        if len({shape[-1] for shape in shapes}) != 1 or any(detail["dtype"] is not np.int32 for detail in details):
            raise UserError(f"{name} has inputs of shapes {sorted(shapes)}. All must be int32 [1, length]")
        signatures[shapes.pop()[-1]] = key
    if not signatures:
        raise UserError(f"{name} has no signature. Export it with int32 [1, length] inputs")
    fitting = [length for length in signatures if length >= (tokens or max(signatures))]
    if not fitting:
        raise UserError(f"{name} accepts {max(signatures)} tokens. An example of {tokens} does not fit")
    return interpreter.get_signature_runner(signatures[min(fitting)]), min(fitting)


def _peak_memory_mb() -> float:
    # On Linux ru_maxrss of a child starts with that of its parent, and a parent with TensorFlow uses a gigabyte.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in this process and print. Return the exit code: 2 for a file that does not run."""
    parser = argparse.ArgumentParser(prog="python -m tfdistill.export.bench.host", description="measure a .tflite file")
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    for name, value in (("threads", 1), ("runs", 50), ("warmup", 5), ("tokens", None)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--times", action="store_true", help="also print the time of each inference")
    options = parser.parse_args(arguments)
    settings = options.threads, options.runs, options.warmup, options.tokens, options.seconds, options.times
    try:
        result = measure(options.file, *settings)
    except (UserError, ValueError, RuntimeError) as error:
        print(visible(str(error).strip().split("\n")[0]), file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result))
    else:
        latency = "  ".join(f"{key} {value:.2f}" for key, value in result.pop("latency_ms").items())
        print(f"{visible(options.file)}\n  latency (ms)  {latency}")
        for key, value in result.items():
            print(f"  {key}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
