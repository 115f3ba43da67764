"""What `keras.Model.export` needs to know of a `TextModel`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.models.layers import gelu
from tfdistill.models.limits import most_tokens

_LONGEST = 128  # tokens of a fixed input, where the model itself has no limit


def input_signature(config: Any, export_format: str) -> list[dict[str, keras.InputSpec]]:
    """Return int32 inputs of any batch and length; for LiteRT one example of the longest length."""
    shape = (1, most_tokens(config, _LONGEST)) if export_format == "litert" else (None, None)
    names = ("token_ids", "padding_mask", "segment_ids")
    return [{name: keras.InputSpec(shape=shape, dtype="int32", name=name) for name in names}]


@contextmanager
def convertible(model: Any) -> Iterator[None]:
    """Let the LiteRT converter recognise GELU: written with erf it would need TensorFlow's operators on the phone.

    Raises:
        UserError: a BiLSTM, whose loop the converter of Keras cannot express.
    """
    if model.family == "bilstm":
        raise UserError(
            "Keras cannot convert a BiLSTM to LiteRT. Use `tfdistill export`, which makes one operator of it."
        )
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "activation", None) is gelu]
    for layer in layers:
        layer.activation = tf.nn.gelu
    try:
        yield
    finally:
        for layer in layers:
            layer.activation = gelu
