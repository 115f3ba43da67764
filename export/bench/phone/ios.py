"""Read what TensorFlow Lite's iOS benchmark app measured.

Experimental: written from the app's source, never tried on an iPhone. The app (tensorflow/lite/tools/benchmark/ios) reads its
options from `benchmark_params.json` among its resources, shows its result as text, and logs to Xcode's console what
`benchmark_model` logs. The same library can save a `BenchmarkResult` message (tensorflow/lite/tools/benchmark/proto), whose
JSON form is read here as well.
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

_EXPECTED = (
    "Give the text of TensorFlow Lite's iOS benchmark app, its log from Xcode's console, or a BenchmarkResult as JSON"
)
_MOST_BYTES = 64 * 2**20
# A result states the size of its model, in megabytes of either kind: more than this apart, it is that of another model.
_OTHER_SHARE, _OTHER_MEGABYTES = 0.06, 0.2
# Names of latencies in a BenchmarkResult and on the app's screen: our names.
_LATENCY = {
    "avg_ms": "mean", "min_ms": "min", "max_ms": "max", "stddev_ms": "std", "median_ms": "median", "p95_ms": "p95",
}  # fmt: skip
_SHOWN = {"Average": "mean", "Min": "min", "Max": "max", "Std deviation": "std"}


def read_result(path: Path, model: Path, *, threads: int = 1) -> dict[str, Any]:
    """Read one result file of the app, in the form of `bench_on_phone`.

    Args:
        path: the text from the app's screen, its log, or JSON.
        model: the .tflite file that was measured, for its size and length.
        threads: number of threads that the app was set to.

    Returns:
        `latency_ms` with those of `median`, `p95`, `mean`, `min`, `max` and `std` that the file has; `init_ms`, `first_ms`
        and `memory_mb` (None if unknown); runs, warmup, `minimum`, `profile` of a log with operators, `agree` None (there
        is one measurement only), file, bytes, threads, length, delegate and `phone`.

    Raises:
        UserError: the file is missing or has none of these forms.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes. {_EXPECTED}")
        text = path.read_text("utf-8").replace("\r\n", "\n")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as text ({type(error).__name__}). {_EXPECTED}") from error
    try:
        if text.lstrip().startswith(("{", "[")):
            result = _from_json(text)
        else:
            result = _from_log(text, path.name) if "count=" in text else _from_screen(text)
        latency = result["latency_ms"]
        if result["runs"] < 1 or latency["mean"] <= 0 or not all(0 <= value < math.inf for value in latency.values()):
            raise UserError(f"{path} has {result['runs']} runs in {latency} ms. {_EXPECTED}")
        megabytes = result.pop("model_size_mb", None)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is damaged or no benchmark result ({type(error).__name__}: {reason}). {_EXPECTED}"
        ) from error
    size = model.stat().st_size / 1e6
    if megabytes is not None and abs(megabytes - size) > max(_OTHER_SHARE * size, _OTHER_MEGABYTES):
        raise UserError(
            f"{path} is the result of a file of {megabytes:g} MB, but {model} has {size:.1f} MB. Give each bundle its own"
        )
    warmup = result["warmup"]
    return {
        "file": model.name,
        "bytes": model.stat().st_size,
        "threads": threads,
        "length": input_options(model)[1],
        "delegate": "delegate as in the app",
        "phone": {"maker": "Apple", "model": "phone", "result": path.name},
        "celsius": [],
        "agree": None,
        "repeats": 1,
        "minimum": {"warmup": warmup is not None and warmup >= 1, "runs": result["runs"] >= LEAST_RUNS},
        **result,
    }


def write_params(path: Path, model: Path, *, threads: int, runs: int) -> Path:
    """Write the app's `benchmark_params.json` for a model. Raises UserError for a model with other inputs."""
    options, _ = input_options(model)
    numbers = {"num_threads": threads, "num_runs": runs, "warmup_runs": 5, "run_delay": -1}
    values = {"benchmark_name": model.stem, "graph": model.name, **options, **numbers}
    # The app accepts strings only.
    return atomic_write(path, json.dumps({key: str(value) for key, value in values.items()}, indent=2) + "\n")


def _from_log(text: str, name: str) -> dict[str, Any]:
    profile, size = parse_profile(text, name), re.search(r"model file size \(MB\): ([-+.\deE]+)", text)
    known = {"model_size_mb": float(size[1]) if size else None}
    return {**parse(text, name), **known, **({"profile": profile} if profile else {})}


def _from_screen(text: str) -> dict[str, Any]:
    sections = dict(re.findall(r"^(Inference|Warmup):\n((?: - .*\n?)+)", text, re.MULTILINE))
    values = {
        name: dict(re.findall(r"^ - ([\w ]+): ([-+.\deE]+)", lines, re.MULTILINE)) for name, lines in sections.items()
    }
    startup = re.search(r"^Startup latency: ([-+.\deE]+) ms", text, re.MULTILINE)
    return {
        "latency_ms": {name: float(values["Inference"][shown]) for shown, name in _SHOWN.items()},
        "runs": int(values["Inference"]["Num runs"]),
        "warmup": int(values["Warmup"]["Num runs"]) if "Warmup" in values else None,
        "init_ms": float(startup[1]) if startup else None,
        **dict.fromkeys(("first_ms", "memory_mb", "delegation")),
    }


def _from_json(text: str) -> dict[str, Any]:
    message = _snake(json.loads(text))
    latency, memory, other = (message.get(f"{name}_metrics", {}) for name in ("latency", "memory", "misc"))
    # 64-bit numbers are strings in the JSON form of messages.
    kilobytes, warmup = memory.get("overall_footprint_kb"), other.get("num_warmup_runs")
    result = {
        "latency_ms": {key: float(latency[name]) for name, key in _LATENCY.items() if name in latency},
        "runs": int(other["num_runs"]),
        "warmup": None if warmup is None else int(warmup),
        "memory_mb": None if kilobytes is None else float(kilobytes) / 1024,
        "delegation": None,
        "model_size_mb": None if other.get("model_size_mb") is None else float(other["model_size_mb"]),
    }
    for key, name in (("init_ms", "init_ms"), ("first_ms", "first_inference_ms")):
        result[key] = None if latency.get(name) is None else float(latency[name])
    return result


def _snake(value: Any) -> Any:
    """Rename latencyMetrics and the like, as JSON has them, to latency_metrics, as the message has them."""
    if isinstance(value, dict):
        return {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", str(key)).lower(): _snake(item) for key, item in value.items()}
    return value
