"""What importance scores share: batches in, and the gradient of a task's loss over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel
from tfdistill.system.workers import on_one_replica

# As `tfdistill.data.batching.dataset` gives them: "student" (model inputs) and "labels".
Batches = Iterable[Mapping[str, Any]]
# (logits (B, C), labels (B,)) -> (B,), as in `tfdistill.losses`.
TaskLoss = Callable[[Any, Any], Any]


def mean_absolute(
    gradient: Callable[[Mapping[str, Any], Any], list[Any]], batches: Batches, weigh: bool
) -> list[np.ndarray]:
    """Mean over `batches` of what `gradient(inputs, labels)` returns, a list of tensors; `weigh` them by their rows.

    Raises UserError for no batches, or for values that are not finite.
    """
    total: list[np.ndarray] | None = None
    count, gradient = 0, on_one_replica(gradient)
    for batch in batches:
        if batch.get("labels") is None:
            raise UserError("importance is a gradient of the loss on labels; the batches have none")
        rows = int(batch["labels"].shape[0]) if weigh else 1
        found = [np.asarray(value, "float64") * rows for value in gradient(batch["student"], batch["labels"])]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        count += rows
    if total is None:
        raise UserError("importance needs data; received no batches")
    if not all(np.isfinite(value).all() for value in total):
        raise UserError("the gradients are not finite; the model is broken (NaN weights?), train it again")
    return [value / count for value in total]


def weight_saliency(model: TextModel, batches: Batches, loss: TaskLoss, variables: list[Any]) -> list[np.ndarray]:
    """E|w·∂L/∂w| for each weight of `variables`: L is the mean loss of a batch, E the mean over batches.

    First-order Taylor expansion of what the loss changes when w becomes 0 (Molchanov et al. 2017). Batches of one
    row give the expectation over examples; larger ones let the signs within a batch cancel, and cost less.
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
