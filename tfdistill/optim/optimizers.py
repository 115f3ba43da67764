"""Make optimizers that can freeze variables and restart without another compilation."""

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
    """A dense gradient from a sparse one: Keras would square the uses of a row one by one."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])


class _DenseAdadelta(keras.optimizers.Adadelta):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(_dense(gradient, variable), variable, learning_rate)


class Adadelta(LossScaled, Gated, _DenseAdadelta):
    """Zeiler 2012."""


class _DecayingLamb(keras.optimizers.Lamb):
    """LAMB with weight decay inside the trust ratio, unlike in Keras."""

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
# Weight decay by default, as in BERT's own optimizer and in LAMB's paper.
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
    """Return an optimizer by its name.

    Args:
        name: a key of `OPTIMIZERS`.
        schedule: the learning rate.
        weight_decay: by default the value in `DECAY`, or 0.
        clip_norm: largest global norm of the gradient; None does not clip.
        epsilon: Adam's ε; by default Keras' 1e-7.
        scaled: whether to use a loss scale, as fp16 needs.
        static: avoid shapes that depend on the data, as XLA needs.

    Raises:
        UserError: unknown name.
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
