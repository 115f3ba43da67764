"""Check how close the features of a model come to the largest number of fp16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.distill.features import FEATURES, features_of
from tfdistill.errors import UserError
from tfdistill.system.lazy import tf

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def largest_values(model: TextModel, inputs: Any) -> dict[str, float]:
    """Return the largest absolute value of each feature, such as "hidden_states 3"; not finite if it overflowed."""
    names = [name for name in FEATURES if name in model.offers]
    features = features_of(model, inputs, names, training=False)
    largest: dict[str, float] = {}
    for name in names:
        value = getattr(features, name)
        parts = enumerate(value, 1) if isinstance(value, tuple) else [("", value)]
        largest |= {f"{name} {number}".strip(): float(tf.reduce_max(tf.abs(part))) for number, part in parts}
    return largest


def check_range(model: TextModel, who: str, inputs: Any) -> dict[str, Any]:
    """Return {"fp16_largest": value, "fp16_largest_in": feature} for the log.

    Args:
        model: a model that computes in fp16.
        who: "student" or "teacher", for messages.
        inputs: int32 (B, L) each.

    Raises:
        UserError: a feature overflowed.
    """
    largest = largest_values(model, inputs)
    name, value = max(largest.items(), key=lambda item: item[1] if np.isfinite(item[1]) else np.inf)
    if not np.isfinite(value):
        raise UserError(
            f"{name} of the {who} overflowed fp16 (largest number 65,504). Use `--precision bf16` or `float32`."
        )
    return {"fp16_largest": value, "fp16_largest_in": name}
