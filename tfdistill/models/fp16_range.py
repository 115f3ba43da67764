"""How near a model comes to the end of fp16's range."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.distill.features import FEATURES, features_of
from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel


def largest_values(model: TextModel, inputs: Any) -> dict[str, float]:
    """The largest absolute value of each of the model's features for these inputs; not finite where fp16 did not hold it.

    Layers are numbered from 1: "hidden_states 3".
    """
    names = [name for name in FEATURES if name in model.offers]
    said = features_of(model, inputs, names, training=False)
    found: dict[str, float] = {}
    for name in names:
        value = getattr(said, name)
        parts = enumerate(value, 1) if isinstance(value, tuple) else [("", value)]
        found |= {f"{name} {number}".strip(): float(tf.reduce_max(tf.abs(part))) for number, part in parts}
    return found


def check_range(model: TextModel, who: str, inputs: Any) -> dict[str, Any]:
    """{"fp16_largest": value, "fp16_largest_in": feature} for the log. Raises UserError where a feature has left the range."""
    found = largest_values(model, inputs)
    name, value = max(found.items(), key=lambda item: item[1] if np.isfinite(item[1]) else np.inf)
    if not np.isfinite(value):
        raise UserError(
            f"{name} of the {who} left the range of fp16 (±65,504); expected smaller values: --precision bf16 or float32"
        )
    return {"fp16_largest": value, "fp16_largest_in": name}
