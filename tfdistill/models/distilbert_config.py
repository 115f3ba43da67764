"""Describe DistilBERT encoders. Needs no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tfdistill.models.bert_config import BertConfig, check_transformer
from tfdistill.models.config_fields import check_fields

# DistilBERT's name of each size, and BERT's.
NAMES_IN_BERT = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "initializer_range": "initializer_range",
}


@dataclass(frozen=True)
class DistilBertConfig:
    """Describe a DistilBERT encoder, with the names of Hugging Face's config.json; some of BERT's work as well.

    The pooler, a dense layer with ReLU over the [CLS] state, is what transformers calls `pre_classifier`.

    Args:
        vocab_size: V, the number of rows of the word table.
        dim: H, the size of hidden states.
        n_layers: the number of layers.
        n_heads: the number of attention heads.
        hidden_dim: the size of the feed-forward layers.
        max_position_embeddings: the largest number of tokens of an example.
        activation: of the feed-forward layers.
        dropout: of embeddings, feed-forward output, and before the head of token classification.
        attention_dropout: of attention weights.
        seq_classif_dropout: before the head of sequence tasks.
        qa_dropout: before the head of question answering.
        initializer_range: standard deviation of random weights.
    """

    vocab_size: int = 30522
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    max_position_embeddings: int = 512
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    qa_dropout: float = 0.1
    initializer_range: float = 0.02

    family: ClassVar[str] = "distilbert"
    layer_norm_eps: ClassVar[float] = 1e-12
    pooler_act: ClassVar[str] = "relu"
    pooler_size: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_transformer("dim", self.dim, self.n_heads, self.activation, "activation")

    @property
    def hidden_size(self) -> int:
        return self.dim

    @property
    def num_hidden_layers(self) -> int:
        return self.n_layers

    @property
    def num_attention_heads(self) -> int:
        return self.n_heads

    @property
    def hidden_act(self) -> str:
        return self.activation

    def as_bert(self) -> BertConfig:
        """Return the encoder's sizes in BERT's names: no token types, and ReLU in the pooler."""
        sizes: dict[str, Any] = {bert: getattr(self, name) for name, bert in NAMES_IN_BERT.items()}
        return BertConfig(**sizes, type_vocab_size=0, layer_norm_eps=self.layer_norm_eps, pooler_act=self.pooler_act)

    @classmethod
    def of_bert(cls, config: BertConfig) -> DistilBertConfig:
        """Return the config of a DistilBERT with the sizes of a BERT."""
        return cls(**{name: getattr(config, bert) for name, bert in NAMES_IN_BERT.items()})

    def with_layers(self, layers: Sequence[int]) -> DistilBertConfig:
        """Return the config of a model with only these of the layers 1..n_layers."""
        return replace(self, n_layers=len(layers))

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head."""
        if task in ("classification", "multilabel", "regression"):
            return self.seq_classif_dropout
        return {"token_classification": self.dropout, "question_answering": self.qa_dropout}.get(task, 0.0)
