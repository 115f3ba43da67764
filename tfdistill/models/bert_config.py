"""Describe BERT encoders, pruned ones included. Needs no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from tfdistill.errors import UserError
from tfdistill.models.config_fields import check_fields, shown
from tfdistill.models.tasks import HEADS

# Fields of BertConfig with one number for each layer, in the order of LayerShape.
PER_LAYER = ("heads_per_layer", "query_key_sizes", "value_sizes", "intermediate_sizes")


POOLER_ACTIVATIONS = ("tanh", "relu", "gelu")


HIDDEN_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")  # those of `tfdistill.models.layers.ACTIVATIONS`


class LayerShape(NamedTuple):
    """Describe one layer.

    Attributes:
        heads: number of attention heads.
        query_key: size of a head's query and key.
        value: size of a head's value.
        intermediate: size of the feed-forward layer.
    """

    heads: int
    query_key: int
    value: int
    intermediate: int


@dataclass(frozen=True)
class BertConfig:
    """Describe a BERT encoder, with the names of Hugging Face's config.json.

    The fields from `pooler_act` on describe what BERT does not have. A config that uses none of
    them `is_plain`: its model is written as a BERT that transformers opens.

    Args:
        vocab_size: V, the number of rows of the word table.
        hidden_size: H, the size of hidden states.
        num_hidden_layers: the number of layers.
        num_attention_heads: A, the number of heads of a layer that is not pruned.
        intermediate_size: the size of the feed-forward layer of a layer that is not pruned.
        max_position_embeddings: the largest number of tokens of an example.
        type_vocab_size: the number of segments; 0 for an encoder without token types.
        hidden_act: the activation of the feed-forward layers, one of `HIDDEN_ACTIVATIONS`.
        layer_norm_eps: added to the variance by LayerNorm.
        hidden_dropout_prob: dropout of embeddings, attention output and feed-forward output.
        attention_probs_dropout_prob: dropout of attention weights.
        initializer_range: standard deviation of random weights.
        classifier_dropout: dropout before the head; None means `hidden_dropout_prob`.
        pooler_act: "tanh" as in BERT, "relu" as in DistilBERT, or "gelu" as in ELECTRA.
        layerdrop: probability with which training skips a layer.
        heads_per_layer: number of heads, for each layer.
        query_key_sizes: size of one head's query and key, for each layer.
        value_sizes: size of one head's value, for each layer.
        intermediate_sizes: size of the feed-forward layer, for each layer.
        attention_head_size: size of a head before pruning, by whose root scores are divided.
        pooler_size: size of the pooler's output.
        embedding_size: the word table is (vocab_size, embedding_size), times (embedding_size, hidden_size).
        projects_sum: whether positions, token types and LayerNorm are `embedding_size` wide as well, and a
            dense layer with bias follows them, as in ELECTRA and ALBERT.
        padding_idx: the id of padding, if positions are counted from padding_idx + 1, as in RoBERTa.

    Raises:
        UserError: sizes that do not fit together, or an unknown activation.

    Example:
        BertConfig(hidden_size=312, num_hidden_layers=4, intermediate_size=1200)  # TinyBERT
        BertConfig(num_hidden_layers=2, heads_per_layer=(12, 5))  # layer 2 has lost seven heads
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    classifier_dropout: float | None = None
    pooler_act: str = "tanh"
    layerdrop: float = 0.0
    heads_per_layer: tuple[int, ...] | None = None
    query_key_sizes: tuple[int, ...] | None = None
    value_sizes: tuple[int, ...] | None = None
    intermediate_sizes: tuple[int, ...] | None = None
    attention_head_size: int | None = None
    pooler_size: int | None = None
    embedding_size: int | None = None
    projects_sum: bool = False
    padding_idx: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in PER_LAYER:
            sizes = getattr(self, name)
            if sizes is None:
                continue
            object.__setattr__(self, name, tuple(sizes))  # JSON gives a list
            if len(sizes) != self.num_hidden_layers:
                raise UserError(
                    f"`{name}` is {shown(sizes)}. Use {self.num_hidden_layers} numbers, one for each layer."
                )
        least = max(self.query_key_sizes or (1,))
        if self.attention_head_size is not None and self.attention_head_size < least:
            raise UserError(
                f"`attention_head_size` is {self.attention_head_size}. Use at least {least}, of a whole head."
            )
        if self.pooler_act not in POOLER_ACTIVATIONS:
            raise UserError(f"`pooler_act` '{self.pooler_act}' is unknown. Use {', '.join(POOLER_ACTIVATIONS)}.")
        if self.projects_sum and self.embedding_size is None:
            raise UserError("`projects_sum` is true without an `embedding_size`. Set both.")
        heads = self.num_attention_heads if self.attention_head_size is None else 1
        check_transformer("hidden_size", self.hidden_size, heads, self.hidden_act)

    @property
    def is_plain(self) -> bool:
        """Whether this is a BERT as transformers knows it: same sizes in each layer, full embeddings, no LayerDrop."""
        return all(getattr(self, name) == default for name, default in NOT_IN_BERT.items())

    @property
    def family(self) -> str:
        return "bert" if self.is_plain else "pruned_bert"

    @property
    def head_size(self) -> int:
        """Size of a head before pruning."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def first_position(self) -> int:
        """The row of the position table for the first token."""
        return 0 if self.padding_idx is None else self.padding_idx + 1

    def as_bert(self) -> BertConfig:
        """Return this config; configs of other families return their sizes in BERT's names."""
        return self

    def layer_shape(self, layer: int) -> LayerShape:
        """Return the sizes of one of the layers 1..num_hidden_layers."""
        whole = (self.num_attention_heads, self.head_size, self.head_size, self.intermediate_size)
        sizes = (getattr(self, name) for name in PER_LAYER)
        return LayerShape(*(full if size is None else size[layer - 1] for size, full in zip(sizes, whole, strict=True)))

    def with_layers(self, layers: Sequence[int]) -> BertConfig:
        """Return the config of a model with only these of the layers 1..num_hidden_layers."""
        sizes = {name: getattr(self, name) for name in PER_LAYER}
        kept: dict[str, Any] = {name: size and tuple(size[n - 1] for n in layers) for name, size in sizes.items()}
        return replace(self, num_hidden_layers=len(layers), **kept)

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head."""
        return dropout_of_classifiers(task, self.classifier_dropout, self.hidden_dropout_prob)


# Fields that transformers' BertConfig does not have, with what they are in a plain BERT.
NOT_IN_BERT = {
    field.name: field.default
    for field in fields(BertConfig)
    if field.name
    in (
        *("pooler_act", "layerdrop", *PER_LAYER, "attention_head_size", "pooler_size"),
        *("embedding_size", "projects_sum", "padding_idx"),
    )
}


def check_transformer(name: str, width: int, heads: int, activation: str, field: str = "hidden_act") -> None:
    """Raise UserError if the heads do not divide the width of attention, or the activation is unknown.

    Args:
        name: the field of the width.
        width: the width of attention.
        heads: the number of heads.
        activation: the activation.
        field: the field of the activation.
    """
    if width % heads:
        raise UserError(f"`{name}` {width} is not a multiple of the {heads} attention heads. Change one of them.")
    if activation not in HIDDEN_ACTIVATIONS:
        raise UserError(f"`{field}` is {shown(activation)}. Use one of {', '.join(HIDDEN_ACTIVATIONS)}.")


def dropout_of_classifiers(task: str, rate: float | None, default: float) -> float:
    """Return `rate`, or `default` if that is None, for tasks with classes; 0 for the others."""
    if not HEADS[task].labelled:
        return 0.0
    return default if rate is None else rate
