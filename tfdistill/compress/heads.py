"""Head pruning (Michel, Levy and Neubig 2019, "Are Sixteen Heads Really Better than One?")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.compress.importance import Batches, TaskLoss, mean_absolute
from tfdistill.compress.structured import Kept, everything, sizes_of, zero
from tfdistill.errors import UserError
from tfdistill.system.lazy import tf

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# (layer from 1, head from 0)
Head = tuple[int, int]


def head_importance(model: TextModel, batches: Batches, loss: TaskLoss, normalize: bool = True) -> list[np.ndarray]:
    """Compute I_h = E|∂L(x)/∂ξ_h|, where ξ_h is a factor (of value 1) on the output of head h (section 4.1).

    The expectation is over examples, each with a separate gradient, without dropout.

    Args:
        model: a BERT or DistilBERT.
        batches: batches with "student" and "labels".
        loss: the loss of each example, (logits, labels) -> (B,).
        normalize: divide the importance by its L2 norm in each layer, as in the paper (Molchanov et al. 2017).

    Returns:
        One (A,) for each layer.

    Raises:
        UserError: not a BERT, no batches, or gradients that are not finite.
    """
    shapes = [sizes_of(model).layer_shape(n).heads for n in range(1, model.num_layers + 1)]

    @tf.function(reduce_retracing=True)
    def gradient(inputs: Any, labels: Any) -> list[Any]:
        rows = tf.shape(inputs["token_ids"])[0]
        gates = tuple(tf.ones([rows, heads]) for heads in shapes)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)
            logits = model({**inputs, "head_gates": gates}, training=False)
            # Of the sum, so that row b of a gate gets the gradient of example b alone.
            value = tf.reduce_sum(loss(tf.cast(logits, tf.float32), labels))
        return [tf.reduce_mean(tf.abs(one), axis=0) for one in tape.gradient(value, gates)]

    importance = mean_absolute(gradient, batches, weigh=True)
    return l2_normalized(importance) if normalize else importance


def l2_normalized(importance: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Divide the importance of each layer by its L2 norm; a layer of zeros does not change."""
    return [one / (np.linalg.norm(one) or 1.0) for one in importance]


def lowest_heads(
    importance: Sequence[np.ndarray], count: int, spare: Collection[Head] = (), at_least: int = 1
) -> list[Head]:
    """Return the `count` least important heads of all layers, the least important one first.

    Args:
        importance: one (A,) for each layer.
        count: the number of heads; fewer are returned if `at_least` allows no more.
        spare: heads that are pruned already.
        at_least: the number of heads that each layer keeps.
    """
    left = [len(one) - sum(layer == number for layer, _ in spare) for number, one in enumerate(importance, 1)]
    order = sorted(
        (float(value), (number, head)) for number, one in enumerate(importance, 1) for head, value in enumerate(one)
    )
    chosen: list[Head] = []
    for _, (number, head) in order:
        if len(chosen) == count:
            break
        if (number, head) not in spare and left[number - 1] > at_least:
            chosen.append((number, head))
            left[number - 1] -= 1
    return chosen


def _without(model: TextModel, heads: Collection[Head]) -> Kept:
    full = everything(model)
    there = {(number, head) for number, layer in full.layers for head in layer.heads}
    wrong = sorted(set(heads) - there)
    if wrong:
        raise UserError(
            f"There is no head {wrong[0][1]} in layer {wrong[0][0]}. Use heads such as {sorted(there)[-1]}."
        )
    layers = []
    for number, layer in full.layers:
        stay = tuple(head for head in layer.heads if (number, head) not in heads)
        if not stay:
            raise UserError(f"No head of layer {number} is left. Keep at least one, or drop the layer (layerdrop).")
        kept = replace(
            layer,
            heads=stay,
            query_key=tuple(layer.query_key[head] for head in stay),
            value=tuple(layer.value[head] for head in stay),
        )
        layers.append((number, kept))
    return replace(full, layers=tuple(layers))


def zero_heads(model: TextModel, heads: Collection[Head]) -> None:
    """Set heads, pairs (layer from 1, head from 0), to zero in place; `compact` cuts them out.

    Raises:
        UserError: a head that does not exist, or no head left in a layer.
    """
    zero(model, _without(model, heads))


@dataclass(frozen=True)
class PruningStep:
    """Record one step of `prune_while_good`.

    Args:
        removed: all heads removed so far.
        score: of the model without them.
    """

    removed: tuple[Head, ...]
    score: float


def prune_while_good(
    model: TextModel,
    importance: Callable[[TextModel], Sequence[np.ndarray]],
    score: Callable[[TextModel], float],
    *,
    share: float = 0.9,
    step: float = 0.1,
    at_least: int = 1,
    recompute: bool = False,
) -> list[PruningStep]:
    """Set the least important heads to zero, in place, in steps, while the model's score stays good enough.

    Args:
        model: a BERT or DistilBERT.
        importance: computes the importance of the model's heads, as `head_importance` does.
        score: computes the model's score on dev; higher is better.
        share: a step is good enough if score ≥ share · (score with all heads).
        step: the share of all heads that is removed at each step (10 % in the paper).
        at_least: the number of heads that each layer keeps.
        recompute: compute the importance again after each step; the paper uses that of the full model.

    Returns:
        One entry for each step tried, the full model first. The model is that of the last good entry:
        the last entry if all were good, else the one before it.

    Raises:
        UserError: `step` or `share` is not a share.
    """
    if not 0 < step <= 1 or not 0 <= share <= 1:
        raise UserError(f"`step` is {step} and `share` is {share}. Use shares from 0 to 1, and `step` above 0.")
    values = importance(model)
    steps = [PruningStep((), score(model))]
    each = max(1, round(step * sum(len(one) for one in values)))
    while True:
        gone = steps[-1].removed
        if recompute and gone:
            values = importance(model)
        more = lowest_heads(values, each, spare=gone, at_least=at_least)
        if not more:
            return steps
        before = model.get_weights()
        zero_heads(model, (*gone, *more))
        steps.append(PruningStep((*gone, *more), score(model)))
        if steps[-1].score < share * steps[0].score:
            model.set_weights(before)
            return steps


def named(heads: Collection[Head]) -> Mapping[int, list[int]]:
    """Return heads by layer, for logs: {layer from 1: [head from 0, ...]}."""
    layers = sorted({layer for layer, _ in heads})
    return {layer: sorted(head for number, head in heads if number == layer) for layer in layers}
