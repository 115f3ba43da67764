"""Devices that train together (`--strategy`): one, all of a machine, those of several machines, a TPU.

Models are made and trained inside `strategy.scope()`. The batch size is the global one, its rows go to the devices in equal parts, and
every loss is divided over the global batch, so that the number of devices does not change the result but for rounding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.system.signals import take_back

EXPECTED = "one, mirrored, mirrored:N, multiworker, tpu or tpu:NAME"


class WorkerLost(UserError):
    """Another worker is gone. The command line exits with 75, "try again": the same command goes on from the last checkpoint."""

    exit_code = 75


def make_strategy(spec: str) -> tf.distribute.Strategy:
    """The strategy that `spec` names. To be called before TensorFlow is used otherwise.

    Args:
        spec: "one", the default device; "mirrored", all GPUs of this machine; "mirrored:N", N of them or, on a machine without any,
            N parts of its CPU (for trying); "multiworker", the machines that the environment variable TF_CONFIG names, as
            `tf.distribute.MultiWorkerMirroredStrategy` reads it; "tpu" or "tpu:NAME".

    Raises:
        UserError: an unknown name, too few GPUs, a TF_CONFIG that is missing or names no workers, no TPU.
    """
    kind, _, value = spec.partition(":")
    if kind == "one" and not value:
        return tf.distribute.get_strategy()
    if kind == "mirrored" and (not value or (value.isdecimal() and int(value) > 0)):
        return _mirrored(int(value) if value else None)
    if kind == "multiworker" and not value:
        _check_config()
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
            take_back()
            return strategy
        except tf.errors.OpError as error:
            if not _told_of_a_loss(error):
                raise
            raise WorkerLost(f"the workers of TF_CONFIG did not meet: {error.message.splitlines()[0][:200]}") from error
    if kind == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=value)
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, OSError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or ["no answer"])[0]
            raise UserError(
                f"--strategy {spec}: found no TPU ({reason[:200]}); expected one, or another strategy"
            ) from error
        return tf.distribute.TPUStrategy(resolver)
    raise UserError(f"--strategy {spec} is unknown; expected {EXPECTED}")


def _mirrored(count: int | None) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and len(gpus) >= (count or 1):
        return _over(tuple(f"GPU:{number}" for number in range(count or len(gpus))))
    if gpus or count is None:
        raise UserError(
            f"--strategy mirrored{'' if count is None else f':{count}'}: this machine has {len(gpus)} GPUs; expected "
            f"{'one or more' if count is None else count}, or mirrored:N on N parts of the CPU of a machine without a GPU"
        )
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UserError(
                f"--strategy mirrored:{count}: TensorFlow uses the CPU as it is already; expected this to be called first"
            ) from None
    return _over(tuple(f"CPU:{number}" for number in range(count)))


@cache
def _over(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for each set of devices: a second one would begin again with the first one's keys, and their sums would be mixed up."""
    return tf.distribute.MirroredStrategy(devices)


def _check_config() -> None:
    said = os.environ.get("TF_CONFIG", "")
    expected = 'expected {"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": N}} in TF_CONFIG'
    try:
        config: dict[str, Any] = json.loads(said or "{}")
        workers, task = config["cluster"]["worker"], config["task"]
        fits = task["type"] in ("worker", "chief") and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise UserError(
            f"--strategy multiworker: got {said[:200] or 'no TF_CONFIG'}; {expected}, another N for each worker"
        )


def several_workers() -> bool:
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def is_chief() -> bool:
    """Whether this process writes files: of several workers one does."""
    return bool(tf.distribute.get_strategy().extended.should_checkpoint)


def chief_says(flag: bool) -> bool:
    """The chief's `flag`, for all workers; each has to call this."""
    return of_the_chief(float(flag))[0] > 0


def over_workers(*values: float) -> list[float]:
    """The sum of each value over all workers; each has to call this, and waits for the others."""
    return [float(value) for value in _over_workers(tf.constant(values, tf.float64)).numpy()]


def of_the_chief(*values: float) -> list[float]:
    """The chief's values, for all workers; each has to call this."""
    if not several_workers():
        return list(values)
    return over_workers(*(value if is_chief() else 0.0 for value in values))


@tf.function(autograph=False)
def _over_workers(value: tf.Tensor) -> tf.Tensor:  # float64: scores stay what they are
    strategy = tf.distribute.get_strategy()
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.identity(value)), axis=None)


def splits_by_worker() -> bool:
    """Whether each worker can read its own rows: there are several, with one device each."""
    return several_workers() and tf.distribute.get_strategy().extended._num_devices_per_worker == 1


def by_worker(make: Callable[..., tf.data.Dataset]) -> Any:
    """Batches of which each worker makes its part, `make(worker=(i, n))`."""
    return tf.distribute.get_strategy().distribute_datasets_from_function(
        lambda place: make(worker=(place.input_pipeline_id, place.num_input_pipelines))
    )


def meet() -> None:
    """Wait until each worker has called this; at once where there is one."""
    chief_says(True)


def by_one_replica(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, as a replica sees the variables: gradients cannot be taken outside of one. All compute the same, one is asked."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return function
    all_of_them = tf.function(lambda *given: strategy.run(function, given), autograph=False, reduce_retracing=True)
    return lambda *given: tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], all_of_them(*given)
    )


def _told_of_a_loss(error: tf.errors.OpError) -> bool:
    """Whether TensorFlow means a worker that is gone, or was started again ("incarnation"). Other errors come at every start."""
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
    """The scope of `make_strategy(spec)`.

    Raises WorkerLost, in the place of TensorFlow's errors, when several workers train and one of them is gone. Other errors stay
    what they are.
    """
    strategy = make_strategy(spec)
    with strategy.scope():
        try:
            yield strategy
        except tf.errors.OpError as error:
            if not several_workers() or not _told_of_a_loss(error):
                raise
            raise WorkerLost(
                f"another worker is gone ({type(error).__name__}); start the same command again on all of them: it goes on from the "
                "last checkpoint"
            ) from error
