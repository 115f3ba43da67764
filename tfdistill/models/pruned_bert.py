"""BERT of uneven shape: what `tfdistill.compress` leaves of a BERT or DistilBERT encoder, and what LayerDrop trains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.bert import BertEmbeddings, BertEncoder
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

# Fields of PrunedBertConfig with one number for each layer, in the order of LayerShape.
PER_LAYER = ("heads_per_layer", "query_key_sizes", "value_sizes", "intermediate_sizes")


class LayerShape(NamedTuple):
    """Sizes of one layer: heads, width of a head's query and key, width of its value, width of the feed-forward layer."""

    heads: int
    query_key: int
    value: int
    intermediate: int


@dataclass(frozen=True)
class PrunedBertConfig:
    """Sizes of a BERT encoder whose layers differ. BERT's names where they mean the same; what is None is as in BERT.

    Args:
        num_attention_heads, intermediate_size: of a layer from which nothing was cut.
        heads_per_layer, query_key_sizes, value_sizes, intermediate_sizes: one number for each layer; `query_key_sizes` and
            `value_sizes` are of one head.
        attention_head_size: width of a head before pruning; scores are scaled by its root, whatever was cut.
        pooler_size: width of the pooler's output.
        embedding_size: the word table is (vocab_size, embedding_size), times (embedding_size, hidden_size).
        layerdrop: probability with which training skips a layer.
        type_vocab_size: 0 for an encoder without token types (DistilBERT).
        pooler_act: "tanh" as in BERT, "relu" as in DistilBERT.
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

    def __post_init__(self) -> None:
        for name in PER_LAYER:
            sizes = getattr(self, name)
            if sizes is None:
                continue
            object.__setattr__(self, name, tuple(sizes))  # JSON gives a list
            if len(sizes) != self.num_hidden_layers or min(sizes) < 1:
                raise UserError(
                    f"{name} is {list(sizes)}; expected {self.num_hidden_layers} numbers from 1 up, one for each layer"
                )
        if not 0 <= self.layerdrop < 1:
            raise UserError(f"layerdrop is {self.layerdrop}; expected a probability below 1")
        for field, known in (("hidden_act", tuple(ACTIVATIONS)), ("pooler_act", ("tanh", "relu"))):
            if getattr(self, field) not in known:
                raise UserError(f"{field} '{getattr(self, field)}' is unknown; expected one of {', '.join(known)}")
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}, "
                "and there is no attention_head_size"
            )

    @property
    def head_size(self) -> int:
        """Width of a head before pruning."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    @property
    def is_even(self) -> bool:
        """Whether BERT's usual fields say all of it."""
        own = (*PER_LAYER, "attention_head_size", "pooler_size", "embedding_size")
        return not self.layerdrop and all(getattr(self, name) is None for name in own)

    def layer_shape(self, layer: int) -> LayerShape:
        """The sizes of layer 1..num_hidden_layers."""
        whole = (self.num_attention_heads, self.head_size, self.head_size, self.intermediate_size)
        own = (getattr(self, name) for name in PER_LAYER)
        return LayerShape(
            *(full if sizes is None else sizes[layer - 1] for sizes, full in zip(own, whole, strict=True))
        )

    def head_dropout(self, task: str) -> float:
        """Dropout between the encoder and the head."""
        if task in ("classification", "multilabel", "regression", "token_classification"):
            return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        return 0.0


# --- layers ---------------------------------------------------------------------------------------------------------


class FactorisedEmbeddings(Composite):
    """BERT's embeddings with a narrower word table (V, E), brought to the hidden width by a matrix (E, H)."""

    def __init__(self, config: PrunedBertConfig, **kwargs: Any):
        super().__init__(**kwargs)

        def table(rows: int, width: int | None, name: str) -> Embedding:
            init = initializer(config.initializer_range)
            return Embedding(rows, width, init, dtype=self.dtype_policy, name=name)

        self.word = table(config.vocab_size, config.embedding_size, "word")
        self.word_projection = keras.layers.Dense(
            config.hidden_size,
            use_bias=False,
            kernel_initializer=initializer(config.initializer_range),
            dtype=self.dtype_policy,
            name="word_projection",
        )
        self.position = table(config.max_position_embeddings, config.hidden_size, "position")
        types = config.type_vocab_size
        self.token_type = table(types, config.hidden_size, "token_type") if types else None
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, token_ids: Any, segment_ids: Any, mask: Any, training: bool = False) -> Any:
        positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1], dtype="int32"), 0)
        total = self.word_projection(self.word(token_ids)) + self.position(positions)
        if self.token_type is not None:
            total = total + self.token_type(segment_ids)
        return self.dropout(self.norm(total), training=training)


