"""LayerDrop (Fan, Grave and Joulin 2020, "Reducing Transformer Depth on Demand with Structured Dropout").

Training skips each layer with probability p (`BertConfig.layerdrop`, .2 in the paper); afterwards the model can be
pruned to any depth without more training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tfdistill.compress.structured import cut, everything
from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel


def layers_at_rate(num_layers: int, rate: float) -> tuple[int, ...]:
    """Layers 1..num_layers that stay when d ≡ 0 mod ⌊1/rate⌋ are dropped ("every other" pruning, section 3.3).

    Raises UserError for a rate over 1/2: there the rule drops every layer; `layers_at_depth` goes on.

    >>> layers_at_rate(6, 0.5)
    (1, 3, 5)
    """
    if not 0 < rate <= 0.5:
        raise UserError(f"the pruning rate is {rate}; expected more than 0 and at most 0.5, or name a depth instead")
    # 1/3 as a float must give 3.
    every = int(1 / rate + 1e-9)
    return tuple(d for d in range(1, num_layers + 1) if d % every)


def layers_at_depth(num_layers: int, depth: int) -> tuple[int, ...]:
    """Layers that stay for a model of `depth` layers: the j-th of the D dropped ones is ⌊j·N/D⌋.

    Where D = N - depth divides N these are the layers of `layers_at_rate` with rate D/N; for other depths the same spacing.

    >>> layers_at_depth(12, 4)
    (2, 5, 8, 11)
    """
    if not 1 <= depth <= num_layers:
        raise UserError(f"depth {depth} was asked for; expected 1..{num_layers}, the model has {num_layers} layers")
    dropped = num_layers - depth
    gone = {j * num_layers // dropped for j in range(1, dropped + 1)}
    return tuple(d for d in range(1, num_layers + 1) if d not in gone)


def keep_layers(model: TextModel, layers: Sequence[int]) -> TextModel:
    """A new model with only `layers` (numbered from 1, in order) of `model`, weights copied, LayerDrop off.

    Raises UserError for layers that are not there, or are not in ascending order.
    """
    layers = [int(layer) for layer in layers]
    if not layers or layers != sorted(set(layers)) or not 1 <= layers[0] <= layers[-1] <= model.num_layers:
        raise UserError(f"layers {layers} were asked for; expected some of 1..{model.num_layers}, ascending")
    full = everything(model)
    return cut(model, replace(full, layers=tuple(full.layers[layer - 1] for layer in layers)))


def with_layerdrop(model: TextModel, rate: float) -> TextModel:
    """A copy of `model` whose training skips each layer with probability `rate`. Inference is unchanged."""
    return cut(model, everything(model), layerdrop=rate)
