"""Describe MobileBERT, its TINY variant and the IB-BERT teacher. Needs no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from tfdistill.errors import UserError
from tfdistill.models.bert_config import check_transformer, dropout_of_classifiers
from tfdistill.models.config_fields import check_fields

NORMALIZATIONS = ("no_norm", "layer_norm")


@dataclass(frozen=True)
class MobileBertConfig:
    """Describe the encoder, with the names of transformers' MobileBertConfig and the paper's MobileBERT as default.

    Attention reads one of three things:

    - with `use_bottleneck_attention`, queries, keys and values read the bottleneck that is also the residual (TINY)
    - with `key_query_shared_bottleneck`, queries and keys read a second bottleneck, values the layer's input (MobileBERT)
    - with neither, all three read the layer's input (IB-BERT); see `runs_in_transformers`

    Args:
        hidden_size: H, the size of hidden states between layers.
        intra_bottleneck_size: the size inside a layer.
        embedding_size: E, the columns of the word table.
        trigram_input: whether a token's embedding also reads those of its neighbours.
        use_bottleneck: whether layers are narrower inside.
        use_bottleneck_attention: see above.
        key_query_shared_bottleneck: see above.
        num_feedforward_networks: stacked feed-forward networks in each layer.
        normalization_type: "no_norm" or "layer_norm".
        classifier_activation: whether there is a pooler, a dense layer with tanh over the [CLS] state.

    Raises:
        UserError: sizes that do not fit together, or an unknown activation or normalization.
    """

    vocab_size: int = 30522
    hidden_size: int = 512
    num_hidden_layers: int = 24
    num_attention_heads: int = 4
    intermediate_size: int = 512
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    embedding_size: int = 128
    trigram_input: bool = True
    use_bottleneck: bool = True
    intra_bottleneck_size: int = 128
    use_bottleneck_attention: bool = False
    key_query_shared_bottleneck: bool = True
    num_feedforward_networks: int = 4
    normalization_type: str = "no_norm"
    classifier_activation: bool = True
    classifier_dropout: float | None = None

    family: ClassVar[str] = "mobilebert"
    layerdrop: ClassVar[float] = 0.0
    pooler_size: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        check_fields(self)
        name = "intra_bottleneck_size" if self.use_bottleneck else "hidden_size"
        check_transformer(name, self.width, self.num_attention_heads, self.hidden_act)
        if self.normalization_type not in NORMALIZATIONS:
            raise UserError(
                f"`normalization_type` '{self.normalization_type}' is unknown. Use one of {', '.join(NORMALIZATIONS)}."
            )
        if self.embedding_size > self.hidden_size:
            raise UserError(f"`embedding_size` is {self.embedding_size}. Use at most `hidden_size` {self.hidden_size}.")

    @property
    def width(self) -> int:
        """The size inside a layer."""
        return self.intra_bottleneck_size if self.use_bottleneck else self.hidden_size

    @property
    def pooler_act(self) -> str | None:
        return "tanh" if self.classifier_activation else None

    @property
    def attention_bottleneck(self) -> bool:
        """Whether queries and keys have a second bottleneck."""
        return self.use_bottleneck and self.key_query_shared_bottleneck and not self.use_bottleneck_attention

    @property
    def embedding_transformation(self) -> bool:
        """Whether a dense layer brings word embeddings to the hidden size."""
        return self.trigram_input or self.embedding_size != self.hidden_size

    @property
    def runs_in_transformers(self) -> bool:
        """False for IB-BERT: transformers gives its queries and keys the size of the bottleneck, not of their input."""
        reads_body = self.use_bottleneck and not self.use_bottleneck_attention and not self.key_query_shared_bottleneck
        return not reads_body or self.hidden_size == self.intra_bottleneck_size

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head."""
        return dropout_of_classifiers(task, self.classifier_dropout, self.hidden_dropout_prob)

    def with_layers(self, layers: Sequence[int]) -> MobileBertConfig:
        """Return the config of a model with only these of the layers 1..num_hidden_layers."""
        return replace(self, num_hidden_layers=len(layers))
