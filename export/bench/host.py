"""Measure .tflite files on this machine, each in a process of its own. Imports no TensorFlow.

python -m tfdistill.export.bench.host FILE [--json] [--threads 1] [--runs 50] [--warmup 5] [--tokens N] [--seconds S]
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
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.tflite.operators import read_file

# What MLPerf Mobile asks of a single stream: so many queries, and so long; the 90th percentile counts.
MLPERF_QUERIES, MLPERF_SECONDS = 1024, 60.0
# Parts of such a measurement, between which the other files have theirs.
MLPERF_TURNS = 6
LEAST_RUNS = 50

# A file, threads of an inference, and tokens of the row; None is a full row.
Case = tuple[str | os.PathLike, int, int | None]


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
    """Measure one file with LiteRT's interpreter and its default delegate (XNNPACK), one row at a time.

    Args:
        path: a .tflite file with int32 [1, length] inputs.
        threads: threads that one inference may use.
        runs: inferences that count, at least.
        warmup: inferences before them that do not, the first one included.
        tokens: of the row; it goes to the shortest signature it fits in. By default a full row of the longest one.
        seconds: the inferences that count go on for so long at least.
        times: give `times_ms` too, of each inference that counts.

    Returns:
        latency_ms: median, p90, p95, min and mean of the inferences of that row.
        load_ms: loading the file, which mostly lies in the system's cache.
        first_ms: that and the first inference: a cold start.
        peak_memory_mb: the most memory the process held, interpreter and Python included.
        memory_delta_mb: how much of it came with the file.
        seconds: how long the inferences took together.
        minimum: what was asked of the measurement and whether it was met: `warmup` (at least one inference), `runs` (at least
            50), `mlperf_runs` (1,024) and `mlperf_seconds` (60).
        mlperf_minimum: whether they were as many and took as long as MLPerf Mobile asks of a single stream.
        file, bytes, threads, runs (as many as there were), warmup, tokens, length (of the signature).

    Raises:
        UserError: the row is longer than the file takes, the file is missing or does not run, or a number is out of range.
    """
    for name, value, least in (
        ("threads", threads, 1),
        ("runs", runs, 1),
        ("warmup", warmup, 1),
        ("tokens", tokens, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} is {value}; expected at least {least}")
    if not 0 <= seconds < float("inf"):
        raise UserError(f"seconds is {seconds}; expected a number from 0 up")
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is missing; expected a .tflite file")
    numbers = ["--threads", str(threads), "--runs", str(runs), "--warmup", str(warmup)]
    numbers += ["--seconds", str(seconds)]
    numbers += [] if tokens is None else ["--tokens", str(tokens)]
    numbers += ["--times"] if times else []
    command = [sys.executable, "-P", "-m", "tfdistill.export.bench.host", str(path.resolve()), "--json", *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{path} could not be measured ({lines[-1][:300]}); export it again")
    return {"file": path.name, **json.loads(done.stdout.splitlines()[-1])}


def bench_files(
    paths: Sequence[str | os.PathLike],
    *,
    threads: int | Sequence[int] = 1,
    runs: int = 50,
    warmup: int = 5,
    repeats: int = 3,
    tokens: Sequence[int | None] = (None,),
    seconds: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """`bench_file` for all of `paths`, `threads`, `tokens`, `repeats` times by turns, so that a slow minute hits all alike.

    Args:
        paths, runs, warmup, seconds: as for `bench_file`.
        threads: of an inference; one number or several.
        repeats: processes for each file and number of tokens.
        tokens: of the rows; None is a full row.
        progress: called with how many measurements are done, and of how many.

    Returns:
        For each path in its order, for each of `threads` and each of `tokens` in theirs, what `bench_file` gives: of
        latencies, of `first_ms` and of memory the median over the repeats, of `min` the least; and `repeats`.
    """
    each = [threads] if isinstance(threads, int) else threads
    cases: list[Case] = [(path, number, count) for path in paths for number in each for count in tokens]
    return bench_cases(cases, runs=runs, warmup=warmup, repeats=repeats, seconds=seconds, progress=progress)


def bench_cases(
    cases: Sequence[Case],
    *,
    runs: int = 50,
    warmup: int = 5,
    repeats: int = 3,
    seconds: float = 0.0,
    turns: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """`bench_file` for each case, `repeats` times by turns.

    Args:
        cases, runs, warmup, seconds: as for `bench_file`.
        repeats: measurements of each case.
        turns: parts that a measurement is done in, each in a process of its own with a warm-up, by turns with the other
            cases; together they have `runs` and `seconds`, and the latency is that of all their inferences.
        progress: called with how many parts are done, and of how many.

    Returns:
        For each case what `bench_file` gives: of latencies, of `first_ms` and of memory the median over the repeats, of `min`
        the least; `repeats` and, where it is above 1, `turns`.
    """
    for name, value in (("repeats", repeats), ("turns", turns)):
        if value < 1:
            raise UserError(f"{name} is {value}; expected at least 1")
    found: list[list[dict[str, Any]]] = [[] for _ in cases]
    done = 0
    for _ in range(repeats):
        parts: list[list[dict[str, Any]]] = [[] for _ in cases]
        for _ in range(turns):
            for number, (path, threads, count) in enumerate(cases):
                part = bench_file(
                    path,
                    threads=threads,
                    runs=-(-runs // turns),
                    warmup=warmup,
                    tokens=count,
                    seconds=seconds / turns,
                    times=turns > 1,
                )
                parts[number].append(part)
                done += 1
                if progress is not None:
                    progress(done, repeats * turns * len(cases))
        for results, each in zip(found, parts, strict=True):
            results.append(each[0] if turns == 1 else _joined(each))
    return [_summary(results) for results in found]


def longest_row(path: str | os.PathLike) -> int | None:
    """Tokens that the longest signature of a .tflite file takes, or None where the file does not say.

    Raises UserError when it is missing or no .tflite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = read_file(path)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        graphs = [model.subgraphs[each.subgraphIndex] for each in model.signatureDefs or []]
        return max((int(graph.tensors[graph.inputs[0]].shape[-1]) for graph in graphs), default=None)
    except Exception:  # a damaged flatbuffer fails in many ways; measuring it says so
        return None


