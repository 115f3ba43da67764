"""Describe BiLSTM encoders. Needs no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfdistill.errors import UserError
from tfdistill.models.config_fields import check_fields, shown

POOLINGS = ("last", "max")


ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid", "linear")


@dataclass(frozen=True)
class BiLSTMConfig:
    """Describe a BiLSTM encoder.

    Args:
        vocab_size: V, the number of rows of the embedding.
        embedding_size: the columns of the embedding.
        lstm_size: the size of the states of each direction.
        num_layers: the number of bidirectional LSTM layers.
        dense_size: the size of the dense layer before the head; 0 means none.
        dense_act: the activation of that layer.
        dropout: before the dense layer, or before the head if there is none.
        pair: whether the model is siamese: both texts pass through the same LSTM, and the head reads
            [u, v, |u - v|, u * v].
        pooling: "last" takes the last state of each direction, "max" the maximum over the tokens.

    Raises:
        UserError: a size out of its range, or an unknown activation or pooling.
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
        check_fields(self)
        if self.dense_act not in ACTIVATIONS:
            raise UserError(f"`dense_act` is {shown(self.dense_act)}. Use one of {', '.join(ACTIVATIONS)}.")
        if self.pooling not in POOLINGS:
            raise UserError(f"`pooling` '{self.pooling}' is unknown. Use one of {', '.join(POOLINGS)}.")

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head; 0 if dropout is before a dense layer instead."""
        return 0.0 if self.dense_size and task != "token_classification" else self.dropout
