"""Describe RoBERTa, ELECTRA and ALBERT, which are BERT encoders with other embeddings, poolers and heads. Needs no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from tfdistill.errors import UserError, listing
from tfdistill.models.bert_config import BertConfig, dropout_of_classifiers
from tfdistill.models.config_fields import check_fields, shown

ROBERTA_TYPES = ("roberta", "xlm-roberta", "camembert")


_MOST_LAYERS = 1000


@dataclass(frozen=True)
class _LikeBert:
    """Hold the fields that the families share with BERT. `BertConfig` describes them."""

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

    family: ClassVar[str]
    pooler_act: ClassVar[str] = "tanh"
    pooler_size: ClassVar[None] = None
    # Activation of the masked-LM head; None is that of the layers.
    masked_lm_act: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.type_vocab_size < 1:
            raise UserError("`type_vocab_size` is 0. Use an integer of at least 1.")
        self.as_bert()

    def as_bert(self) -> BertConfig:
        """Return the encoder's sizes in BERT's names."""
        return BertConfig(**self._in_bert(), pooler_act=self.pooler_act)

    def _in_bert(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(_LikeBert)}

    def with_layers(self, layers: Sequence[int]) -> Any:
        """Return the config of a model with only these of the layers 1..num_hidden_layers."""
        return replace(self, num_hidden_layers=len(layers))


@dataclass(frozen=True)
class RobertaConfig(_LikeBert):
    """Describe a RoBERTa encoder (Liu et al. 2019), also of XLM-R and CamemBERT, with the names of config.json.

    Positions are counted from `pad_token_id` + 1, so that the last `max_position_embeddings` -
    `pad_token_id` - 1 rows of the position table are in use. The pooler, a dense layer with tanh over the
    <s> state, is what transformers calls `classifier.dense`.

    Args:
        vocab_size: V, the number of rows of the word table.
        classifier_dropout: dropout before the head; None means `hidden_dropout_prob`.
        pad_token_id: the id of padding.
        model_type: one of `ROBERTA_TYPES`, which differ in their tokenizers alone.
    """

    vocab_size: int = 50265
    classifier_dropout: float | None = None
    pad_token_id: int = 1
    model_type: str = "roberta"

    family: ClassVar[str] = "roberta"
    masked_lm_act: ClassVar[str | None] = "gelu"

    def __post_init__(self) -> None:
        if self.model_type not in ROBERTA_TYPES:
            raise UserError(f"`model_type` is {shown(self.model_type)}. Use one of {', '.join(ROBERTA_TYPES)}.")
        super().__post_init__()
        if self.pad_token_id + 1 >= self.max_position_embeddings:
            raise UserError(
                f"`pad_token_id` {self.pad_token_id} leaves no position of {self.max_position_embeddings}. "
                "Use the id of padding, which is 1 in published models."
            )

    @property
    def first_position(self) -> int:
        return self.pad_token_id + 1

    def as_bert(self) -> BertConfig:
        return BertConfig(**self._in_bert(), pooler_act=self.pooler_act, padding_idx=self.pad_token_id)

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head."""
        return dropout_of_classifiers(task, self.classifier_dropout, self.hidden_dropout_prob)


