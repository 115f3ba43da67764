"""Schedule the learning rate."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class WarmupLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to `peak` over `warmup` steps, then falls linearly to 0 at `total` steps.

    The numbers are a variable: `set` changes them without another compilation.
    """

    def __init__(self, peak: float, warmup: int, total: int):
        self.numbers = tf.Variable([peak, warmup, total], dtype=tf.float32, trainable=False, name="peak_warmup_total")

    def set(self, peak: float, warmup: int, total: int) -> None:
        self.numbers.assign([peak, warmup, total])

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        peak, warmup, total = tf.unstack(tf.convert_to_tensor(self.numbers))
        rising = (step + 1.0) / tf.maximum(1.0, warmup)
        falling = (total - step) / tf.maximum(1.0, total - warmup)
        return peak * tf.clip_by_value(tf.minimum(rising, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        peak, warmup, total = self.numbers.numpy()
        return {"peak": float(peak), "warmup": int(warmup), "total": int(total)}
