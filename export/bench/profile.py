"""Where the time of one inference goes, operator by operator. Imports no TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError

BUILT_IN, DELEGATE = "built-in", "delegate"
# The parts make up the whole if they differ from it by no more than this share, or by the resolution of the clock. The second
# one is for operators that had to be timed in files of their own, at other moments than the whole.
TOLERANCE, TOLERANCE_ALONE = 0.05, 0.1
_RESOLUTION_MS = 1e-3  # the runtime tells each operator's time in whole microseconds, rounded down


@dataclass(frozen=True)
class Operator:
    """One operator of a run.

    Args:
        kind: as the runtime calls it, with XNNPACK its kernel: "Fully Connected (NC, QD8, F32, QC8W) GEMM".
        runtime: "built-in" for LiteRT's own kernels, "delegate" for XNNPACK's or another delegate's.
        ms: of one inference.
    """

    kind: str
    runtime: str
    ms: float


def profile_of(
    operators: Sequence[Operator], *, total_ms: float, runs: int, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Operators of one inference, in the order in which they ran, as a profile.

    Args:
        total_ms: what the whole inference took, measured around all of them.
        runs: that the times are averages of.
        tolerance: share of the total that may remain.

    Returns:
        total_ms, runs, tolerance, operators: as they came.
        accounted_ms, remainder_ms: what the operators sum up to, and what they leave of the total: calling them, and up to a
            microsecond for each of them, since the runtime rounds down.
        complete: whether the remainder, which may be negative, is within `tolerance` or a microsecond for each operator.
        kinds: `kind`, `runtime`, `count`, `ms` and `share` (of the total) of operators of one kind together, the longest first.
    """
    accounted = sum(each.ms for each in operators)
    kinds: dict[tuple[str, str], list[float]] = {}
    for each in operators:
        kinds.setdefault((each.kind, each.runtime), []).append(each.ms)
    summed = [
        {
            "kind": kind,
            "runtime": runtime,
            "count": len(times),
            "ms": round(sum(times), 4),
            "share": round(sum(times) / total_ms, 4) if total_ms else 0.0,
        }
        for (kind, runtime), times in kinds.items()
    ]
    remainder = total_ms - accounted
    return {
        "total_ms": round(total_ms, 4),
        "accounted_ms": round(accounted, 4),
        "remainder_ms": round(remainder, 4),
        "complete": abs(remainder) <= max(tolerance * total_ms, _RESOLUTION_MS * len(operators)),
        "tolerance": tolerance,
        "runs": runs,
        "kinds": sorted(summed, key=lambda kind: -float(kind["ms"])),
        "operators": [{**asdict(each), "ms": round(each.ms, 4)} for each in operators],
    }


def profile_file(
    path: Path, *, threads: int = 1, runs: int = 50, warmup: int = 5, tokens: int | None = None
) -> dict[str, Any]:
    """Profile one file on this machine with the profiler of LiteRT itself, which its Python package carries.

    The profiler stands in LiteRT's C interface (`libLiteRt`), not in the Python classes, and times LiteRT's own kernels and those
    within XNNPACK. It runs the file as `CompiledModel` does; `bench` uses the older interpreter, with the same kernels, so that
    `unprofiled_ms` may differ a little from its latency.

    `CompiledModel` refuses files with variables, as fused LSTMs have them. There the LSTMs are cut out: the rest is profiled as
    before, each LSTM is timed in a file of its own with the interpreter, and the total is that of the whole file in the
    interpreter. The three are measured by turns, yet at other moments, so that the parts may sum up to 10 % more or less.

    Args:
        path: a .tflite file with int32 [1, length] inputs.
        threads: threads that one inference may use.
        runs: inferences; the times are means over the fastest quarter of them, so that other work on this machine counts little.
        warmup: inferences before them.
        tokens: of the row, as for `bench_file`.

    Returns:
        What `profile_of` gives; `unprofiled_ms`, the same mean without the profiler; `partitions`, into how many pieces the
        delegate took the graph; `timed_alone`, the kinds of operators that were cut out, which stand last; threads, tokens, length.

    Raises:
        UserError: the file does not run, or this build of LiteRT has no profiler.
    """
    command = [sys.executable, "-P", "-m", "tfdistill.export.bench.litert_profiler", str(path.resolve())]
    command += [str(threads), str(runs), str(warmup), str(tokens or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        crashed = [f"LiteRT crashed with signal {-done.returncode}"] if done.returncode < 0 else []
        lines = crashed or done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{path} could not be profiled ({lines[-1][:300]}); measure it without --profile")
    said = json.loads(done.stdout.splitlines()[-1])
    operators = [Operator(**each) for each in said.pop("operators")]
    tolerance = TOLERANCE_ALONE if said["timed_alone"] else TOLERANCE
    numbers = {"total_ms": said.pop("total_ms"), "runs": said.pop("runs"), "tolerance": tolerance}
    return {**profile_of(operators, **numbers), **said}


def remarks(name: str, profile: dict[str, Any]) -> list[str]:
    """What a reader of a profile must know: parts that do not make up the whole, and a profiler that slows the file down."""
    said = []
    if not profile["complete"]:
        said.append(
            f"{name}: the operators make up {profile['accounted_ms']:.2f} of {profile['total_ms']:.2f} ms: "
            "other work disturbed the measurement, or something runs outside of them; measure again"
        )
    plain = profile.get("unprofiled_ms")
    if plain and abs(profile["total_ms"] - plain) > 0.1 * plain:
        said.append(
            f"{name}: {profile['total_ms']:.2f} ms with the profiler, {plain:.2f} ms without (it, or other work, "
            "slows the file down): trust the shares, not the times"
        )
    return said