@dataclass(frozen=True)
class ElectraConfig(_LikeBert):
    """Describe an ELECTRA encoder (Clark et al. 2020), with the names of config.json.

    The pooler, a dense layer with GELU over the [CLS] state, is what transformers calls `classifier.dense`.

    Args:
        embedding_size: the width of the embeddings; a dense layer follows if it is not `hidden_size`.
        hidden_size: the size of hidden states.
        num_attention_heads: the number of attention heads.
        intermediate_size: the size of the feed-forward layers.
        classifier_dropout: dropout before the head; None means `hidden_dropout_prob`.
    """

    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    embedding_size: int = 128
    classifier_dropout: float | None = None

    family: ClassVar[str] = "electra"
    pooler_act: ClassVar[str] = "gelu"
    masked_lm_act: ClassVar[str | None] = "gelu"

    @property
    def projects_sum(self) -> bool:
        return self.embedding_size != self.hidden_size

    def as_bert(self) -> BertConfig:
        size = self.embedding_size if self.projects_sum else None
        return BertConfig(
            **self._in_bert(), pooler_act=self.pooler_act, embedding_size=size, projects_sum=self.projects_sum
        )

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head."""
        return dropout_of_classifiers(task, self.classifier_dropout, self.hidden_dropout_prob)


@dataclass(frozen=True)
class AlbertConfig(_LikeBert):
    """Describe an ALBERT encoder (Lan et al. 2020), with the names of config.json.

    The layers share the weights of `num_hidden_groups` groups, each of `inner_group_num` layers. What is
    called a layer in this library is one application of such a layer, of which there are
    `num_hidden_layers` times `inner_group_num`.

    Args:
        vocab_size: V, the number of rows of the word table.
        hidden_size: the size of hidden states.
        num_attention_heads: the number of attention heads.
        intermediate_size: the size of the feed-forward layers.
        hidden_act: the activation of the feed-forward layers.
        hidden_dropout_prob: dropout of embeddings, attention output and feed-forward output.
        attention_probs_dropout_prob: dropout of attention weights.
        embedding_size: the width of the embeddings; a dense layer follows.
        num_hidden_groups: the number of groups.
        inner_group_num: the number of layers of a group.
        classifier_dropout_prob: dropout before the head.
    """

    vocab_size: int = 30000
    hidden_size: int = 4096
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    embedding_size: int = 128
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    classifier_dropout_prob: float = 0.1

    family: ClassVar[str] = "albert"
    projects_sum: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_hidden_groups > self.num_hidden_layers:
            raise UserError(
                f"`num_hidden_groups` {self.num_hidden_groups} is more than the {self.num_hidden_layers} layers. "
                "Change one of them."
            )
        # The weights do not show how often they are used.
        if self.num_hidden_layers * self.inner_group_num > _MOST_LAYERS:
            raise UserError(
                f"`num_hidden_layers` {self.num_hidden_layers} times `inner_group_num` {self.inner_group_num} is more "
                f"than {_MOST_LAYERS} layers. Use the config.json of this model."
            )

    @property
    def layer_weights(self) -> tuple[int, ...]:
        """The number of the weights that each layer uses."""
        inner = range(self.inner_group_num)
        return tuple(group * self.inner_group_num + n for group in self._groups(self.num_hidden_groups) for n in inner)

    def _groups(self, count: int) -> list[int]:
        # The division is that of transformers, whose rounding decides.
        return [int(n / (self.num_hidden_layers / count)) for n in range(self.num_hidden_layers)]

    def as_bert(self) -> BertConfig:
        sizes = self._in_bert() | {"num_hidden_layers": self.num_hidden_layers * self.inner_group_num}
        return BertConfig(**sizes, pooler_act=self.pooler_act, embedding_size=self.embedding_size, projects_sum=True)

    def with_layers(self, layers: Sequence[int]) -> AlbertConfig:
        """Return the config of a model with only these layers.

        Raises:
            UserError: config.json cannot describe which of them share their weights.
        """
        kept = [self.layer_weights[layer - 1] for layer in layers]
        different = list(dict.fromkeys(kept))
        small = replace(self, num_hidden_layers=len(kept), num_hidden_groups=len(different), inner_group_num=1)
        if [different[n] for n in small.layer_weights] != kept:
            raise UserError(
                f"The layers {listing(map(str, layers))} of this ALBERT use the weights {listing(map(str, kept))}. "
                "Use equally many successive layers of each."
            )
        return small

    def head_dropout(self, task: str) -> float:
        """Return the dropout rate between the encoder and the head."""
        return dropout_of_classifiers(task, self.classifier_dropout_prob, self.hidden_dropout_prob)
