"""Update with Adam as one kernel for each variable, and embedding tables in the rows that a batch reads."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015) with TensorFlow's fused update.

    Keras writes the update as about fifteen operations for each variable; this is one, which traces faster and reads
    memory once. Sparse gradients (`tf.IndexedSlices`) of embedding tables move only their rows: moments of rows that a
    batch does not read do not change ("lazy Adam"), whereas Adam lets them decay and keeps moving these rows. On a
    table of 30,522 rows the dense update costs more than the rest of a small student's step.

    Args:
        lazy: False gives Adam itself.
        static: avoid shapes that depend on the batch's ids, as XLA needs; a row that is read n times is then updated n
            times to the same value.
    """

    def __init__(self, *args: Any, lazy: bool = True, static: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("FusedAdam has no amsgrad; use keras.optimizers.Adam")
        self.lazy, self.static = lazy, static

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        # Inside a strategy's update the handles, unlike methods, belong to this replica's copy.
        m, v = self._momentums[index].value.handle, self._velocities[index].value.handle
        variable = getattr(variable, "value", variable) if isinstance(variable, keras.Variable) else variable
        kind = variable.dtype
        beta_1, beta_2, epsilon = (tf.constant(x, kind) for x in (self.beta_1, self.beta_2, self.epsilon))
        step = tf.cast(self.iterations.value, kind) + 1
        power_1, power_2, rate = tf.pow(beta_1, step), tf.pow(beta_2, step), tf.cast(learning_rate, kind)
        if not (self.lazy and isinstance(gradient, tf.IndexedSlices)):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m,
                v=v,
                beta1_power=power_1,
                beta2_power=power_2,
                lr=rate,
                beta1=beta_1,
                beta2=beta_2,
                epsilon=epsilon,
                grad=tf.cast(tf.convert_to_tensor(gradient), kind),
            )
            return
        rows, summed = (row_sums if self.static else _unique_row_sums)(gradient.indices, tf.cast(gradient.values, kind))
        first = beta_1 * tf.raw_ops.ResourceGather(resource=m, indices=rows, dtype=kind) + (1 - beta_1) * summed
        second = beta_2 * tf.raw_ops.ResourceGather(resource=v, indices=rows, dtype=kind) + (1 - beta_2) * summed**2
        change = rate * tf.sqrt(1 - power_2) / (1 - power_1) * first / (tf.sqrt(second) + epsilon)
        tf.raw_ops.ResourceScatterUpdate(resource=m, indices=rows, updates=first)
        tf.raw_ops.ResourceScatterUpdate(resource=v, indices=rows, updates=second)
        if self.static:
            new = tf.raw_ops.ResourceGather(resource=variable.handle, indices=rows, dtype=kind) - change
            tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=new)
        else:
            tf.raw_ops.ResourceScatterSub(resource=variable.handle, indices=rows, updates=change)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lazy": self.lazy, "static": self.static}


def _unique_row_sums(indices: Any, values: Any) -> tuple[Any, Any]:
    """Each row once, and the sum of its values."""
    rows, place = tf.unique(indices)
    return rows, tf.math.unsorted_segment_sum(values, place, tf.size(rows))


def row_sums(indices: Any, values: Any, once: bool = False) -> tuple[Any, Any]:
    """Sum the values of equal rows without changing the shapes.

    Args:
        indices: row numbers (n,).
        values: (n, H).
        once: put the sum at the first of equal rows and 0 at the others, instead of the sum at each of them.

    Returns:
        The rows in ascending order (n,), and their sums (n, H).
    """
    order = tf.argsort(indices, stable=True)
    rows, values = tf.gather(indices, order), tf.gather(values, order)
    first = tf.concat([tf.ones_like(rows[:1]), tf.cast(rows[1:] != rows[:-1], rows.dtype)], 0)
    place = tf.cumsum(first) - 1
    summed = tf.gather(tf.math.unsorted_segment_sum(values, place, tf.shape(rows)[0]), place)
    return rows, summed * tf.cast(first, summed.dtype)[:, None] if once else summed
