"""Describe static encoders. Needs no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfdistill.errors import UserError
from tfdistill.models.config_fields import check_fields

MOST_LAYERS = 2


@dataclass(frozen=True)
class StaticConfig:
    """Describe a static encoder.

    Args:
        vocab_size: V, the number of rows of the table.
        embedding_size: E, the columns of the table.
        convolution_layers: convolutions of three tokens with ReLU; 0 makes a bag of tokens.
        convolution_size: the units of each convolution.
        dense_layers: dense layers with ReLU between the pooled vector and the head.
        dense_size: the units of each dense layer.
        dropout: of the pooled vector.
        pair: whether the model is siamese: both texts pass through the same encoder, and the dense layers or the head
            read [u, v, |u - v|, u * v].

    Raises:
        UserError: a size out of its range.
    """

    vocab_size: int = 30522
    embedding_size: int = 128
    convolution_layers: int = 1
    convolution_size: int = 128
    dense_layers: int = 0
    dense_size: int = 128
    dropout: float = 0.1
    pair: bool = False

    family: ClassVar[str] = "static"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("convolution_layers", "dense_layers"):
            if getattr(self, name) > MOST_LAYERS:
                raise UserError(f"`{name}` is {getattr(self, name)}. Use at most {MOST_LAYERS}.")

    @property
    def state_size(self) -> int:
        """The size of the state of a token: its vector, and the units of the last convolution."""
        return self.embedding_size + (self.convolution_size if self.convolution_layers else 0)

    @property
    def pooled_size(self) -> int:
        """The size of the vector that the head reads."""
        return self.dense_size if self.dense_layers else self.state_size * (4 if self.pair else 1)

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head; the encoder itself drops before dense layers."""
        return 0.0 if self.dense_layers and task != "token_classification" else self.dropout
