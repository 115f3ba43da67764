"""DistilBERT (Sanh et al. 2019): a BERT encoder without token types, read through its [CLS] state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfdistill.models.bert import check_transformer


@dataclass(frozen=True)
class DistilBertConfig:
    """Sizes of a DistilBERT encoder, named as in Hugging Face's config.json; BERT's names can be read too.

    The encoder is `tfdistill.models.bert.BertEncoder`. Its pooler is what transformers calls `pre_classifier`: a dense layer
    with ReLU over the [CLS] state, there for sequence tasks only.
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

    pooler_act: ClassVar[str] = "relu"
    type_vocab_size: ClassVar[int] = 0
    layer_norm_eps: ClassVar[float] = 1e-12

    def __post_init__(self) -> None:
        check_transformer(self)

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
    def intermediate_size(self) -> int:
        return self.hidden_dim

    @property
    def hidden_act(self) -> str:
        return self.activation

    @property
    def hidden_dropout_prob(self) -> float:
        return self.dropout

    @property
    def attention_probs_dropout_prob(self) -> float:
        return self.attention_dropout

    def head_dropout(self, task: str) -> float:
        """Dropout between the encoder and the head."""
        if task in ("classification", "multilabel", "regression"):
            return self.seq_classif_dropout
        return {"token_classification": self.dropout, "question_answering": self.qa_dropout}.get(task, 0.0)
