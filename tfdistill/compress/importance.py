"""Average gradients of a task's loss over batches, for importance scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.system.lazy import tf
from tfdistill.system.workers import on_one_replica

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# As from `tfdistill.data.batching.dataset`: "student" (model inputs, int32 (B, L) each) and "labels".
Batches = Iterable[Mapping[str, Any]]
# (logits (B, C), labels (B,)) -> (B,), as in `tfdistill.losses`.
TaskLoss = Callable[[Any, Any], Any]


def mean_absolute(
    gradient: Callable[[Mapping[str, Any], Any], list[Any]], batches: Batches, weigh: bool
) -> list[np.ndarray]:
    """Return the mean over batches of a list of tensors.

    Args:
        gradient: (inputs, labels) -> the tensors of one batch.
        batches: the batches.
        weigh: whether batches count by their number of examples.

    Raises:
        UserError: no batches, no labels, or values that are not finite.
    """
    total: list[np.ndarray] | None = None
    count, gradient = 0, on_one_replica(gradient)
    for batch in batches:
        if batch.get("labels") is None:
            raise UserError(
                "Importance is a gradient of the loss on labels, and the batches have none. Use labelled data."
            )
        rows = int(batch["labels"].shape[0]) if weigh else 1
        values = [np.asarray(value, "float64") * rows for value in gradient(batch["student"], batch["labels"])]
        total = values if total is None else [a + b for a, b in zip(total, values, strict=True)]
        count += rows
    if total is None:
        raise UserError("Importance needs data. Received no batches.")
    if not all(np.isfinite(value).all() for value in total):
        raise UserError("The gradients are not finite. The model is broken (NaN weights?): train it again.")
    return [value / count for value in total]


def weight_saliency(model: TextModel, batches: Batches, loss: TaskLoss, variables: list[Any]) -> list[np.ndarray]:
    """Compute E|w·∂L/∂w| of each weight: L is the mean loss of a batch, E the mean over batches.

    This is the first-order Taylor expansion of the change of the loss if w becomes 0 (Molchanov et al.
    2017). With one example in a batch the expectation is over examples; in larger batches signs cancel,
    which costs less.

    Args:
        model: the model.
        batches: batches with "student" and "labels".
        loss: the loss of each example, (logits, labels) -> (B,).
        variables: the weights.

    Returns:
        An array of its shape for each variable.
    """

    @tf.function(reduce_retracing=True)
    def saliency(inputs: Any, labels: Any) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            value = tf.reduce_mean(loss(tf.cast(model(inputs, training=False), tf.float32), labels))
        gradients = tape.gradient(value, [variable.value for variable in variables])
        return [
            tf.zeros_like(variable.value) if one is None else tf.abs(variable.value * tf.convert_to_tensor(one))
            for variable, one in zip(variables, gradients, strict=True)
        ]

    return mean_absolute(saliency, batches, weigh=False)
