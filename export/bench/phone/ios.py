"""What TensorFlow Lite's iOS benchmark app measured. Imports no TensorFlow.

The app (tensorflow/lite/tools/benchmark/ios) reads its options from `benchmark_params.json` among its resources, shows its result
as text, and logs to Xcode's console what `benchmark_model` logs. It writes no JSON of its own; the same library saves a
`BenchmarkResult` message (tensorflow/lite/tools/benchmark/proto) with `result_file_path`, whose JSON form is read here, too.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bench.host import LEAST_RUNS
from tfdistill.export.bench.phone.benchmark_model import input_options, parse, parse_profile
from tfdistill.system.files import atomic_write

EXPECTED = "the text that TensorFlow Lite's iOS benchmark app shows, its log from Xcode's console, or a BenchmarkResult as JSON"
_MOST_BYTES = 64 * 2**20
# Of BenchmarkResult's messages: theirs to ours, and what makes ours of it.
_LATENCY = {
    "avg_ms": "mean",
    "min_ms": "min",
    "max_ms": "max",
    "stddev_ms": "std",
    "median_ms": "median",
    "p95_ms": "p95",
}
_SHOWN = {"Average": "mean", "Min": "min", "Max": "max", "Std deviation": "std"}


def read_result(path: Path, model: Path, *, threads: int = 1) -> dict[str, Any]:
    """One result file of the app, in the form of `tfdistill.export.bench.phone.android.bench_on_phone`.

    Args:
        path: the text from the app's screen, its log, or JSON.
        model: the .tflite file that was measured, for its size and length.
        threads: that the app was told to use.

    Returns:
        `latency_ms` with those of `median`, `p95`, `mean`, `min`, `max` and `std` that the file has, `init_ms`, `first_ms` and
        `memory_mb` (None where it does not say), runs, warmup, `minimum`, `profile` of a log with operators,
        `agree` None (one measurement says nothing about the next), and file, bytes, threads, length, delegate, `phone`.

    Raises:
        UserError: the file is missing, or none of these.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes; expected {EXPECTED}")
        text = path.read_text("utf-8").replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; expected {EXPECTED}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as text ({type(error).__name__}); expected {EXPECTED}") from error
    found = _json(path, text) if text.lstrip().startswith(("{", "[")) else _text(path, text)
    _, length = input_options(model)
    warmup = found["warmup"]
    return {
        "file": model.name,
        "bytes": model.stat().st_size,
        "threads": threads,
        "length": length,
        "delegate": "delegate as in the app",
        "phone": {"maker": "Apple", "model": "phone", "result": path.name},
        "celsius": [],
        "agree": None,
        "repeats": 1,
        "minimum": {"warmup": warmup is not None and warmup >= 1, "runs": found["runs"] >= LEAST_RUNS},
        **found,
    }


def write_params(path: Path, model: Path, *, threads: int, runs: int) -> Path:
    """Write `benchmark_params.json` for this model; put both into the app's folder `benchmark_data`.

    Raises UserError for a model with other inputs.
    """
    options, _ = input_options(model)
    numbers = {"num_threads": threads, "num_runs": runs, "warmup_runs": 5, "run_delay": -1}
    values = {"benchmark_name": model.stem, "graph": model.name, **options, **numbers}
    # The app takes texts only.
    return atomic_write(path, json.dumps({key: str(value) for key, value in values.items()}, indent=2) + "\n")


def _text(path: Path, text: str) -> dict[str, Any]:
    if "count=" in text:
        try:
            said = parse(text, path.name)
            profile = parse_profile(text, path.name)
        except (KeyError, ValueError) as error:  # cut off, or "1e" for a number
            raise UserError(f"{path} has a damaged log ({error}); expected {EXPECTED}") from error
        return {**said, **({"profile": profile} if profile else {})}
    sections = dict(re.findall(r"^(Inference|Warmup):\n((?: - .*\n?)+)", text, re.MULTILINE))
    values = {
        name: dict(re.findall(r"^ - ([\w ]+): ([-+.\deE]+)", lines, re.MULTILINE)) for name, lines in sections.items()
    }
    shown = values.get("Inference", {})
    try:
        latency = {ours: float(shown[theirs]) for theirs, ours in _SHOWN.items()}
        startup = re.search(r"^Startup latency: ([-+.\deE]+) ms", text, re.MULTILINE)
        found = {
            "latency_ms": latency,
            "runs": int(shown["Num runs"]),
            "warmup": int(values["Warmup"]["Num runs"]) if "Warmup" in values else None,
            "init_ms": float(startup[1]) if startup else None,
        }
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is no result of a benchmark; expected {EXPECTED}") from error
    return _checked(path, {**found, "first_ms": None, "memory_mb": None, "delegation": None})


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no valid JSON ({str(error).splitlines()[0]}); expected {EXPECTED}") from error
    if isinstance(value, dict) and "graph" in value:
        raise UserError(f"{path} holds the app's options, not its result; expected {EXPECTED}")
    said = _snake(value) if isinstance(value, dict) else {}
    parts = [said.get(name, {}) for name in ("latency_metrics", "memory_metrics", "misc_metrics")]
    if not all(isinstance(part, dict) for part in parts) or not {"avg_ms", "min_ms", "max_ms"} <= parts[0].keys():
        keys = ", ".join(map(str, value))[:100] if isinstance(value, dict) else type(value).__name__
        raise UserError(f"{path} has {keys or 'nothing'} where latency_metrics is expected; expected {EXPECTED}")
    latency, memory, other = parts
    try:
        kilobytes = memory.get("overall_footprint_kb")  # 64-bit numbers are texts in the JSON form of messages
        warmup = other.get("num_warmup_runs")
        found = {
            "latency_ms": {ours: float(latency[theirs]) for theirs, ours in _LATENCY.items() if theirs in latency},
            "runs": int(other["num_runs"]),
            "warmup": None if warmup is None else int(warmup),
            "init_ms": _number(latency.get("init_ms")),
            "first_ms": _number(latency.get("first_inference_ms")),
            "memory_mb": None if kilobytes is None else float(kilobytes) / 1024,
            "delegation": None,
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} has a BenchmarkResult with a field missing or no number ({error}); expected {EXPECTED}"
        ) from error
    return _checked(path, found)


def _checked(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    latency = found["latency_ms"]
    possible = all(math.isfinite(value) and value >= 0 for value in latency.values()) and latency["mean"] > 0
    if found["runs"] < 1 or not possible:
        raise UserError(f"{path} tells of {found['runs']} runs in {latency} ms; expected {EXPECTED}")
    return found


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _snake(value: Any) -> Any:
    """Names of fields as the message has them: the JSON form writes latencyMetrics for latency_metrics."""
    if isinstance(value, dict):
        return {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", str(key)).lower(): _snake(item) for key, item in value.items()}
    return value
