"""Devices that train together (`--strategy`): one, all of a machine, those of several machines, or a TPU.

Models are made and trained inside `strategy.scope()`. The batch size is the global one: its rows go to the devices in equal
parts, and each loss is divided by global counts, so that the number of devices changes the result by rounding only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from tfdistill.errors import UserError
from tfdistill.system.lazy import tf
from tfdistill.system.signals import reinstall_handler
from tfdistill.system.workers import several_workers

EXPECTED = "one, mirrored, mirrored:N, multiworker, tpu or tpu:NAME"


class WorkerLost(UserError):
    """Another worker is gone. The command line exits with 75, "try again": the same command resumes from the last checkpoint."""

    exit_code = 75


def make_strategy(spec: str) -> tf.distribute.Strategy:
    """Return the strategy that `spec` names. Call this before any other use of TensorFlow.

    Args:
        spec: "one", the default device; "mirrored", all GPUs of this machine; "mirrored:N", N of them, or without a GPU N
            parts of the CPU (to try it); "multiworker", the machines in the environment variable TF_CONFIG, as
            `tf.distribute.MultiWorkerMirroredStrategy` reads it; "tpu" or "tpu:NAME".

    Raises:
        UserError: the name is unknown, there are too few GPUs or processors, TF_CONFIG is missing or wrong, or there is no TPU.
        WorkerLost: the other workers did not answer.
    """
    kind, value = check_strategy(spec)
    if kind == "one":
        return tf.distribute.get_strategy()
    if kind == "mirrored":
        return _mirrored(int(value) if value else None)
    if kind == "multiworker":
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
            reinstall_handler()
            return strategy
        except tf.errors.OpError as error:
            if not _is_lost_worker(error):
                raise
            raise WorkerLost(f"cannot reach the workers of TF_CONFIG: {error.message.splitlines()[0][:200]}") from error
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=value)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0]
        raise UserError(f"`--strategy {spec}`: there is no TPU ({reason[:200]}). Choose another strategy.") from error
    return tf.distribute.TPUStrategy(resolver)


def check_strategy(spec: str) -> tuple[str, str]:
    """Return the kind of a strategy and what follows its colon. Needs no TensorFlow.

    Raises:
        UserError: the name is unknown, or TF_CONFIG is missing or wrong.
    """
    kind, _, value = spec.partition(":")
    number = not value or (value.isdecimal() and int(value) > 0)
    if not (kind == "tpu" or (kind == "mirrored" and number) or (kind in ("one", "multiworker") and not value)):
        raise UserError(f"`--strategy {spec}` is unknown; expected {EXPECTED}")
    if kind == "multiworker":
        _check_config()
    return kind, value


def _mirrored(count: int | None) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and len(gpus) >= (count or 1):
        return _over(tuple(f"GPU:{number}" for number in range(count or len(gpus))))
    if gpus or count is None:
        name = "mirrored" if count is None else f"mirrored:{count}"
        raise UserError(
            f"`--strategy {name}`: this machine has {len(gpus)} GPUs; expected {count or 'one or more'}. "
            "On a machine without a GPU, mirrored:N uses N parts of the CPU."
        )
    most = max(2, os.cpu_count() or 1)  # more parts than processors wait for each other in every step
    if count > most:
        raise UserError(
            f"`--strategy mirrored:{count}`: this machine has no GPU and {os.cpu_count()} processors; expected at most {most}"
        )
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UserError(
                f"`--strategy mirrored:{count}`: TensorFlow is already using the CPU. Call this first."
            ) from None
    return _over(tuple(f"CPU:{number}" for number in range(count)))


@cache
def _over(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return one strategy for each set of devices: a second one would reuse its keys, and their sums would be mixed up."""
    return tf.distribute.MirroredStrategy(devices)


def _check_config() -> None:
    text = os.environ.get("TF_CONFIG", "")
    try:
        config: dict[str, Any] = json.loads(text or "{}")
        workers, task = config["cluster"]["worker"], config["task"]
        fits = task["type"] in ("worker", "chief") and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise UserError(
            f"`--strategy multiworker`: got {text[:200] or 'no TF_CONFIG'}; expected "
            '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": N}} in TF_CONFIG, '
            "with another N for each worker"
        )


def _is_lost_worker(error: tf.errors.OpError) -> bool:
    """Return whether a worker is gone or was started again ("incarnation"). Other errors would come again at each start."""
    if isinstance(error, tf.errors.FailedPreconditionError):
        return "incarnation" in error.message
    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    return isinstance(error, gone)


@contextmanager
def training_on(spec: str) -> Iterator[tf.distribute.Strategy]:
    """Enter the scope of `make_strategy(spec)`.

    Raises:
        WorkerLost: another of several workers is gone; it replaces TensorFlow's errors. Other errors stay.
    """
    strategy = make_strategy(spec)
    with strategy.scope():
        try:
            yield strategy
        except tf.errors.OpError as error:
            if not several_workers() or not _is_lost_worker(error):
                raise
            raise WorkerLost(
                f"another worker is gone ({type(error).__name__}). Start the same command on all workers again to resume from the "
                "last checkpoint."
            ) from error
