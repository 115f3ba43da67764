"""Bidirectional LSTM encoder over word pieces: last states (Tang et al. 2019) or max-pooled (Mukherjee & Awadallah 2020)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.encoder import Encoder
from tfdistill.models.layers import Dropout, Embedding
from tfdistill.models.lstm import LSTM

POOLINGS = ("last", "max")


@dataclass(frozen=True)
class BiLSTMConfig:
    """Sizes of a BiLSTM text model.

    Args:
        pair: makes it siamese: both sentences go through the same LSTM, the head reads [u, v, |u - v|, u * v].
        pooling: "last" takes the last state of each direction, "max" the maximum over the real positions.
        dense_size: width of the dense layer between the states and the head; 0 leaves it out.
    """

    vocab_size: int = 30522
    embedding_size: int = 300
    lstm_size: int = 150
    num_layers: int = 1
    dense_size: int = 200
    dense_act: str = "relu"
    dropout: float = 0.1
    pair: bool = False
    pooling: str = "last"

    family: ClassVar[str] = "bilstm"

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise UserError(f"pooling '{self.pooling}' is unknown; expected one of {', '.join(POOLINGS)}")

    def head_dropout(self, task: str) -> float:
        """Dropout between the encoder and the head; where there is a dense layer, it stands before that one."""
        return 0.0 if self.dense_size and task != "token_classification" else self.dropout


def reverse_by_length(values: Any, lengths: Any) -> Any:
    """Reverse the first `lengths` positions of axis 1 of (B, L, ...) and leave the padding behind them in place."""
    positions = ops.arange(ops.shape(values)[1], dtype="int32")[None, :]
    lengths = ops.cast(lengths, "int32")[:, None]
    index = ops.where(positions < lengths, lengths - 1 - positions, positions)
    if len(values.shape) == 3:
        index = ops.expand_dims(index, -1)
    return ops.take_along_axis(values, index, axis=1)


class BiLSTMEncoder(Encoder):
    """Word-piece embedding, LSTM layers in both directions, pooling, dense layer.

    Padding never reaches the result: the backward direction reads the ids reversed by their length, and pooling looks
    at the first `length` positions only. So no mask is needed, and the LSTM stays fusable in TFLite.
    Called with a dict of int32 (B, L): `token_ids`, `padding_mask`, and for pairs `segment_ids`.
    Returns those of `pooled` and `hidden_states` that `want` names; of these there is one, the states of both directions
    (B, L, 2·lstm_size) in the order of the text. Siamese models have `pooled` only.
    """

    def __init__(self, config: BiLSTMConfig, pooler: bool = True, **kwargs: Any):
        super().__init__(config, pooler, **kwargs)
        if config.pair and not pooler:
            raise UserError("a siamese BiLSTM (pair=True) has no states for each token; use pair=False for this task")
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
        """Entries of `hidden_states`, whatever the number of LSTM layers."""
        return 0 if self.config.pair else 1

    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        layers = zip(self.forward, self.backward, strict=True)
        pooler = {} if self.dense is None else {"pooler": [self.dense]}
        return {"embeddings": [self.embedding], **{f"layer_{n}": [*pair] for n, pair in enumerate(layers, 1)}, **pooler}

    @property
    def offers(self) -> tuple[str, ...]:
        """Features that `want` may name."""
        return (*(("pooled",) if self.has_pooled else ()), *(() if self.config.pair else ("hidden_states",)))

    def width(self, feature: str) -> int | None:
        """Size of the last axis of a feature, or None if this encoder does not have it."""
        if feature not in self.offers:
            return None
        states = 2 * self.config.lstm_size
        if feature == "hidden_states":
            return states
        return self.config.dense_size or states * (4 if self.config.pair else 1)

    def _states(self, token_ids: Any, lengths: Any) -> tuple[Any, Any]:
        """Forward and backward states, each (B, L, lstm_size), of the first `lengths` ids; backward ones in reading order."""
        ahead, back = self.embedding(token_ids), self.embedding(reverse_by_length(token_ids, lengths))
        for number, (forward, backward) in enumerate(zip(self.forward, self.backward, strict=True)):
            if number:
                both = ops.concatenate([ahead, reverse_by_length(back, lengths)], axis=-1)
                ahead, back = both, reverse_by_length(both, lengths)
            ahead, back = forward(ahead), backward(back)
        return ahead, back

    def _pool(self, ahead: Any, back: Any, lengths: Any) -> Any:
        """(B, 2·lstm_size). Both poolings look at a set of positions, so the backward states' order does not matter."""
        both, lengths = ops.concatenate([ahead, back], axis=-1), ops.maximum(ops.cast(lengths, "int32"), 1)
        if self.config.pooling == "last":
            return ops.take_along_axis(both, (lengths - 1)[:, None, None], axis=1)[:, 0]
        positions = ops.arange(ops.shape(both)[1], dtype="int32")[None, :]
        real = (positions < lengths[:, None])[:, :, None]
        # States lie within (-1, 1), so -2 is never the maximum; infinity would break quantization.
        return ops.max(ops.where(real, both, ops.cast(-2.0, both.dtype)), axis=1)

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], ops.cast(inputs["padding_mask"], "int32")
        said: dict[str, Any] = {}
        if not self.config.pair:
            lengths = ops.sum(mask, axis=1)
            ahead, back = self._states(token_ids, lengths)
            if "hidden_states" in want:
                said["hidden_states"] = (ops.concatenate([ahead, reverse_by_length(back, lengths)], axis=-1),)
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
            said["pooled"] = state if self.dense is None else self.dense(self.dropout(state, training=training))
        return said
