"""Measure .tflite files on an Android phone over adb, with TensorFlow Lite's own `benchmark_model`. Imports no TensorFlow.

`benchmark_model` is not shipped with any Python package: it is built from TensorFlow's source
(tensorflow/lite/tools/benchmark) or taken from its nightly builds.
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
from tfdistill.export.bench.host import LEAST_RUNS
from tfdistill.export.bench.phone.benchmark_model import input_options, parse, parse_profile
from tfdistill.system.files import sha256

PLACE = "/data/local/tmp/tfdistill"
TOOL = "/data/local/tmp/benchmark_model"
DELEGATES = {
    "xnnpack": "--use_xnnpack=true",
    "gpu": "--use_gpu=true",
    "nnapi": "--use_nnapi=true",
    "none": "--use_xnnpack=false",
}
AGREE = 0.05  # medians of repeats may differ by so much of the smallest
MOST_REPEATS = 8
WARM_CELSIUS = 40.0  # from here on phones slow down
_COOLING_SECONDS, _MOST_COOLING_SECONDS = 15.0, 300.0
_LIMIT_SECONDS = 900.0
_PHONE = ("ro.product.manufacturer", "ro.product.model", "ro.build.version.release", "ro.board.platform")


@dataclass(frozen=True)
class Phone:
    """A device that adb reaches.

    Args:
        adb: the adb command.
        serial: as `adb devices` says it.
    """

    adb: str
    serial: str

    def run(self, *arguments: str) -> str:
        """What an adb command printed. Raises UserError when it fails or hangs."""
        said = f"adb {' '.join(arguments)}"
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
                f"{said} did not end within {_LIMIT_SECONDS:.0f} s; unlock the phone and try again"
            ) from error
        output = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
        if done.returncode:
            lines = [line.strip() for line in output.splitlines() if line.strip()]
            errors = [line for line in lines if "ERROR" in line] or lines[-1:] or [f"exit code {done.returncode}"]
            raise UserError(f"on {self.serial}, {said[:80]}… failed: {errors[-1][:300]}")
        return output

    def shell(self, *words: str) -> str:
        """What a command printed on the phone. Raises UserError as `run`."""
        return self.run("shell", shlex.join(words))

    def celsius(self) -> float | None:
        """Of the battery; None where the phone does not say."""
        found = re.search(r"^\s*temperature:\s*(-?\d+)\s*$", self.shell("dumpsys", "battery"), re.MULTILINE)
        return int(found[1]) / 10 if found else None

    def machine(self) -> dict[str, Any]:
        """Maker, model, version of Android and processor, as the phone says them."""
        said = [self.shell("getprop", name).strip() for name in _PHONE]
        return dict(zip(("maker", "model", "android", "processor"), said, strict=True), serial=self.serial)


def find_phone(serial: str | None = None) -> Phone:
    """The phone with this serial, or the only one there is.

    Raises UserError when adb is missing, or there is no such phone, several without `serial`, or one that does not trust us.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise UserError(
            "adb is not on the PATH; install Android's platform tools and connect a phone with USB debugging on"
        )
    try:
        done = subprocess.run([adb, "devices"], capture_output=True, text=True, timeout=60, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise UserError(f"adb devices failed ({str(error).splitlines()[0][:200]}); try: adb kill-server") from error
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    states = {row[0].strip(): row[1].strip() for row in rows}
    if serial is None:
        if len(states) != 1:
            found = ", ".join(states) or "none"
            raise UserError(f"adb sees {found}; expected one phone: connect it, or name one with --serial")
        serial = next(iter(states))
    if serial not in states:
        raise UserError(f"adb does not see {serial} but {', '.join(states) or 'no phone'}; connect it")
    if states[serial] != "device":
        raise UserError(f"{serial} is {states[serial]}; unlock the phone and allow USB debugging")
    return Phone(adb, serial)


def bench_on_phone(
    paths: Sequence[Path],
    phone: Phone,
    *,
    tool: Path | None = None,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 5,
    delegate: str = "xnnpack",
    affinity: str | None = None,
    repeats: int = 3,
    profile: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure files by turns until the medians of their last `repeats` measurements agree within 5 %, eight times at most.

    Before each measurement a phone warmer than 40 °C may cool down for up to five minutes.

    Args:
        paths: .tflite files with int32 [1, length] inputs.
        tool: `benchmark_model` for this phone; by default /data/local/tmp/benchmark_model is there already.
        threads, runs, warmup: of `benchmark_model`.
        delegate: "xnnpack", "gpu", "nnapi", or "none".
        affinity: mask of cores as a hexadecimal number ("f0"), for taskset.
        repeats: measurements of each file that have to agree.
        profile: measure once more with `--enable_op_profiling`, which itself takes time; the other numbers are without it.
        progress: called with what is being done.

    Returns:
        For each path: `latency_ms` (`median`, `p95`, `min`, `max`, `mean`, `std`, medians over the last `repeats`; builds
        without percentiles have no `median` and `p95`), `medians_ms` of all (means in such builds), whether the last ones `agree`,
        `first_ms`, `init_ms`, `memory_mb`, `celsius` before each measurement, `delegation` as the tool says it, threads, runs and
        warmup (of one measurement), `minimum`, as for a measurement on this machine, length, bytes, file, `phone`, and `profile`, as
        `profile_of` gives it.

    Raises:
        UserError: an option out of range, or something that adb or the tool says.
    """
    if delegate not in DELEGATES:
        raise UserError(f"delegate is '{delegate}'; expected one of {', '.join(DELEGATES)}")
    if affinity is not None and not re.fullmatch(r"[0-9a-fA-F]{1,16}", affinity):
        raise UserError(f"affinity is '{affinity}'; expected a hexadecimal mask of cores such as f0")
    if not 2 <= repeats <= MOST_REPEATS:
        raise UserError(f"repeats is {repeats}; expected 2 to {MOST_REPEATS}")
    say = progress or (lambda _: None)
    inputs = [input_options(path) for path in paths]
    options = [[f"--{name}={value}" for name, value in given.items()] for given, _ in inputs]
    place = f"{PLACE}-{uuid.uuid4().hex[:12]}"  # of its own: two may measure on one phone
    command = ["taskset", affinity] if affinity else []
    found: list[list[dict[str, Any]]] = [[] for _ in paths]
    machine = phone.machine()
    phone.shell("mkdir", place)
    try:
        command.append(_place_tool(phone, tool, place))
        command += [f"--num_threads={threads}", f"--num_runs={runs}", f"--warmup_runs={warmup}", DELEGATES[delegate]]
        for number, path in enumerate(paths):
            say(f"pushing {path.name}")
            _push(phone, path, f"{place}/{number}.tflite")
        for repeat in range(MOST_REPEATS):
            for number, path in enumerate(paths):
                say(f"{path.name}: measurement {repeat + 1}")
                before = _cool(phone, say)
                printed = phone.shell(*command, f"--graph={place}/{number}.tflite", *options[number])
                found[number].append({**parse(printed, path.name), "celsius": before})
            if repeat + 1 >= repeats and all(_agree(results[-repeats:]) for results in found):
                break
        profiles: list[dict[str, Any] | None] = [None for _ in paths]
        for number, path in enumerate(paths if profile else ()):
            say(f"{path.name}: operators")
            graph = f"--graph={place}/{number}.tflite"
            printed = phone.shell(*command, graph, *options[number], "--enable_op_profiling=true")
            profiles[number] = parse_profile(printed, path.name)
            if profiles[number] is None:
                raise UserError(f"benchmark_model printed no operators of {path.name}; measure it without --profile")
    finally:
        with suppress(UserError):  # an unplugged phone must not cost what was measured
            phone.shell("rm", "-r", place)
    return [
        {
            "file": path.name,
            "bytes": path.stat().st_size,
            "threads": threads,
            "length": length,
            "delegate": delegate,
            "affinity": affinity,
            "phone": machine,
            **_summary(results, repeats),
            **({"profile": profiled} if profiled else {}),
        }
        for path, (_, length), results, profiled in zip(paths, inputs, found, profiles, strict=True)
    ]


def as_table(names: Sequence[Any], results: Sequence[dict[str, Any]]) -> Any:
    """A rich table of what `bench_on_phone`, or `ios.read_result` for each, gave for files called so."""
    from rich.table import Table

    first = results[0]
    phone = " ".join(first["phone"][key] for key in ("maker", "model"))
    system = f"Android {first['phone']['android']}" if "android" in first["phone"] else "iOS"
    title = f"{phone}, {system}, {first['delegate']}, {first['threads']} thread(s)"
    table = Table(title=title)
    for column in ("file", "length", "MB", "median ms", "p95 ms", "mean ms", "first ms", "memory MB", "°C", "repeats"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for name, found in zip(names, results, strict=True):
        latency, warm = found["latency_ms"], [value for value in found["celsius"] if value is not None]
        numbers = (latency.get("median"), latency.get("p95"), latency["mean"], found["first_ms"], found["memory_mb"])
        table.add_row(
            str(name),
            str(found["length"]),
            f"{found['bytes'] / 1e6:.1f}",
            *("–" if value is None else f"{value:.2f}" for value in numbers),
            f"{min(warm):.0f} to {max(warm):.0f}" if warm else "–",
            str(found["repeats"]),
        )
    return table


def remarks(names: Sequence[Any], results: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader of the table must know: repeats that differ, warmth, and how much of the graph the delegate took."""
    said = []
    for name, found in zip(names, results, strict=True):
        if found["agree"] is False:
            medians = ", ".join(f"{value:.2f}" for value in found["medians_ms"])
            said.append(f"{name}: the repeats still differ by more than {AGREE:.0%}: {medians} ms; do not trust them")
        if any(value is not None and value >= WARM_CELSIUS for value in found["celsius"]):
            said.append(f"{name}: the phone stayed at {WARM_CELSIUS:.0f} °C or more, where phones slow down")
        if found["delegation"]:
            said.append(f"{name}: {found['delegation']}")
        elif found["delegate"] in ("gpu", "nnapi"):
            said.append(
                f"{name}: benchmark_model does not say that it used {found['delegate']}; it may have run on the processor"
            )
    return said


def _place_tool(phone: Phone, tool: Path | None, place: str) -> str:
    if tool is None:
        if TOOL not in phone.shell("sh", "-c", f"ls {TOOL} 2>/dev/null || true"):
            raise UserError(f"{TOOL} is not on the phone; expected the file on this machine: --benchmark-model PATH")
        return TOOL
    if not tool.is_file():
        raise UserError(f"{tool} is missing; expected TensorFlow Lite's benchmark_model, built for the phone")
    _push(phone, tool, f"{place}/benchmark_model")
    phone.shell("chmod", "755", f"{place}/benchmark_model")
    return f"{place}/benchmark_model"


def _push(phone: Phone, path: Path, target: str) -> None:
    phone.run("push", str(path), target)
    digest = phone.shell("sha256sum", target).split()
    if digest[:1] != [sha256(path)]:
        raise UserError(f"{path} arrived damaged on {phone.serial}; is there room on the phone?")


def _cool(phone: Phone, say: Callable[[str], None]) -> float | None:
    waited = 0.0
    while (warm := phone.celsius()) is not None and warm >= WARM_CELSIUS and waited < _MOST_COOLING_SECONDS:
        say(f"the phone has {warm:.1f} °C, waiting until it is below {WARM_CELSIUS:.0f}")
        time.sleep(_COOLING_SECONDS)
        waited += _COOLING_SECONDS
    return warm


def _middle(result: dict[str, Any]) -> float:
    latency = result["latency_ms"]
    return latency.get("median", latency["mean"])


def _agree(results: Sequence[dict[str, Any]]) -> bool:
    medians = [_middle(result) for result in results]
    return max(medians) - min(medians) <= AGREE * min(medians)


def _summary(measured: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """Medians over the last `repeats` measurements, and how all of them came out."""
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
        "medians_ms": [round(_middle(result), 4) for result in measured],
        "agree": _agree(results),
        "celsius": [result["celsius"] for result in measured],
        "delegation": results[0]["delegation"],
        "repeats": len(measured),
    }
