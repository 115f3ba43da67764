"""Bidirectional LSTM encoder with last-state (Tang et al. 2019) or max pooling (Mukherjee and Awadallah 2020)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.encoder import Encoder
from tfdistill.models.layers import Dropout, Embedding
from tfdistill.models.lstm import LSTM


def reverse_by_length(values: Any, lengths: Any) -> Any:
    """Reverse the first `lengths` positions of axis 1, and keep the padding after them.

    Args:
        values: (B, L) or (B, L, D).
        lengths: (B,) numbers of tokens.
    """
    positions = ops.arange(ops.shape(values)[1], dtype="int32")[None, :]
    lengths = ops.cast(lengths, "int32")[:, None]
    index = ops.where(positions < lengths, lengths - 1 - positions, positions)
    if len(values.shape) == 3:
        index = ops.expand_dims(index, -1)
    return ops.take_along_axis(values, index, axis=1)


class BiLSTMEncoder(Encoder):
    """Encode tokens: embedding, LSTM layers in both directions, pooling, dense layer.

    Padding never changes the result: the backward direction reads the ids reversed by their length,
    and pooling reads the first `length` positions only. So the LSTM needs no mask, and TFLite can fuse it.

    It offers `pooled` and one entry of `hidden_states`, the states of both directions
    (B, L, 2·lstm_size) in the order of the text. Siamese models offer `pooled` only.

    Args:
        config: the sizes.
        pooler: whether the task reads `pooled`.

    Raises:
        UserError: a siamese config for a task that reads every token.
    """

    def __init__(self, config: BiLSTMConfig, pooler: bool = True, **kwargs: Any):
        super().__init__(config, pooler, **kwargs)
        if config.pair and not pooler:
            raise UserError("A siamese BiLSTM has no states for each token. Use `pair=False` for this task.")
        self.embedding = Embedding(
            config.vocab_size, config.embedding_size, "uniform", dtype=self.dtype_policy, name="embedding"
        )

        def lstm(name: str) -> LSTM:
            return LSTM(config.lstm_size, return_sequences=True, dtype=self.dtype_policy, name=name)

        self.forward = [lstm(f"forward_{n}") for n in range(1, config.num_layers + 1)]
        self.backward = [lstm(f"backward_{n}") for n in range(1, config.num_layers + 1)]
        self.dense = None
        if pooler and config.dense_size:
            self.dense = keras.layers.Dense(config.dense_size, config.dense_act, dtype=self.dtype_policy, name="dense")
        self.dropout = Dropout(config.dropout, dtype=self.dtype_policy)

    @property
    def num_layers(self) -> int:
        """The number of entries of `hidden_states`, which does not depend on the number of LSTM layers."""
        return 0 if self.config.pair else 1

    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        layers = zip(self.forward, self.backward, strict=True)
        pooler = {} if self.dense is None else {"pooler": [self.dense]}
        return {"embeddings": [self.embedding], **{f"layer_{n}": [*pair] for n, pair in enumerate(layers, 1)}, **pooler}

    @property
    def offers(self) -> tuple[str, ...]:
        return (*(("pooled",) if self.has_pooled else ()), *(() if self.config.pair else ("hidden_states",)))

    def width(self, feature: str) -> int | None:
        if feature not in self.offers:
            return None
        states = 2 * self.config.lstm_size
        if feature == "hidden_states":
            return states
        return self.config.dense_size or states * (4 if self.config.pair else 1)

    def _states(self, token_ids: Any, lengths: Any) -> tuple[Any, Any]:
        """Return forward and backward states (B, L, lstm_size); the backward ones in the order they were computed."""
        ahead, back = self.embedding(token_ids), self.embedding(reverse_by_length(token_ids, lengths))
        for number, (forward, backward) in enumerate(zip(self.forward, self.backward, strict=True)):
            if number:
                both = ops.concatenate([ahead, reverse_by_length(back, lengths)], axis=-1)
                ahead, back = both, reverse_by_length(both, lengths)
            ahead, back = forward(ahead), backward(back)
        return ahead, back

    def _pool(self, ahead: Any, back: Any, lengths: Any) -> Any:
        """Pool to (B, 2·lstm_size). The order of the backward states does not matter to either pooling."""
        both, lengths = ops.concatenate([ahead, back], axis=-1), ops.maximum(ops.cast(lengths, "int32"), 1)
        if self.config.pooling == "last":
            return ops.take_along_axis(both, (lengths - 1)[:, None, None], axis=1)[:, 0]
        positions = ops.arange(ops.shape(both)[1], dtype="int32")[None, :]
        real = (positions < lengths[:, None])[:, :, None]
        # States are within (-1, 1), so -2 is never the maximum; infinity would break quantization.
        return ops.max(ops.where(real, both, ops.cast(-2.0, both.dtype)), axis=1)

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], ops.cast(inputs["padding_mask"], "int32")
        features: dict[str, Any] = {}
        if not self.config.pair:
            lengths = ops.sum(mask, axis=1)
            ahead, back = self._states(token_ids, lengths)
            if "hidden_states" in want:
                features["hidden_states"] = (ops.concatenate([ahead, reverse_by_length(back, lengths)], axis=-1),)
            state = self._pool(ahead, back, lengths) if "pooled" in want else None
        else:
            second = ops.cast(inputs["segment_ids"], "int32") * mask
            first_length, second_length = ops.sum(mask - second, axis=1), ops.sum(second, axis=1)
            positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")[None, :] + first_length[:, None]
            shifted = ops.take_along_axis(token_ids, ops.minimum(positions, ops.shape(token_ids)[1] - 1), axis=1)
            u, v = (
                self._pool(*self._states(ids, lengths), lengths)
                for ids, lengths in ((token_ids, first_length), (shifted, second_length))
            )
            state = ops.concatenate([u, v, ops.abs(u - v), u * v], axis=-1)
        if "pooled" in want:
            features["pooled"] = state if self.dense is None else self.dense(self.dropout(state, training=training))
        return features
