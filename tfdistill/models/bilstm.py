"""Bidirectional LSTM encoder (Tang et al. 2019, section 3.1; last states) over word pieces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class BiLSTMConfig:
    """Sizes of a BiLSTM text model.

    `pair` makes it siamese: both sentences go through the same LSTM, the head reads [u, v, |u - v|, u * v].
    """

    vocab_size: int = 30522
    embedding_size: int = 300
    lstm_size: int = 150
    num_layers: int = 1
    dense_size: int = 200
    dense_act: str = "relu"
    dropout: float = 0.1
    pair: bool = False


def reverse_by_length(values: Any, lengths: Any) -> Any:
    """Reverse the first `lengths` positions of axis 1 of (B, L, ...) and leave the padding behind them in place."""
    positions = ops.arange(ops.shape(values)[1], dtype="int32")[None, :]
    lengths = ops.cast(lengths, "int32")[:, None]
    index = ops.where(positions < lengths, lengths - 1 - positions, positions)
    if len(values.shape) == 3:
        index = ops.expand_dims(index, -1)
    return ops.take_along_axis(values, index, axis=1)


class BiLSTMEncoder(keras.layers.Layer):
    """Word-piece embedding, LSTM layers in both directions, last states, dense layer.

    Padding never reaches the result: the backward direction reads the ids reversed by their length, and the state is
    taken at position length - 1. So no mask is needed, and the LSTM stays fusable in TFLite.
    Called with a dict of int32 (B, L): `token_ids`, `padding_mask`, and for pairs `segment_ids`.
    """

    def __init__(self, config: BiLSTMConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.embedding = keras.layers.Embedding(
            config.vocab_size, config.embedding_size, "uniform", dtype=self.dtype_policy, name="embedding"
        )

        def lstm(name: str) -> keras.layers.LSTM:
            return keras.layers.LSTM(config.lstm_size, return_sequences=True, dtype=self.dtype_policy, name=name)

        self.forward = [lstm(f"forward_{n}") for n in range(1, config.num_layers + 1)]
        self.backward = [lstm(f"backward_{n}") for n in range(1, config.num_layers + 1)]
        self.dense = keras.layers.Dense(config.dense_size, config.dense_act, dtype=self.dtype_policy, name="dense")
        self.dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)

    def _sentence(self, token_ids: Any, lengths: Any) -> Any:
        """Last forward and backward states (B, 2·lstm_size) of the first `lengths` ids."""
        ahead, back = self.embedding(token_ids), self.embedding(reverse_by_length(token_ids, lengths))
        for number, (forward, backward) in enumerate(zip(self.forward, self.backward, strict=True)):
            if number:
                both = ops.concatenate([ahead, reverse_by_length(back, lengths)], axis=-1)
                ahead, back = both, reverse_by_length(both, lengths)
            ahead, back = forward(ahead), backward(back)
        last = ops.cast(ops.maximum(lengths - 1, 0), "int32")[:, None, None]
        states = ops.take_along_axis(ops.concatenate([ahead, back], axis=-1), last, axis=1)
        return states[:, 0]

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], ops.cast(inputs["padding_mask"], "int32")
        if not self.config.pair:
            state = self._sentence(token_ids, ops.sum(mask, axis=1))
        else:
            second = ops.cast(inputs["segment_ids"], "int32") * mask
            first_length, second_length = ops.sum(mask - second, axis=1), ops.sum(second, axis=1)
            positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")[None, :] + first_length[:, None]
            shifted = ops.take_along_axis(token_ids, ops.minimum(positions, ops.shape(token_ids)[1] - 1), axis=1)
            u, v = self._sentence(token_ids, first_length), self._sentence(shifted, second_length)
            state = ops.concatenate([u, v, ops.abs(u - v), u * v], axis=-1)
        return {"pooled": self.dense(self.dropout(state, training=training))}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": asdict(self.config)}
