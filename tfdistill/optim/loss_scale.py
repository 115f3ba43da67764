"""A dynamic loss scale for fp16, whose smallest and largest numbers gradients leave easily."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

FIRST_SCALE, GROW_AFTER = 2.0**15, 2000


class LossScaled:
    """Gives a Keras optimizer a dynamic loss scale (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

    The loss is multiplied by `scale` and the gradients are divided by it. A step with a gradient that is not finite changes no
    weight and no moment, and halves the scale; 2,000 steps without one double it. Unlike Keras' LossScaleOptimizer, which
    does not count a step that it leaves out, `iterations` goes on: schedule and checkpoints agree with the data. The state is among
    the optimizer's variables, and so in every checkpoint.
    """

    scaled: bool = False
    loss_scale: Any = None
    _finite: Any = None

    def build(self, variables: list[Any]) -> None:
        super().build(variables)  # type: ignore[misc]
        if self.scaled:
            same = {"shape": (), "aggregation": "only_first_replica"}
            first = keras.initializers.Constant(FIRST_SCALE)
            self.loss_scale = self.add_variable(initializer=first, name="loss_scale", **same)  # type: ignore[attr-defined]
            self.good_steps = self.add_variable(name="good_steps", **same)  # type: ignore[attr-defined]
            self.skipped_steps = self.add_variable(name="skipped_steps", **same)  # type: ignore[attr-defined]

    def restart(self) -> None:
        super().restart()  # type: ignore[misc]
        if self.scaled:
            self.loss_scale.assign(FIRST_SCALE)

    def scale_loss(self, loss: Any) -> Any:
        return loss * tf.convert_to_tensor(self.loss_scale) if self.scaled else super().scale_loss(loss)  # type: ignore[misc]

    def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
        if not self.scaled:
            super().apply(grads, trainable_variables)  # type: ignore[misc]
            return
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads if g is not None]
        bad = tf.add_n([tf.reduce_sum(tf.cast(~tf.math.is_finite(value), tf.float32)) for value in values])
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            bad = context.all_reduce(tf.distribute.ReduceOp.SUM, bad)
        self._finite = tf.equal(bad, 0.0)
        scale = tf.convert_to_tensor(self.loss_scale)
        super().apply([times(g, 1.0 / scale) for g in grads], trainable_variables)  # type: ignore[misc]
        good = tf.where(self._finite, tf.convert_to_tensor(self.good_steps) + 1.0, 0.0)
        grow = good >= GROW_AFTER
        self.loss_scale.assign(tf.where(self._finite, tf.where(grow, scale * 2.0, scale), tf.maximum(scale / 2.0, 1.0)))
        self.good_steps.assign(tf.where(grow, 0.0, good))
        self.skipped_steps.assign_add(tf.where(self._finite, 0.0, 1.0))
        self._finite = None

    def _get_current_learning_rate(self) -> Any:
        rate = super()._get_current_learning_rate()  # type: ignore[misc]
        # What an update is told of this step is its rate: a strategy hands that to each replica's update, and nothing else.
        return rate if self._finite is None else tf.where(self._finite, tf.cast(rate, tf.float32), np.nan)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        update = super().update_step  # type: ignore[misc]
        if not self.scaled:
            update(gradient, variable, learning_rate)
            return

        def taken() -> Any:
            update(gradient, variable, learning_rate)
            return tf.constant(True)

        tf.cond(tf.math.is_finite(learning_rate), taken, lambda: tf.constant(False))

    @property
    def told(self) -> dict[str, float]:
        """Scale and steps left out, for the log."""
        if not self.scaled:
            return {}
        return {"loss_scale": float(self.loss_scale.numpy()), "skipped_steps": float(self.skipped_steps.numpy())}


def times(gradient: Any, factor: Any) -> Any:
    """A gradient, dense or of rows, multiplied by a number; None stays None."""
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(factor, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return None if gradient is None else gradient * tf.cast(factor, gradient.dtype)
