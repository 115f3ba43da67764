"""Optimizers whose variables can be held still, and that can start again, without another compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.optim.adam import FusedAdam
from tfdistill.optim.freezing import Gated
from tfdistill.optim.loss_scale import LossScaled
from tfdistill.optim.schedule import WarmupLinear


class Adam(LossScaled, Gated, FusedAdam):
    """Kingma and Ba 2015."""


class SGD(LossScaled, Gated, keras.optimizers.SGD):
    """Stochastic gradient descent."""


def _dense(gradient: Any, variable: Any) -> Any:
    """A table's gradient with each row's uses added up. Keras squares them one by one."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])


class _DenseAdadelta(keras.optimizers.Adadelta):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(_dense(gradient, variable), variable, learning_rate)


class Adadelta(LossScaled, Gated, _DenseAdadelta):
    """Zeiler 2012."""


class _DecayingLamb(keras.optimizers.Lamb):
    """With weight decay inside the trust ratio, which Keras' has not."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, kind = self._get_variable_index(variable), variable.dtype
        m, v = self._momentums[index], self._velocities[index]
        gradient, rate = tf.cast(_dense(gradient, variable), kind), tf.cast(learning_rate, kind)
        step = tf.cast(self.iterations.value, kind) + 1
        self.assign(m, self.beta_1 * m + (1 - self.beta_1) * gradient)
        self.assign(v, self.beta_2 * v + (1 - self.beta_2) * tf.square(gradient))
        first, second = m / (1 - tf.pow(self.beta_1, step)), v / (1 - tf.pow(self.beta_2, step))
        update = first / (tf.sqrt(second) + self.epsilon)
        if self.decays_variable(variable):
            update += self.decay * variable
        size, change = tf.norm(tf.convert_to_tensor(variable)), tf.norm(update)
        ratio = tf.where((size > 0) & (change > 0), size / tf.where(change > 0, change, 1.0), 1.0)
        self.assign_sub(variable, ratio * rate * update)


class Lamb(LossScaled, Gated, _DecayingLamb):
    """You et al. 2020, algorithm 2: each variable x moves by lr·‖x‖/‖r‖·r with r = m̂/(√v̂ + ε) + λ·x."""

    decay_apart = False


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adamw": Adam,
    "adam": Adam,
    "sgd": SGD,
    "adadelta": lambda **options: Adadelta(rho=0.95, **options),
    "lamb": Lamb,
}
# Decay where a stage names none: that of BERT's own optimizer, and of LAMB's paper.
DECAY = {"adamw": 0.01, "lamb": 0.01}


def make_optimizer(
    name: str,
    schedule: WarmupLinear,
    *,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    epsilon: float | None = None,
    scaled: bool = False,
    static: bool = False,
    **options: Any,
) -> Any:
    """An optimizer by name. Raises UserError for an unknown one.

    Args:
        epsilon: of Adam, if not Keras' own 1e-7.
        scaled: with a loss scale, as fp16 needs.
        static: without shapes that depend on the data, as XLA needs.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer '{name}' is unknown; expected one of {', '.join(OPTIMIZERS)}")
    optimizer = OPTIMIZERS[name](learning_rate=schedule, global_clipnorm=clip_norm, **options)
    optimizer.decay = DECAY.get(name, 0.0) if weight_decay is None else weight_decay
    optimizer.scaled = scaled
    if isinstance(optimizer, FusedAdam):
        optimizer.static = static
        optimizer.epsilon = optimizer.epsilon if epsilon is None else epsilon
    return optimizer