def machine() -> dict[str, Any]:
    """What the numbers depend on: processor, cores, memory, system, and whether it has int8 dot products."""
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
        # Without them int8 is little faster than fp32.
        "int8_dot_product": any(f" {flag} " in flags for flag in ("avx512_vnni", "avx_vnni", "asimddp"))
        if flags
        else None,
    }


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One measurement of its parts: the latency is that of all inferences, the minimum is that of all together."""
    joined = _summary(parts)
    times = [each for part in parts for each in part["times_ms"]]
    seconds = sum(part["seconds"] for part in parts)
    del joined["times_ms"], joined["repeats"]
    return {
        **joined,
        **_counted(times, seconds, min(part["warmup"] for part in parts)),
        "seconds": round(seconds, 3),
        "turns": len(parts),
    }


def _counted(times: list[float], seconds: float, warmup: int) -> dict[str, Any]:
    """What is said of inferences that took so many milliseconds each, and so many seconds together."""
    import numpy as np

    p90, p95 = np.percentile(times, [90, 95])
    latency = {
        "median": statistics.median(times),
        "p90": p90,
        "p95": p95,
        "min": min(times),
        "mean": statistics.fmean(times),
    }
    enough, long = len(times) >= MLPERF_QUERIES, seconds >= MLPERF_SECONDS
    return {
        "latency_ms": {key: round(float(value), 4) for key, value in latency.items()},
        "runs": len(times),
        "minimum": {
            "warmup": warmup >= 1,
            "runs": len(times) >= LEAST_RUNS,
            "mlperf_runs": enough,
            "mlperf_seconds": long,
        },
        "mlperf_minimum": enough and long,
    }


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(values: list[float]) -> float:
        return round(statistics.median(values), 4)

    keys = ("median", "p90", "p95", "mean")
    latency = {key: middle([result["latency_ms"][key] for result in results]) for key in keys}
    latency["min"] = min(result["latency_ms"]["min"] for result in results)
    numbers = {
        key: middle([result[key] for result in results])
        for key in ("load_ms", "first_ms", "peak_memory_mb", "memory_delta_mb")
    }
    return {**results[0], **numbers, "latency_ms": latency, "repeats": len(results)}


# --- in the process that is measured --------------------------------------------------------------------------------


def _measure(
    path: Path, threads: int, runs: int, warmup: int, tokens: int | None, seconds: float, keep: bool = False
) -> dict[str, Any]:
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
        "seconds": round(took, 3),
        "warmup": warmup,
        "tokens": count,
        "length": length,
        **({"times_ms": [round(each, 4) for each in times]} if keep else {}),
    }


def row_of(names: Iterable[str], tokens: int, length: int) -> dict[str, Any]:
    """A row of `tokens` ids for these inputs, int32 (1, length) each. Ids stay below 4, which every vocabulary has."""
    import numpy as np

    row = {name: np.zeros((1, length), np.int32) for name in names}
    for name, values in row.items():
        full = {"padding_mask": np.ones(tokens), "segment_ids": np.zeros(tokens)}
        values[0, :tokens] = full.get(name, np.arange(tokens) % 4)
    return row


def signature_for(interpreter: Any, name: str, tokens: int | None) -> tuple[Any, int]:
    """The shortest signature that takes so many tokens (None: the longest one), and its length.

    Raises UserError for files with other inputs, and rows that are too long.
    """
    import numpy as np

    found = {}
    for key in interpreter.get_signature_list():
        details = interpreter.get_signature_runner(key).get_input_details().values()
        shapes = {tuple(int(n) for n in detail["shape"]) for detail in details}
        if len({shape[-1] for shape in shapes}) != 1 or any(detail["dtype"] is not np.int32 for detail in details):
            raise UserError(f"{name} has inputs of shapes {sorted(shapes)}; expected int32 [1, length] for all of them")
        found[shapes.pop()[-1]] = key
    if not found:
        raise UserError(f"{name} has no signature; expected one with int32 [1, length] inputs")
    fitting = [length for length in found if length >= (tokens or max(found))]
    if not fitting:
        raise UserError(f"{name} takes {max(found)} tokens; a row of {tokens} does not fit")
    return interpreter.get_signature_runner(found[min(fitting)]), min(fitting)


def _peak_memory_mb() -> float:
    # Not ru_maxrss on Linux: a child starts with its parent's, and a parent with TensorFlow holds a gigabyte.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in this process and print. Returns the exit code: 2 for a file that does not run."""
    parser = argparse.ArgumentParser(prog="python -m tfdistill.export.bench.host", description="measure a .tflite file")
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    for name, value in (("threads", 1), ("runs", 50), ("warmup", 5), ("tokens", None)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--times", action="store_true", help="give the time of each inference, too")
    options = parser.parse_args(arguments)
    settings = options.threads, options.runs, options.warmup, options.tokens, options.seconds, options.times
    try:
        result = _measure(options.file, *settings)
    except (UserError, ValueError, RuntimeError) as error:
        print(str(error).strip().split("\n")[0], file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result))
    else:
        latency = "  ".join(f"{key} {value:.2f}" for key, value in result.pop("latency_ms").items())
        print(f"{options.file}\n  latency (ms)  {latency}")
        for key, value in result.items():
            print(f"  {key}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
