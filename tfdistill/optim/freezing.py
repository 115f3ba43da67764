"""Freeze variables inside one compiled step, and sum gradients over replicas."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdistill.optim.adam import row_sums
from tfdistill.optim.loss_scale import times


class Gated:
    """Gives a Keras optimizer a learning-rate factor for each variable: 0 freezes it, 1 trains it as usual.

    The factors are variables, so that stages with other frozen parts share one compiled step. Frozen variables neither
    decay nor count in the gradient norm.

    Attributes:
        decay: decoupled weight decay, as in AdamW (Loshchilov and Hutter 2019).
        decay_apart: False for optimizers whose own update includes the decay.
        gated: False leaves out the factors; a step without them is smaller and faster.
        factors: one factor for each variable, in the order of `build`.
    """

    decay: float = 0.0
    decay_apart: bool = True
    gated: bool = True
    factors: Any = None
    decays: tuple[bool, ...] = ()

    def build(self, variables: list[Any]) -> None:
        super().build(variables)  # type: ignore[misc]
        self.factors = tf.Variable(tf.ones([len(variables)]), trainable=False, name="learning_rate_factors")
        # As in BERT, biases and the vectors of norms do not decay. Nor do embedding tables: a step reads few of their rows.
        self.decays = tuple(not any(p in v.name for p in ("bias", "gamma", "beta", "embeddings")) for v in variables)

    def restart(self) -> None:
        """Reset step number and moments, as in a new optimizer."""
        for variable in self.variables:  # type: ignore[attr-defined]
            variable.assign(tf.zeros_like(variable))

    def apply(self, grads: list[Any], trainable_variables: Any = None) -> None:
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)  # type: ignore[attr-defined]
        grads = _over_replicas(grads, variables)
        if self.gated:
            trained = [tf.cast(self._factor(variable) > 0, tf.float32) for variable in variables]
            grads = [times(gradient, factor) for gradient, factor in zip(grads, trained, strict=True)]
        super().apply(grads, variables)  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        # `apply` has summed them. Keras sums after clipping, and so clips each replica's share by itself.
        return list(grads_and_vars)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = tf.cast(learning_rate, tf.float32)
        if self.gated:
            rate *= self._factor(variable)
        if self.decay_apart and self.decays_variable(variable):
            self.assign_sub(variable, variable * tf.cast(self.decay * rate, variable.dtype))  # type: ignore[attr-defined]
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def decays_variable(self, variable: Any) -> bool:
        """Return whether weight decay applies to a variable."""
        return bool(self.decay) and self.decays[self._get_variable_index(variable)]  # type: ignore[attr-defined]

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        # Keras computes the norm as a square and a sum, and so reads all gradients twice.
        if self.global_clipnorm:  # type: ignore[attr-defined]
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]  # type: ignore[attr-defined]
        return super()._clip_gradients(grads)  # type: ignore[misc]

    def _factor(self, variable: Any) -> Any:
        return tf.convert_to_tensor(self.factors)[self._get_variable_index(variable)]  # type: ignore[attr-defined]


def positions_once(gradients: list[Any], variables: list[Any]) -> list[Any]:
    """Return gradients summed over parts of a batch with one row for each position, as in the whole batch's gradients.

    The clipping norm counts each use of a table's row by itself, as in BERT's own code. The whole batch uses a position
    once, but every part uses it once, too; so the rows of a position are added up.
    """
    return [_rows_once(g) if "position" in v.path else g for g, v in zip(gradients, variables, strict=True)]


def _over_replicas(gradients: list[Any], variables: list[Any]) -> list[Any]:
    """The gradients summed over replicas."""
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
