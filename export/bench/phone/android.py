"""Measure .tflite files on an Android phone over adb with TensorFlow Lite's `benchmark_model`.

Experimental: tested against a stand-in for adb only, never on a phone. No Python package ships `benchmark_model`: build it
from TensorFlow's source (tensorflow/lite/tools/benchmark) or download a nightly build.
"""

from __future__ import annotations

import re
import shlex
import shutil
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bench.host import LEAST_RUNS, typical_ms
from tfdistill.export.bench.phone.benchmark_model import input_options, parse, parse_profile
from tfdistill.system.files import sha256

PLACE = "/data/local/tmp/tfdistill"
TOOL = "/data/local/tmp/benchmark_model"
DELEGATES = {
    "xnnpack": "--use_xnnpack=true",
    "gpu": "--use_gpu=true",
    "none": "--use_xnnpack=false",
}
AGREE = 0.05  # largest difference between the medians of repeats, as a share of the smallest
MOST_REPEATS = 8
WARM_CELSIUS = 40.0  # warmer phones slow down
_COOLING_SECONDS, _MOST_COOLING_SECONDS = 15.0, 300.0
_LIMIT_SECONDS = 900.0
_PHONE = ("ro.product.manufacturer", "ro.product.model", "ro.build.version.release", "ro.board.platform")


