"""Show where the time of one inference goes, operator by operator."""

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
# Largest difference between the sum of the parts and the whole, as a share; the second is for operators that are timed in
# separate files, at other moments than the whole.
TOLERANCE, TOLERANCE_ALONE = 0.05, 0.1
_RESOLUTION_MS = 1e-3  # the runtime rounds each operator's time down to whole microseconds


@dataclass(frozen=True)
class Operator:
    """Hold the time of one operator in one inference.

    Args:
        kind: the runtime's name, with XNNPACK that of the kernel: "Fully Connected (NC, QD8, F32, QC8W) GEMM".
        runtime: `BUILT_IN` for LiteRT's kernels, `DELEGATE` for those of XNNPACK or another delegate.
        ms: milliseconds.
    """

    kind: str
    runtime: str
    ms: float


def profile_of(
    operators: Sequence[Operator], *, total_ms: float, runs: int, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Sum up the operators of one inference.

    Args:
        operators: in the order in which they ran.
        total_ms: time of the whole inference, measured around all of them.
        runs: number of inferences that the times are averages of.
        tolerance: share of the total that may remain.

    Returns:
        total_ms, runs, tolerance, operators: as given.
        accounted_ms, remainder_ms: the sum of the operators, and the rest of the total: calling them, and rounding.
        complete: whether the rest, which may be negative, is within `tolerance` or a microsecond for each operator.
        kinds: `kind`, `runtime`, `count`, `ms` and `share` (of the total) of each kind of operator, the longest first.
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
    """Profile one file on this machine with LiteRT's own profiler (see `litert_profiler`).

    The profiler times LiteRT's kernels and those within XNNPACK. It runs the file as `CompiledModel` does; `bench_file` uses
    the older interpreter with the same kernels, so `unprofiled_ms` may differ a little from its latency.

    `CompiledModel` refuses files with variables, which fused LSTMs need. Those LSTMs are cut out: the rest is profiled, each
    LSTM is timed in a separate file with the interpreter, and the total is that of the whole file in the interpreter. The
    three alternate, yet run at different moments, so the sum of the parts may differ by 10 %.

    Args:
        path: a .tflite file with int32 [1, length] inputs.
        threads: threads of one inference.
        runs: inferences; times are means over the fastest quarter of them, to limit the effect of other work.
        warmup: inferences before them.
        tokens: as for `bench_file`.

    Returns:
        A result of `profile_of`; `unprofiled_ms`, the same mean without the profiler; `partitions`, the parts of the graph
        that the delegate runs; `timed_alone`, the kinds of operators that were cut out and come last; threads, tokens, length.

    Raises:
        UserError: the file does not run, or this build of LiteRT has no profiler.
    """
    command = [sys.executable, "-P", "-m", "tfdistill.export.bench.litert_profiler", str(path.resolve())]
    command += [str(threads), str(runs), str(warmup), str(tokens or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        crashed = [f"LiteRT crashed with signal {-done.returncode}"] if done.returncode < 0 else []
        lines = crashed or done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{path} could not be profiled ({lines[-1][:300]}). Measure it without `--profile`")
    result = json.loads(done.stdout.splitlines()[-1])
    operators = [Operator(**each) for each in result.pop("operators")]
    tolerance = TOLERANCE_ALONE if result["timed_alone"] else TOLERANCE
    return {
        **profile_of(operators, total_ms=result.pop("total_ms"), runs=result["runs"], tolerance=tolerance),
        **result,
    }


def remarks(name: str, profile: dict[str, Any]) -> list[str]:
    """List what a reader must know: parts that do not add up to the whole, and a profiler that slows the file down."""
    lines = []
    if not profile["complete"]:
        lines.append(
            f"{name}: the operators sum to {profile['accounted_ms']:.2f} of {profile['total_ms']:.2f} ms: other work "
            "disturbed the measurement, or something runs outside of them; measure again"
        )
    plain = profile.get("unprofiled_ms")
    if plain and abs(profile["total_ms"] - plain) > 0.1 * plain:
        lines.append(
            f"{name}: {profile['total_ms']:.2f} ms with the profiler, {plain:.2f} ms without: trust the shares, not the times"
        )
    return lines
