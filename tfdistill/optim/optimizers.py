"""Optimizers whose variables can be held still, and that can start again, without another compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdistill.optim.adam import FusedAdam, row_sums
from tfdistill.errors import UserError
from tfdistill.optim.loss_scale import LossScaled, times


class WarmupLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to `peak` over `warmup` steps, then linear to 0 at `total` steps. `set` gives it new numbers."""

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


class Gated:
    """Gives a Keras optimizer one learning-rate factor for each variable: 0 holds it still, 1 trains it as usual.

    The factors are variables, so that stages with other frozen parts share one compiled step. Held variables neither
    decay nor count in the gradient norm. `decay` is decoupled weight decay, as in AdamW (Loshchilov and Hutter 2019).
    """

    decay_apart: bool = True  # False for optimizers whose own step has it
    gated: bool = True  # False leaves the factors out: a step without them is smaller and faster
    decay: float = 0.0
    factors: Any = None
    decays: tuple[bool, ...] = ()

    def build(self, variables: list[Any]) -> None:
        super().build(variables)  # type: ignore[misc]
        self.factors = tf.Variable(tf.ones([len(variables)]), trainable=False, name="learning_rate_factors")
        # As BERT does: biases and norms (vectors by these names) are not decayed. Nor are tables, of which a step reads a
        # few rows only.
        self.decays = tuple(not any(p in v.name for p in ("bias", "gamma", "beta", "embeddings")) for v in variables)

    def restart(self) -> None:
        """Step number and moments back to zero, as a new optimizer has them."""
        for variable in self.variables:  # type: ignore[attr-defined]
            variable.assign(tf.zeros_like(variable))

    def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)  # type: ignore[attr-defined]
        grads = _over_replicas(grads, variables)
        if not self.gated:
            super().apply(grads, variables)  # type: ignore[misc]
            return
        held = [tf.cast(self._factor(variable) > 0, tf.float32) for variable in variables]
        super().apply([times(g, h) for g, h in zip(grads, held, strict=True)], variables)  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        # Done in `apply`: Keras sums after clipping, and so clips the share of each replica by itself.
        return list(grads_and_vars)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = tf.cast(learning_rate, tf.float32)
        if self.gated:
            rate *= self._factor(variable)
        if self.decay_apart and self.decays_variable(variable):
            self.assign_sub(variable, variable * tf.cast(self.decay * rate, variable.dtype))  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def decays_variable(self, variable: Any) -> bool:
        return bool(self.decay) and self.decays[self._get_variable_index(variable)]  # type: ignore[attr-defined]

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        # Keras writes the norm as a square and a sum, and so goes twice over all gradients.
        if self.global_clipnorm:  # type: ignore[attr-defined]
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]  # type: ignore[attr-defined]
        return super()._clip_gradients(grads)  # type: ignore[misc]

    def _factor(self, variable: Any) -> Any:
        return tf.convert_to_tensor(self.factors)[self._get_variable_index(variable)]  # type: ignore[attr-defined]


def positions_once(gradients: list[Any], variables: list[Any]) -> list[Any]:
    """Gradients that were put together of parts of a batch, as the whole batch has them.

    In the norm that clips, each use of a table's row counts by itself, as in BERT's own code. A position is used once in a batch, but
    once by each part: these are added up.
    """
    return [_rows_once(g) if "position" in v.path else g for g, v in zip(gradients, variables, strict=True)]


def _over_replicas(gradients: list[Any], variables: list[Any]) -> list[Any]:
    """The sums of the replicas' gradients."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(gradients)
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, [g for g in gradients if g is not None]))
    return positions_once([None if gradient is None else next(summed) for gradient in gradients], variables)


def _rows_once(gradient: Any) -> Any:
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, values = row_sums(gradient.indices, gradient.values, once=True)
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


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