class PrunedBertLayer(Composite):
    """One transformer layer of its own sizes. Returns (hidden state (B, L, H), scores (B, A, L, L) before mask and softmax).

    `gates` (B, A), if given, are factors on the output of each head: 1 changes nothing, 0 is a head that is not there.
    """

    attention_quantizer: Any = None  # of `tfdistill.models.quantization_aware`

    def __init__(self, config: PrunedBertConfig, shape: LayerShape, **kwargs: Any):
        super().__init__(**kwargs)
        width, self.shape = config.hidden_size, shape
        # `attend` divides the scores by the root of the width it sees; they are to be divided by that before pruning.
        self.rescale = (shape.query_key / config.head_size) ** 0.5

        def linear(units: int, name: str, activation: Any = None) -> Linear:
            init = initializer(config.initializer_range)
            return Linear(units, activation, kernel_initializer=init, dtype=self.dtype_policy, name=name)

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name=name)

        self.query, self.key = (linear(shape.heads * shape.query_key, name) for name in ("query", "key"))
        self.value = linear(shape.heads * shape.value, "value")
        self.attention_output = linear(width, "attention_output")
        self.attention_norm = norm("attention_norm")
        self.intermediate = linear(shape.intermediate, "intermediate", ACTIVATIONS[config.hidden_act])
        self.output_dense = linear(width, "output_dense")
        self.output_norm = norm("output_norm")
        self.attention_dropout = Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy)
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, hidden: Any, key_bias: Any, training: bool = False, gates: Any = None) -> tuple[Any, Any]:
        query, key, value = self.query(hidden) * self.rescale, self.key(hidden), self.value(hidden)
        mixed, scores = attend(
            query, key, value, key_bias, self.shape.heads, self.attention_dropout, training, self.attention_quantizer
        )
        if gates is not None:
            wide = ops.repeat(ops.cast(gates, mixed.dtype), self.shape.value, axis=1)
            mixed = mixed * wide[:, None, :]
        mixed = self.dropout(self.attention_output(mixed), training=training)
        hidden = self.attention_norm(hidden + mixed)
        fed = self.dropout(self.output_dense(self.intermediate(hidden)), training=training)
        return self.output_norm(hidden + fed), scores


class LayerDrop(keras.layers.Layer):
    """In training, `before` in place of `after` with probability `rate`: a layer is skipped.

    One draw for each batch, as the authors do. The skipped layer is computed all the same, so that the graph stays static.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, after: Any, before: Any, training: bool = False) -> Any:
        if not training:
            return after
        return ops.where(keras.random.uniform((), seed=self.seed_generator) < self.rate, before, after)


# --- model ----------------------------------------------------------------------------------------------------------


class PrunedBertEncoder(BertEncoder):
    """`BertEncoder` of a `PrunedBertConfig`. Inputs may also hold `head_gates`, a (B, A) for each layer (head pruning)."""

    def __init__(self, config: PrunedBertConfig, pooler: bool = True, **kwargs: Any):
        keras.layers.Layer.__init__(self, **kwargs)  # BertEncoder's own would make layers of even shape
        self.config, self.has_pooled = config, pooler
        kind = BertEmbeddings if config.embedding_size is None else FactorisedEmbeddings
        self.embeddings = kind(config, dtype=self.dtype_policy, name="embeddings")
        self.blocks = [
            PrunedBertLayer(config, config.layer_shape(n), dtype=self.dtype_policy, name=f"layer_{n}")
            for n in range(1, config.num_hidden_layers + 1)
        ]
        self.layerdrops = [LayerDrop(config.layerdrop) for _ in self.blocks] if config.layerdrop else None
        self.pooler = None
        if pooler:
            self.pooler = Linear(
                config.pooler_size or config.hidden_size,
                config.pooler_act,
                kernel_initializer=initializer(config.initializer_range),
                dtype=self.dtype_policy,
                name="pooler",
            )

    def width(self, feature: str) -> int | None:
        if feature == "pooled" and self.pooler is not None:
            return self.pooler.units
        return super().width(feature)

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], inputs["padding_mask"]
        segment_ids = inputs.get("segment_ids")
        if segment_ids is None:
            segment_ids = ops.zeros_like(token_ids)
        key_bias = (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * MASKED_SCORE
        hidden = embeddings = self.embeddings(token_ids, segment_ids, mask, training=training)
        states, scores = [], []
        for number, block in enumerate(self.blocks):
            gates = inputs["head_gates"][number] if "head_gates" in inputs else None
            after, score = block(hidden, key_bias, training=training, gates=gates)
            if self.layerdrops is not None:
                after = self.layerdrops[number](after, hidden, training=training)
            hidden = after
            states.append(hidden)
            scores.append(score)
        said = {"embeddings": embeddings, "hidden_states": tuple(states), "attention_scores": tuple(scores)}
        if "pooled" in want and self.pooler is not None:
            said["pooled"] = self.pooler(hidden[:, 0])
        return {name: said[name] for name in want}