@dataclass(frozen=True)
class Phone:
    """Run commands on a device that adb reaches.

    Args:
        adb: the adb command.
        serial: the device, as `adb devices` lists it.
    """

    adb: str
    serial: str

    def run(self, *arguments: str) -> str:
        """Run an adb command and return its output. Raises UserError when it fails or hangs."""
        words = f"adb {' '.join(arguments)}"
        try:
            done = subprocess.run(
                [self.adb, "-s", self.serial, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"{words} did not end within {_LIMIT_SECONDS:.0f} s. Unlock the phone and try again"
            ) from error
        output = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
        if done.returncode:
            lines = [line.strip() for line in output.splitlines() if line.strip()]
            errors = [line for line in lines if "ERROR" in line] or lines[-1:] or [f"exit code {done.returncode}"]
            raise UserError(f"on {self.serial}, {words[:80]}… failed: {errors[-1][:300]}")
        return output

    def shell(self, *words: str) -> str:
        """Run a command on the phone and return its output. Raises UserError as `run`."""
        return self.run("shell", shlex.join(words))

    def celsius(self) -> float | None:
        """Return the battery's temperature, or None if the phone does not report it."""
        match = re.search(r"^\s*temperature:\s*(-?\d+)\s*$", self.shell("dumpsys", "battery"), re.MULTILINE)
        return int(match[1]) / 10 if match else None

    def machine(self) -> dict[str, Any]:
        """Return maker, model, version of Android, processor and serial as the phone reports them."""
        values = [self.shell("getprop", name).strip() for name in _PHONE]
        return dict(zip(("maker", "model", "android", "processor"), values, strict=True), serial=self.serial)


def find_phone(serial: str | None = None) -> Phone:
    """Return the phone with this serial, or the only one that is connected.

    Raises:
        UserError: adb is missing or fails, or the phone is missing, ambiguous or locked.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise UserError(
            "adb is not on the PATH. Install Android's platform tools and connect a phone with USB debugging on"
        )
    try:
        done = subprocess.run([adb, "devices"], capture_output=True, text=True, timeout=60, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise UserError(f"adb devices failed ({str(error).splitlines()[0][:200]}). Try: adb kill-server") from error
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    states = {row[0].strip(): row[1].strip() for row in rows}
    if serial is None:
        if len(states) != 1:
            raise UserError(f"adb lists {', '.join(states) or 'no phone'}. Connect one, or choose one with `--serial`")
        serial = next(iter(states))
    if serial not in states:
        raise UserError(f"adb lists {', '.join(states) or 'no phone'}, not --serial {serial}. Connect it")
    if states[serial] != "device":
        raise UserError(f"{serial} is {states[serial]}. Unlock the phone and allow USB debugging")
    return Phone(adb, serial)


@dataclass(frozen=True)
class PhoneOptions:
    """Say how to measure on a phone.

    Args:
        tool: `benchmark_model` for this phone on this machine; None uses the one at `TOOL` on the phone.
        threads: threads of one inference.
        runs: timed inferences of one measurement.
        delegate: a key of `DELEGATES`.
        affinity: mask of cores as a hexadecimal number ("f0"), for taskset.
        repeats: measurements of each file that have to agree.
        profile: measure once more with operator profiling, which costs time itself; the other numbers are without it.

    Raises:
        UserError: an option is out of range.
    """

    tool: Path | None = None
    threads: int = 1
    runs: int = 50
    delegate: str = "xnnpack"
    affinity: str | None = None
    repeats: int = 3
    profile: bool = False

    def __post_init__(self) -> None:
        if self.delegate not in DELEGATES:
            raise UserError(f"received --delegate {self.delegate}. Give one of {', '.join(DELEGATES)}")
        if self.affinity is not None and not re.fullmatch(r"[0-9a-fA-F]{1,16}", self.affinity):
            raise UserError(f"received --affinity {self.affinity}. Give a hexadecimal mask of cores, such as f0")
        if not 2 <= self.repeats <= MOST_REPEATS:
            raise UserError(f"received {self.repeats} repeats. Give 2 to {MOST_REPEATS}")


def bench_on_phone(
    paths: Sequence[Path],
    phone: Phone,
    options: PhoneOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure files alternately until the medians of the last repeats agree within 5 %.

    It gives up after eight rounds. Before each measurement a phone of 40 °C or more may cool down for up to five minutes.

    Args:
        paths: .tflite files with int32 [1, length] inputs.
        phone: where to measure.
        options: how to measure.
        progress: called with what is being done.

    Returns:
        For each path: `latency_ms` (`median`, `p95`, `min`, `max`, `mean`, `std`: medians over the last repeats; builds
        without percentiles lack `median` and `p95`), `medians_ms` of all rounds (means in such builds), whether the last
        ones `agree`, `first_ms`, `init_ms`, `memory_mb`, `celsius` before each round, `delegation` in the tool's words,
        `minimum` (as for `bench_file`), `phone`, with profiling `profile` (see `profile_of`), and threads, runs, warmup,
        length, bytes, file, delegate, affinity, repeats.

    Raises:
        UserError: adb or the tool fails.
    """
    options, report = options or PhoneOptions(), progress or (lambda _: None)
    inputs = [input_options(path) for path in paths]
    words = [[f"--{name}={value}" for name, value in flags.items()] for flags, _ in inputs]
    place = f"{PLACE}-{uuid.uuid4().hex[:12]}"  # two may measure on one phone
    machine = phone.machine()
    phone.shell("mkdir", place)
    try:
        command = _command(phone, options, place)
        for number, path in enumerate(paths):
            report(f"pushing {path.name}")
            _push(phone, path, f"{place}/{number}.tflite")
            words[number].insert(0, f"--graph={place}/{number}.tflite")
        rounds: list[list[dict[str, Any]]] = [[] for _ in paths]
        for done in range(1, MOST_REPEATS + 1):
            for path, flags, results in zip(paths, words, rounds, strict=True):
                report(f"{path.name}: measurement {done}")
                celsius = _cool(phone, report)
                results.append({**parse(phone.shell(*command, *flags), path.name), "celsius": celsius})
            if done >= options.repeats and all(_agree(results[-options.repeats :]) for results in rounds):
                break
        profiles = []
        for path, flags in zip(paths, words, strict=True) if options.profile else ():
            report(f"{path.name}: operators")
            profiles.append(parse_profile(phone.shell(*command, *flags, "--enable_op_profiling=true"), path.name))
            if profiles[-1] is None:
                raise UserError(f"benchmark_model printed no operators of {path.name}. Measure it without `--profile`")
    finally:
        with suppress(UserError):  # an unplugged phone must not cost the results
            phone.shell("rm", "-r", place)
    return [
        {
            "file": path.name,
            "bytes": path.stat().st_size,
            "threads": options.threads,
            "length": length,
            "delegate": options.delegate,
            "affinity": options.affinity,
            "phone": machine,
            **_summary(results, options.repeats),
            **({"profile": profiles[number]} if profiles else {}),
        }
        for number, (path, (_, length), results) in enumerate(zip(paths, inputs, rounds, strict=True))
    ]


def remarks(names: Sequence[Any], results: Sequence[dict[str, Any]]) -> list[str]:
    """List what a reader must know: repeats that differ, warmth, and how much of the graph the delegate runs."""
    lines = []
    for name, result in zip(names, results, strict=True):
        if result["agree"] is False:
            medians = ", ".join(f"{value:.2f}" for value in result["medians_ms"])
            lines.append(f"{name}: the repeats still differ by more than {AGREE:.0%}: {medians} ms; do not trust them")
        if any(value is not None and value >= WARM_CELSIUS for value in result["celsius"]):
            lines.append(f"{name}: the phone stayed at {WARM_CELSIUS:.0f} °C or more, where phones slow down")
        if result["delegation"]:
            lines.append(f"{name}: {result['delegation']}")
        elif result["delegate"] == "gpu":
            lines.append(
                f"{name}: benchmark_model does not confirm that it used the GPU; it may have used the processor"
            )
    return lines


def _command(phone: Phone, options: PhoneOptions, place: str) -> list[str]:
    """Return the words that run `benchmark_model` on the phone; push it there first if it is the user's."""
    tool = TOOL
    if options.tool is None:
        if TOOL not in phone.shell("sh", "-c", f"ls {TOOL} 2>/dev/null || true"):
            raise UserError(f"{TOOL} is not on the phone. Give your build of it with `--benchmark-model`")
    elif not options.tool.is_file():
        raise UserError(f"{options.tool} is missing. Give TensorFlow Lite's benchmark_model, built for the phone")
    else:
        tool = f"{place}/benchmark_model"
        _push(phone, options.tool, tool)
        phone.shell("chmod", "755", tool)
    numbers = [f"--num_threads={options.threads}", f"--num_runs={options.runs}", "--warmup_runs=5"]
    return [*(["taskset", options.affinity] if options.affinity else []), tool, *numbers, DELEGATES[options.delegate]]


def _push(phone: Phone, path: Path, target: str) -> None:
    phone.run("push", str(path), target)
    digest = phone.shell("sha256sum", target).split()
    if digest[:1] != [sha256(path)]:
        raise UserError(f"{path} arrived damaged on {phone.serial}. Free some room on the phone")


def _cool(phone: Phone, report: Callable[[str], None]) -> float | None:
    waited = 0.0
    while (warm := phone.celsius()) is not None and warm >= WARM_CELSIUS and waited < _MOST_COOLING_SECONDS:
        report(f"the phone has {warm:.1f} °C, waiting until it is below {WARM_CELSIUS:.0f}")
        time.sleep(_COOLING_SECONDS)
        waited += _COOLING_SECONDS
    return warm


def _agree(results: Sequence[dict[str, Any]]) -> bool:
    medians = [typical_ms(result) for result in results]
    return max(medians) - min(medians) <= AGREE * min(medians)


def _summary(measured: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """Summarize one file: medians over the last `repeats` measurements, and the range of all of them."""
    results = measured[-repeats:]

    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(statistics.median(known), 4) if known else None

    latency = {key: middle([result["latency_ms"].get(key) for result in results]) for key in results[0]["latency_ms"]}
    return {
        "latency_ms": latency,
        **{key: middle([result[key] for result in results]) for key in ("init_ms", "first_ms", "memory_mb")},
        "runs": results[0]["runs"],
        "warmup": results[0]["warmup"],
        "minimum": {"warmup": results[0]["warmup"] >= 1, "runs": results[0]["runs"] >= LEAST_RUNS},
        "medians_ms": [round(typical_ms(result), 4) for result in measured],
        "agree": _agree(results),
        "celsius": [result["celsius"] for result in measured],
        "delegation": results[0]["delegation"],
        "repeats": len(measured),
    }
