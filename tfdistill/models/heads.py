"""The tasks of models, and the heads that compute their logits."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfdistill.models.layers import ACTIVATIONS, Composite, Linear, initializer


class LinearHead(Linear):
    """Compute logits (..., C) by one dense layer, in float32 even under mixed precision, since softmax needs the range."""

    def __init__(self, outputs: int, kernel_initializer: Any, name: str = "head"):
        super().__init__(outputs, kernel_initializer=kernel_initializer, dtype="float32", name=name)


class MaskedLMHead(Composite):
    """Score the vocabulary: dense, activation, LayerNorm, the product with the word table (V, E) it is tied to, and a bias.

    If the table is narrower than the hidden states, the dense layer is as wide as the table in ELECTRA and ALBERT; in
    MobileBERT (128 of 512) further weights (H - E, V) make up the rest.

    Args:
        config: the encoder's sizes.
        table_width: E.
    """

    def __init__(self, config: Any, table_width: int, **kwargs: Any):
        super().__init__(**kwargs)
        width = table_width if getattr(config, "projects_sum", False) else config.hidden_size
        vocab_size = config.vocab_size
        self.transform = Linear(
            width,
            ACTIVATIONS[getattr(config, "masked_lm_act", None) or config.hidden_act],
            kernel_initializer=initializer(config.initializer_range),
            dtype=self.dtype_policy,
            name="transform",
        )
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.rest = None
        if table_width < width:
            self.rest = self.add_weight(
                shape=(width - table_width, vocab_size),
                initializer=initializer(config.initializer_range),
                name="rest",
            )
        self.bias = self.add_weight(shape=(vocab_size,), initializer="zeros", name="bias")

    def call(self, hidden: Any, table: Any, positions: Any = None) -> Any:
        """Return float32 logits (B, L, V), or (B, K, V) with `positions`.

        Args:
            hidden: hidden states (B, L, H) of the last layer.
            table: the word table (V, E).
            positions: int32 (B, K), the positions to compute; None computes all.
        """
        if positions is not None:
            hidden = tf.gather(hidden, positions, axis=1, batch_dims=1)
        hidden = self.norm(self.transform(hidden))
        shape = ops.shape(hidden)
        flat = ops.reshape(hidden, (-1, shape[-1]))
        table = ops.cast(table, flat.dtype)
        width = table.shape[1]
        logits = tf.matmul(flat[:, :width], table, transpose_b=True)
        if self.rest is not None:
            logits = logits + ops.matmul(flat[:, width:], ops.cast(self.rest, flat.dtype))
        logits = ops.cast(logits, "float32") + ops.cast(self.bias, "float32")
        return ops.reshape(logits, (*shape[:-1], table.shape[0]))
