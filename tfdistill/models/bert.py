"""BERT encoder (Devlin et al. 2019), exact against Hugging Face: erf-GELU, LayerNorm after each residual sum."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.layers import (
    ACTIVATIONS,
    MASKED_SCORE,
    Composite,
    Dropout,
    Embedding,
    Linear,
    attend,
    initializer,
)

# --- config ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT encoder, named as in Hugging Face's config.json."""

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

    pooler_act: ClassVar[str] = "tanh"

    def __post_init__(self) -> None:
        check_transformer(self)

    def head_dropout(self, task: str) -> float:
        """Dropout between the encoder and the head."""
        if task in ("classification", "multilabel", "regression", "token_classification"):
            return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        return 0.0


def check_transformer(config: Any, width_name: str = "hidden_size") -> None:
    """Raises UserError for a width of attention that the heads do not divide, or an unknown activation."""
    width, heads = getattr(config, width_name), config.num_attention_heads
    if width % heads:
        raise UserError(f"{width_name} {width} is no multiple of num_attention_heads {heads}")
    if config.hidden_act not in ACTIVATIONS:
        raise UserError(f"hidden_act '{config.hidden_act}' is unknown; expected one of {', '.join(ACTIVATIONS)}")


# --- layers ---------------------------------------------------------------------------------------------------------


class BertEmbeddings(Composite):
    """Sum of word, position and token-type embeddings, then LayerNorm and dropout. DistilBERT has no token types."""

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(**kwargs)

        def table(rows: int, name: str) -> Embedding:
            init = initializer(config.initializer_range)
            return Embedding(rows, config.hidden_size, init, dtype=self.dtype_policy, name=name)

        self.word = table(config.vocab_size, "word")
        self.position = table(config.max_position_embeddings, "position")
        self.token_type = table(config.type_vocab_size, "token_type") if config.type_vocab_size else None
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, token_ids: Any, segment_ids: Any, mask: Any, training: bool = False) -> Any:
        positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1], dtype="int32"), 0)
        total = self.word(token_ids) + self.position(positions)
        if self.token_type is not None:
            total = total + self.token_type(segment_ids)
        return self.dropout(self.norm(total), training=training)


class BertLayer(Composite):
    """One transformer layer. Returns (hidden state (B, L, H), attention scores (B, A, L, L) before mask and softmax).

    With `first_only` it reads all positions and computes the first alone: (B, 1, H) and (B, A, 1, L).
    """

    attention_quantizer: Any = None  # of `tfdistill.models.quantization_aware`

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(**kwargs)
        width, self.heads = config.hidden_size, config.num_attention_heads

        def linear(units: int, name: str, activation: Any = None) -> Linear:
            init = initializer(config.initializer_range)
            return Linear(units, activation, kernel_initializer=init, dtype=self.dtype_policy, name=name)

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name=name)

        self.query, self.key, self.value = (linear(width, name) for name in ("query", "key", "value"))
        self.attention_output = linear(width, "attention_output")
        self.attention_norm = norm("attention_norm")
        self.intermediate = linear(config.intermediate_size, "intermediate", ACTIVATIONS[config.hidden_act])
        self.output_dense = linear(width, "output_dense")
        self.output_norm = norm("output_norm")
        self.attention_dropout = Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy)
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, hidden: Any, key_bias: Any, training: bool = False, first_only: bool = False) -> tuple[Any, Any]:
        key, value = self.key(hidden), self.value(hidden)
        hidden = hidden[:, :1] if first_only else hidden
        query = self.query(hidden)
        mixed, scores = attend(
            query, key, value, key_bias, self.heads, self.attention_dropout, training, self.attention_quantizer
        )
        mixed = self.dropout(self.attention_output(mixed), training=training)
        hidden = self.attention_norm(hidden + mixed)
        fed = self.dropout(self.output_dense(self.intermediate(hidden)), training=training)
        return self.output_norm(hidden + fed), scores


# --- model ----------------------------------------------------------------------------------------------------------


class BertEncoder(Composite):
    """Embeddings, layers and, where the task reads it, a pooler: a dense layer over the [CLS] state.

    Called with a dict of int32 (B, L): `token_ids`, `padding_mask` and, optionally, `segment_ids`.
    Returns those of `pooled`, `embeddings`, `hidden_states`, `attention_scores` that `want` names, as in
    `tfdistill.distill.features.Features`. DistilBERT's is this class with another config.
    """

    embeddings_class: type = BertEmbeddings
    layer_class: type = BertLayer
    masked_score = MASKED_SCORE
    can_skip = True  # whether a layer can compute its first position alone

    def __init__(self, config: Any, pooler: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.config, self.has_pooled = config, pooler
        self.embeddings = self.embeddings_class(config, dtype=self.dtype_policy, name="embeddings")
        self.blocks = [
            self.layer_class(config, dtype=self.dtype_policy, name=f"layer_{n}")
            for n in range(1, config.num_hidden_layers + 1)
        ]
        self.pooler = None
        if pooler and config.pooler_act:
            init = initializer(config.initializer_range)
            self.pooler = Linear(
                config.hidden_size, config.pooler_act, kernel_initializer=init, dtype=self.dtype_policy, name="pooler"
            )

    @property
    def embedding(self) -> Embedding:
        """The word-piece table; every encoder has it under this name."""
        return self.embeddings.word

    @property
    def num_layers(self) -> int:
        return len(self.blocks)

    def width(self, feature: str) -> int | None:
        """Size of the last axis of a feature, or None if this encoder does not have it or its size is no constant."""
        has = feature in ("embeddings", "hidden_states") or (feature == "pooled" and self.has_pooled)
        return self.config.hidden_size if has else None

    @property
    def offers(self) -> tuple[str, ...]:
        """Features that `want` may name."""
        return ("embeddings", "hidden_states", "attention_scores", *(("pooled",) if self.has_pooled else ()))

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], inputs["padding_mask"]
        segment_ids = inputs.get("segment_ids")
        if segment_ids is None:
            segment_ids = ops.zeros_like(token_ids)
        key_bias = (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * self.masked_score
        hidden = embeddings = self.embeddings(token_ids, segment_ids, mask, training=training)
        states, scores = [], []
        pooled_only = self.can_skip and set(want) == {"pooled"}
        for block in self.blocks:
            # What reads the pooled vector alone needs the last layer at one position only.
            options = {"first_only": True} if pooled_only and block is self.blocks[-1] else {}
            hidden, score = block(hidden, key_bias, training=training, **options)
            states.append(hidden)
            scores.append(score)
        said = {"embeddings": embeddings, "hidden_states": tuple(states), "attention_scores": tuple(scores)}
        # The first call makes all weights, whatever it wants.
        if "pooled" in want or (self.pooler is not None and not self.pooler.built):
            said["pooled"] = hidden[:, 0] if self.pooler is None else self.pooler(hidden[:, 0])
        return {name: said[name] for name in want}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": asdict(self.config), "pooler": self.has_pooled}
