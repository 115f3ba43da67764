"""Neuron pruning: narrower queries, keys, values, feed-forward layers and poolers, and a narrower residual stream.

Neurons are ranked by first-order Taylor expansion, Σ E|w·∂L/∂w| over the weights of a neuron
(Molchanov et al. 2017), or by magnitude, Σ|w|, and the lowest are removed in steps during
fine-tuning. See `tfdistill.compress.structured` for what can be cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfdistill.compress.importance import Batches, TaskLoss, weight_saliency
from tfdistill.compress.structured import Kept, cut, everything, sizes_of, zero
from tfdistill.errors import UserError
from tfdistill.models.tasks import HEADS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

Measure = Literal["taylor", "magnitude"]


@dataclass(frozen=True)
class Widths:
    """Set target sizes; None keeps the present size.

    Args:
        query_key: size of one head's query and key.
        value: size of one head's value.
        intermediate: size of the feed-forward layer.
        pooler: size of the pooler.
        hidden: size of the residual stream.
    """

    query_key: int | None = None
    value: int | None = None
    intermediate: int | None = None
    pooler: int | None = None
    hidden: int | None = None


@dataclass(frozen=True)
class Importance:
    """Hold the importance of each neuron.

    Args:
        query_key: (heads, neurons) for each layer.
        value: (heads, neurons) for each layer.
        intermediate: (neurons,) for each layer.
        pooler: (neurons,), empty if there is no pooler.
        hidden: (H,).
    """

    query_key: list[np.ndarray]
    value: list[np.ndarray]
    intermediate: list[np.ndarray]
    pooler: np.ndarray
    hidden: np.ndarray


def neuron_importance(
    model: TextModel, batches: Batches = (), loss: TaskLoss | None = None, measure: Measure = "taylor"
) -> Importance:
    """Compute the importance of all neurons of a model.

    The weights of a neuron are those that compute it, with its bias, and those that read it. Query and
    key neurons count in pairs. The weights of a residual dimension are all that write or read it.

    Args:
        model: a BERT or DistilBERT.
        batches: batches with "student" and "labels", for "taylor".
        loss: the loss of each example, (logits, labels) -> (B,), for "taylor".
        measure: "taylor" or "magnitude".

    Raises:
        UserError: not a BERT, an unknown measure, or "taylor" without data and loss.
    """
    sizes = sizes_of(model)
    if measure not in ("taylor", "magnitude"):
        raise UserError(f"`measure` '{measure}' is unknown. Use 'taylor' or 'magnitude'.")
    if HEADS[model.task].over_vocabulary:
        raise UserError(
            f"Neurons of a model for '{model.task}' cannot be ranked. Prune it after fine-tuning on a task."
        )
    variables = model.trainable_variables
    if measure == "magnitude":
        scores = [np.abs(variable.numpy()).astype("float64") for variable in variables]
    elif loss is None:
        raise UserError("The measure 'taylor' needs batches and a loss. Pass them, or use measure='magnitude'.")
    else:
        scores = weight_saliency(model, batches, loss, variables)
    of = {id(variable): score for variable, score in zip(variables, scores, strict=True)}

    def computing(dense: Any) -> np.ndarray:
        return of[id(dense.kernel)].sum(axis=0) + of[id(dense.bias)]

    def reading(dense: Any) -> np.ndarray:
        return of[id(dense.kernel)].sum(axis=1)

    def norm(layer: Any) -> np.ndarray:
        return of[id(layer.gamma)] + of[id(layer.beta)]

    encoder = model.encoder
    embeddings, pooler = encoder.embeddings, encoder.pooler
    projection = embeddings.word_projection
    if embeddings.projects_sum:
        hidden = computing(projection)
    else:
        tables = [embeddings.position.embeddings]
        tables += [embeddings.word.embeddings if projection is None else projection.kernel]
        tables += [embeddings.token_type.embeddings] if embeddings.token_type is not None else []
        hidden = norm(embeddings.norm) + sum(of[id(table)].sum(axis=0) for table in tables)
    hidden += reading(model.head if pooler is None else pooler)
    query_key, value, intermediate = [], [], []
    for number, block in enumerate(encoder.blocks, 1):
        shape = sizes.layer_shape(number)
        query_key.append((computing(block.query) + computing(block.key)).reshape(shape.heads, shape.query_key))
        value.append((computing(block.value) + reading(block.attention_output)).reshape(shape.heads, shape.value))
        intermediate.append(computing(block.intermediate) + reading(block.output_dense))
        for dense in (block.query, block.key, block.value, block.intermediate):
            hidden += reading(dense)
        hidden += computing(block.attention_output) + computing(block.output_dense)
        hidden += norm(block.attention_norm) + norm(block.output_norm)
    pooled = np.zeros(0) if pooler is None else computing(pooler) + reading(model.head)
    return Importance(query_key, value, intermediate, pooled, hidden)


def highest(importance: np.ndarray, count: int) -> tuple[int, ...]:
    """Return the positions of the `count` highest values, ascending; of equal values the first.

    >>> highest(np.array([3.0, 1.0, 2.0, 3.0]), 2)
    (0, 3)
    """
    return tuple(sorted(np.argsort(-importance, kind="stable")[:count].tolist()))


def choose(model: TextModel, importance: Importance, widths: Widths) -> Kept:
    """Return what to keep if every layer gets these widths, by importance. Narrower layers stay as they are.

    Raises:
        UserError: a width below 1.
    """
    for name, width in vars(widths).items():
        if width is not None and width < 1:
            raise UserError(f"The width `{name}` is {width}. Use at least 1.")

    def rows(scores: np.ndarray, width: int | None) -> tuple[tuple[int, ...], ...]:
        return tuple(highest(row, len(row) if width is None else width) for row in scores)

    full = everything(model)
    layers = []
    for number, layer in full.layers:
        kept = replace(
            layer,
            query_key=rows(importance.query_key[number - 1], widths.query_key),
            value=rows(importance.value[number - 1], widths.value),
            intermediate=rows(importance.intermediate[number - 1][None], widths.intermediate)[0],
        )
        layers.append((number, kept))
    return Kept(
        tuple(layers), rows(importance.hidden[None], widths.hidden)[0], rows(importance.pooler[None], widths.pooler)[0]
    )


def prune_neurons(model: TextModel, importance: Importance, widths: Widths) -> TextModel:
    """Return a new, physically smaller model of these widths, weights copied."""
    return cut(model, choose(model, importance, widths))


def zero_neurons(model: TextModel, importance: Importance, widths: Widths) -> None:
    """Set the least important neurons to zero in place, down to `widths`; `compact` cuts them out.

    Raises:
        UserError: `hidden` is set; the residual stream is cut at once, by `prune_neurons`.
    """
    if widths.hidden is not None:
        raise UserError("`hidden` cannot be set to zero, since LayerNorm would still count it. Use `prune_neurons`.")
    zero(model, choose(model, importance, widths))
