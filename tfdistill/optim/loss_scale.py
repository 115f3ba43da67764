"""Scale the loss for fp16, where gradients easily overflow or underflow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

FIRST_SCALE, GROW_AFTER = 2.0**15, 2000


class LossScaled:
    """Gives a Keras optimizer a dynamic loss scale (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

    The loss is multiplied by `scale`, and the gradients are divided by it. A step with a gradient that is not finite
    changes no weight and no moment, and halves the scale; 2,000 finite steps double it. Keras' LossScaleOptimizer does
    not count a skipped step; here `iterations` counts it, so that schedule and checkpoints agree with the data. The
    state is among the optimizer's variables, and so in every checkpoint.

    Attributes:
        scaled: whether there is a loss scale at all; set before `build`.
    """

    scaled: bool = False
    loss_scale: Any = None
    _finite: Any = None

    def build(self, variables: list[Any]) -> None:
        super().build(variables)  # type: ignore[misc]
        if self.scaled:
            options = {"shape": (), "aggregation": "only_first_replica"}
            first = keras.initializers.Constant(FIRST_SCALE)
            self.loss_scale = self.add_variable(initializer=first, name="loss_scale", **options)  # type: ignore[attr-defined]
            self.good_steps = self.add_variable(name="good_steps", **options)  # type: ignore[attr-defined]
            self.skipped_steps = self.add_variable(name="skipped_steps", **options)  # type: ignore[attr-defined]

    def restart(self) -> None:
        """Reset step number, moments and scale, as in a new optimizer."""
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
        # A strategy passes the rate, and nothing else, to each replica's update: NaN means "skip this step".
        return rate if self._finite is None else tf.where(self._finite, tf.cast(rate, tf.float32), np.nan)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        update = super().update_step  # type: ignore[misc]
        if not self.scaled:
            update(gradient, variable, learning_rate)
            return

        def updated() -> Any:
            update(gradient, variable, learning_rate)
            return tf.constant(True)

        tf.cond(tf.math.is_finite(learning_rate), updated, lambda: tf.constant(False))

    @property
    def log_values(self) -> dict[str, float]:
        """Scale and number of skipped steps, for the log."""
        if not self.scaled:
            return {}
        return {"loss_scale": float(self.loss_scale.numpy()), "skipped_steps": float(self.skipped_steps.numpy())}


def times(gradient: Any, factor: Any) -> Any:
    """Return a dense or sparse gradient times a number; None stays None."""
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(factor, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return None if gradient is None else gradient * tf.cast(factor, gradient.dtype)
