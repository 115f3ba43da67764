"""Record what the last digits of a result depend on: versions and the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tfdistill.system.lazy import tf

CLOCK = "the clock ends the training, after a number of steps that depends on the machine's speed"
# The names that `--strategy` uses.
_STRATEGIES = {
    "_DefaultDistributionStrategy": "one",
    "MirroredStrategy": "mirrored",
    "CollectiveAllReduceStrategy": "multiworker",
    "MultiWorkerMirroredStrategy": "multiworker",
    "TPUStrategyV2": "tpu",
    "TPUStrategy": "tpu",
}


def versions() -> dict[str, str]:
    """Return the versions of this library and of those that it depends on."""
    versions = {"python": platform.python_version()}
    for name in ("tfdistill", "tensorflow", "keras", "tensorflow-text", "ai-edge-litert", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def reproducible(breaks: Sequence[str] = ()) -> dict[str, Any]:
    """Return whether the same command gives the same student bit for bit, and under which conditions.

    Call it in the scope of the strategy that trains.

    Args:
        breaks: settings of the run that prevent it, each a sentence without a full stop, such as `CLOCK`.
    """
    gpus = [device.name for device in tf.config.list_physical_devices() if device.device_type != "CPU"]
    threads = tf.config.threading.get_intra_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
    strategy = tf.distribute.get_strategy()
    kernels = [f"kernels of {', '.join(gpus)} may add in an order that changes from run to run"] if gpus else []
    why = "; ".join([*kernels, *breaks])
    return {
        "bit_for_bit": not why,
        "needs": "the same versions, processor, number of threads, oneDNN setting and devices, since others may add in another order",
        "processor": _processor(),
        "threads": threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "strategy": _STRATEGIES.get(type(strategy).__name__, type(strategy).__name__),
        "replicas": strategy.num_replicas_in_sync,
        **({"breaks": why} if why else {}),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
