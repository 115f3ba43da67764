"""LayerDrop (Fan, Grave and Joulin 2020, "Reducing Transformer Depth on Demand with Structured Dropout").

Training skips each layer with probability p (`BertConfig.layerdrop`, 0.2 in the paper). Afterwards
the model can be pruned to any depth without more training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tfdistill.compress.structured import cut, everything
from tfdistill.errors import UserError

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def layers_at_rate(num_layers: int, rate: float) -> tuple[int, ...]:
    """Return the layers that stay when all d ≡ 0 mod ⌊1/rate⌋ are dropped ("every other" pruning, section 3.3).

    Args:
        num_layers: the number of layers, numbered from 1.
        rate: the share of layers to drop.

    Raises:
        UserError: a rate above 1/2, where the rule would drop every layer; see `layers_at_depth`.

    >>> layers_at_rate(6, 0.5)
    (1, 3, 5)
    """
    if not 0 < rate <= 0.5:
        raise UserError(f"The pruning rate is {rate}. Use more than 0 and at most 0.5, or a depth.")
    # 1/3 as a float should give 3.
    every = int(1 / rate + 1e-9)
    return tuple(d for d in range(1, num_layers + 1) if d % every)


def layers_at_depth(num_layers: int, depth: int) -> tuple[int, ...]:
    """Return the layers that stay in a model of `depth` layers: the j-th of the D dropped ones is ⌊j·N/D⌋.

    If D = N - depth divides N these are the layers of `layers_at_rate` with rate D/N; other depths get the
    same spacing.

    Args:
        num_layers: N, the number of layers, numbered from 1.
        depth: the number of layers that stay.

    Raises:
        UserError: a depth that is not in 1..N.

    >>> layers_at_depth(12, 4)
    (2, 5, 8, 11)
    """
    if not 1 <= depth <= num_layers:
        raise UserError(f"The depth is {depth}. Use 1..{num_layers}, since the model has {num_layers} layers.")
    dropped = num_layers - depth
    gone = {j * num_layers // dropped for j in range(1, dropped + 1)}
    return tuple(d for d in range(1, num_layers + 1) if d not in gone)


def keep_layers(model: TextModel, layers: Sequence[int]) -> TextModel:
    """Return a new model with some layers of `model`, numbered from 1, weights copied, without LayerDrop.

    Raises:
        UserError: layers that do not exist, or are not ascending.
    """
    layers = [int(layer) for layer in layers]
    if not layers or layers != sorted(set(layers)) or not 1 <= layers[0] <= layers[-1] <= model.num_layers:
        raise UserError(f"`layers` is {layers}. Use some of 1..{model.num_layers}, ascending.")
    full = everything(model)
    return cut(model, replace(full, layers=tuple(full.layers[layer - 1] for layer in layers)))


def with_layerdrop(model: TextModel, rate: float) -> TextModel:
    """Return a copy of `model` whose training skips each layer with probability `rate`; inference is the same."""
    return cut(model, everything(model), layerdrop=rate)
