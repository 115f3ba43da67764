"""Head pruning (Michel, Levy and Neubig 2019, "Are Sixteen Heads Really Better than One?")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.compress.importance import Batches, TaskLoss, mean_absolute
from tfdistill.compress.structured import Kept, cut, everything, sizes_of, zero
from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel

# (layer from 1, head from 0)
Head = tuple[int, int]


def head_importance(model: TextModel, batches: Batches, loss: TaskLoss, normalize: bool = True) -> list[np.ndarray]:
    """I_h = E|∂L(x)/∂ξ_h|, where ξ_h is a factor (of value 1) on the output of head h (section 4.1). One (A,) for each layer.

    The expectation runs over examples, each with its own gradient: every row has gates of its own. Nothing drops out.

    Args:
        batches: with "student" and "labels".
        loss: per example, (logits, labels) -> (B,).
        normalize: divide each layer's by its L2 norm, as in the paper (Molchanov et al. 2017).
    """
    shapes = [sizes_of(model).layer_shape(n).heads for n in range(1, model.num_layers + 1)]

    @tf.function(reduce_retracing=True)
    def gradient(inputs: Any, labels: Any) -> list[Any]:
        rows = tf.shape(inputs["token_ids"])[0]
        gates = tuple(tf.ones([rows, heads]) for heads in shapes)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)
            logits = model({**inputs, "head_gates": gates}, training=False)
            # The sum: so row b of a gate gets the gradient of example b alone.
            value = tf.reduce_sum(loss(tf.cast(logits, tf.float32), labels))
        return [tf.reduce_mean(tf.abs(one), axis=0) for one in tape.gradient(value, gates)]

    found = mean_absolute(gradient, batches, weigh=True)
    return l2_normalized(found) if normalize else found


def l2_normalized(importance: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each layer's importance divided by its L2 norm; a layer of zeros stays."""
    return [one / (np.linalg.norm(one) or 1.0) for one in importance]


def lowest_heads(
    importance: Sequence[np.ndarray], count: int, spare: Collection[Head] = (), at_least: int = 1
) -> list[Head]:
    """The `count` least important heads over all layers, the least one first.

    Args:
        importance: one (A,) for each layer.
        spare: heads that are gone already and not to be counted.
        at_least: how many heads each layer keeps. Fewer than `count` come back when no more may go.
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
            f"head {wrong[0][1]} of layer {wrong[0][0]} is not there; expected heads such as {sorted(there)[-1]}"
        )
    layers = []
    for number, layer in full.layers:
        stay = tuple(head for head in layer.heads if (number, head) not in heads)
        if not stay:
            raise UserError(f"all heads of layer {number} were to go; keep at least one, or drop the layer (layerdrop)")
        kept = replace(
            layer,
            heads=stay,
            query_key=tuple(layer.query_key[head] for head in stay),
            value=tuple(layer.value[head] for head in stay),
        )
        layers.append((number, kept))
    return replace(full, layers=tuple(layers))


def prune_heads(model: TextModel, heads: Collection[Head]) -> TextModel:
    """A new, smaller model without `heads`, pairs (layer from 1, head from 0), and with the output of `model` with them masked."""
    return cut(model, _without(model, heads))


def zero_heads(model: TextModel, heads: Collection[Head]) -> None:
    """Set `heads` to zero in place. They stay so in training; `compact` cuts them out."""
    zero(model, _without(model, heads))


@dataclass(frozen=True)
class PruningStep:
    """The model after so many heads were removed, and its score."""

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
    """Set the least important heads of `model` to zero, in place, in steps, while its score stays good enough.

    Args:
        importance: of the model as it stands, as `head_importance` gives it.
        score: of the model on dev; higher is better.
        share: goes on while score ≥ share · (score with all heads).
        step: share of all heads removed at each step (paper: 10 %).
        at_least: heads that each layer keeps.
        recompute: ask for the importance again after each step; the paper's order is that of the full model.

    Returns:
        One entry for each step tried, the untouched model first. The model is left at the last that was good enough: entry -1
        if all steps were, else entry -2.
    """
    if not 0 < step <= 1 or not 0 <= share <= 1:
        raise UserError(f"step is {step} and share is {share}; expected shares of 1")
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
    """Heads by layer, for logs: {layer from 1: [head from 0, ...]}."""
    layers = sorted({layer for layer, _ in heads})
    return {layer: sorted(head for number, head in heads if number == layer) for layer in layers}
