"""What worker processes that train together do in step: sums over workers, values of the first worker, waiting for each other.

Each worker has to call these functions in the same order. With one process they return at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tfdistill.system.lazy import tf


def several_workers() -> bool:
    """Return whether several processes train together."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def is_chief() -> bool:
    """Return whether this process writes files: the first of several workers does."""
    return bool(tf.distribute.get_strategy().extended.should_checkpoint)


def sum_over_workers(*values: float) -> list[float]:
    """Return the sum of each value over all workers."""
    return [float(value) for value in _traced_sum()(tf.constant(values, tf.float64)).numpy()]


@cache
def _traced_sum() -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(autograph=False)
    def sum_over_workers(value: tf.Tensor) -> tf.Tensor:  # float64, so that scores do not change
        strategy = tf.distribute.get_strategy()
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.identity(value)), axis=None)

    return sum_over_workers


def chief_values(*values: float) -> list[float]:
    """Return the chief's values."""
    if not several_workers():
        return list(values)
    return sum_over_workers(*(value if is_chief() else 0.0 for value in values))


def chief_flag(flag: bool) -> bool:
    """Return the chief's `flag`."""
    return chief_values(float(flag))[0] > 0


def barrier() -> None:
    """Wait until each worker has called this."""
    chief_flag(True)


def splits_by_worker() -> bool:
    """Return whether each worker can read its own examples: there are several, with one device each."""
    return several_workers() and tf.distribute.get_strategy().extended._num_devices_per_worker == 1


def by_worker(make: Callable[..., tf.data.Dataset]) -> Any:
    """Return batches of which each worker makes its own part by `make(worker=(index, count))`."""
    return tf.distribute.get_strategy().distribute_datasets_from_function(
        lambda context: make(worker=(context.input_pipeline_id, context.num_input_pipelines))
    )


def on_one_replica(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` run in the context of a replica, since gradients cannot be computed outside of one.

    All replicas compute the same; the result of the first is returned.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return function
    everywhere = tf.function(lambda *inputs: strategy.run(function, inputs), autograph=False, reduce_retracing=True)
    return lambda *inputs: tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], everywhere(*inputs)
    )
