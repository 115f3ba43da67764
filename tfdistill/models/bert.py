"""BERT's encoder (Devlin et al. 2019), exact against Hugging Face: erf-GELU, LayerNorm after each residual sum.

The same classes encode DistilBERT (without token types), RoBERTa, ELECTRA and ALBERT
(`tfdistill.models.families`), models that `tfdistill.compress` has pruned (layers of different sizes, a
factorised word table) and models that train with LayerDrop.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.config_fields import check_fields, shown
from tfdistill.models.encoder import Encoder
from tfdistill.models.heads import HEADS
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

# Fields of BertConfig with one number for each layer, in the order of LayerShape.
PER_LAYER = ("heads_per_layer", "query_key_sizes", "value_sizes", "intermediate_sizes")
POOLER_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "gelu": ACTIVATIONS["gelu"]}


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
        hidden_act: the activation of the feed-forward layers, one of `ACTIVATIONS`.
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
    if activation not in ACTIVATIONS:
        raise UserError(f"`{field}` is {shown(activation)}. Use one of {', '.join(ACTIVATIONS)}.")


def dropout_of_classifiers(task: str, rate: float | None, default: float) -> float:
    """Return `rate`, or `default` if that is None, for tasks with classes; 0 for the others."""
    if not HEADS[task].labelled:
        return 0.0
    return default if rate is None else rate


# --- layers ---------------------------------------------------------------------------------------------------------


class BertEmbeddings(Composite):
    """Sum word, position and token-type embeddings, then apply LayerNorm and dropout.

    With `config.embedding_size` E the word table is (V, E), times a matrix (E, H). With
    `config.projects_sum` all tables and LayerNorm are E wide, and a dense layer (E, H) follows.
    """

    def __init__(self, config: BertConfig, **kwargs: Any):
        super().__init__(**kwargs)

        def table(rows: int, width: int, name: str) -> Embedding:
            init = initializer(config.initializer_range)
            return Embedding(rows, width, init, dtype=self.dtype_policy, name=name)

        self.projects_sum, self.padding_idx = config.projects_sum, config.padding_idx
        columns = config.embedding_size or config.hidden_size
        width = columns if config.projects_sum else config.hidden_size
        self.word = table(config.vocab_size, columns, "word")
        self.word_projection: Any = None
        if config.embedding_size is not None:
            # Only a matrix may be a plain dense layer: `Linear` is what quantization-aware training rounds.
            kind: Any = Linear if config.projects_sum else partial(keras.layers.Dense, use_bias=False)
            self.word_projection = kind(
                config.hidden_size,
                kernel_initializer=initializer(config.initializer_range),
                dtype=self.dtype_policy,
                name="word_projection",
            )
        self.position = table(config.max_position_embeddings, width, "position")
        types = config.type_vocab_size
        self.token_type = table(types, width, "token_type") if types else None
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, token_ids: Any, segment_ids: Any, mask: Any, training: bool = False) -> Any:
        """Return embeddings (B, L, H) of int32 (B, L) inputs. BERT ignores the mask, MobileBERT reads it."""
        words = self.word(token_ids)
        if self.word_projection is not None and not self.projects_sum:
            words = self.word_projection(words)
        total = words + self.position(self._positions(token_ids))
        if self.token_type is not None:
            total = total + self.token_type(segment_ids)
        embeddings = self.dropout(self.norm(total), training=training)
        return self.word_projection(embeddings) if self.projects_sum else embeddings

    def _positions(self, token_ids: Any) -> Any:
        """Return rows of the position table, (1, L) or (B, L)."""
        if self.padding_idx is None:
            return ops.expand_dims(ops.arange(ops.shape(token_ids)[1], dtype="int32"), 0)
        # As in transformers, padding is recognised by its id and has the row of that number.
        tokens = ops.cast(ops.not_equal(token_ids, self.padding_idx), "int32")
        return ops.cumsum(tokens, axis=1) * tokens + self.padding_idx


# Features with the inputs of self-attention, and their names in a layer and in its output.
ATTENTION_INPUTS = {"queries": "query", "keys": "key", "values": "value"}


class LayerOutput(NamedTuple):
    """Hold what a transformer layer computes.

    M is the length L, or 1 if only the first position was computed.

    Attributes:
        hidden: hidden states (B, M, H).
        attention_scores: scores (B, A, M, L) before mask and softmax.
        query: (B, M, A·size), with the heads side by side; `key` and `value`: (B, L, A·size).
    """

    hidden: Any
    attention_scores: Any
    query: Any
    key: Any
    value: Any


class BertLayer(Composite):
    """Apply self-attention and a feed-forward network, each with a residual sum and LayerNorm."""

    attention_quantizer: Any = None  # set by `tfdistill.models.quantization_aware`

    def __init__(self, config: BertConfig, shape: LayerShape, **kwargs: Any):
        super().__init__(**kwargs)
        width, self.shape = config.hidden_size, shape
        # `attend` divides scores by the root of the size it sees; it should be the size before pruning.
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

    def call(
        self, hidden: Any, key_bias: Any, training: bool = False, first_only: bool = False, gates: Any = None
    ) -> LayerOutput:
        """Compute the layer.

        Args:
            hidden: hidden states (B, L, H) of the layer below.
            key_bias: (B, 1, 1, L), added to the scores: 0 for tokens, a large negative number for padding.
            first_only: compute the first position alone, from all positions below.
            gates: (B, A) factors on the output of each head: 1 keeps a head, 0 removes it.
        """
        key, value = self.key(hidden), self.value(hidden)
        hidden = hidden[:, :1] if first_only else hidden
        query = self.query(hidden)
        rescaled = query if self.rescale == 1.0 else query * self.rescale
        mixed, scores = attend(
            rescaled, key, value, key_bias, self.shape.heads, self.attention_dropout, training, self.attention_quantizer
        )
        if gates is not None:
            mixed = mixed * ops.repeat(ops.cast(gates, mixed.dtype), self.shape.value, axis=1)[:, None, :]
        mixed = self.dropout(self.attention_output(mixed), training=training)
        hidden = self.attention_norm(hidden + mixed)
        fed = self.dropout(self.output_dense(self.intermediate(hidden)), training=training)
        return LayerOutput(self.output_norm(hidden + fed), scores, query, key, value)


class PrunedBertLayer(BertLayer):
    """Name the layers of pruned models: `.keras` files address layers by the name of their class."""


class LayerDrop(keras.layers.Layer):
    """Skip a layer with probability `rate` in training (Fan, Grave and Joulin 2020): return `before`, not `after`.

    There is one draw for each batch, as in the authors' code. A skipped layer is computed all the
    same, so that the graph stays static.
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


class BertEncoder(Encoder):
    """Encode tokens: embeddings, layers and, for tasks that read it, a pooler over the [CLS] state.

    Args:
        config: the sizes.
        pooler: whether the task reads `pooled`.
        share: for each layer, the number of the weights that it uses, as in ALBERT; None if each has its own.

    Example:
        encoder = BertEncoder(BertConfig(num_hidden_layers=4))
        inputs = {"token_ids": ids, "padding_mask": mask}  # int32 (B, L) each
        features = encoder(inputs, want=("hidden_states", "pooled"))
        features["pooled"]  # (B, 768)
    """

    masked_score = MASKED_SCORE

    def __init__(self, config: BertConfig, pooler: bool = True, *, share: Sequence[int] | None = None, **kwargs: Any):
        super().__init__(config, pooler, **kwargs)
        self.embeddings = self.make_embeddings()
        share = range(config.num_hidden_layers) if share is None else share
        made = {number: self.make_layer(number + 1) for number in sorted(set(share))}
        self.blocks = [made[number] for number in share]
        self.layerdrops = [LayerDrop(config.layerdrop) for _ in self.blocks] if config.layerdrop else None
        self.pooler = None
        if pooler and config.pooler_act:
            self.pooler = Linear(
                config.pooler_size or config.hidden_size,
                POOLER_ACTIVATIONS[config.pooler_act],
                kernel_initializer=initializer(config.initializer_range),
                dtype=self.dtype_policy,
                name="pooler",
            )

    @property
    def can_skip(self) -> bool:
        """Whether the last layer can compute its first position alone."""
        return self.config.is_plain

    def make_embeddings(self) -> Any:
        return BertEmbeddings(self.config, dtype=self.dtype_policy, name="embeddings")

    def make_layer(self, number: int) -> Any:
        """Return layer `number`, counted from 1."""
        kind = BertLayer if self.can_skip else PrunedBertLayer
        return kind(self.config, self.config.layer_shape(number), dtype=self.dtype_policy, name=f"layer_{number}")

    @property
    def embedding(self) -> Embedding:  # type: ignore[override]  # an attribute in other encoders
        return self.embeddings.word

    @property
    def num_layers(self) -> int:
        return len(self.blocks)

    @property
    def offers(self) -> tuple[str, ...]:
        pooled = ("pooled",) if self.has_pooled else ()
        return ("embeddings", "hidden_states", "attention_scores", *ATTENTION_INPUTS, *pooled)

    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        layers = {f"layer_{number}": [block] for number, block in enumerate(self.blocks, 1)}
        return {"embeddings": [self.embeddings], **layers, **({"pooler": [self.pooler]} if self.pooler else {})}

    def width(self, feature: str) -> int | None:
        if feature == "pooled" and self.has_pooled:
            return self.config.hidden_size if self.pooler is None else self.pooler.units
        if feature in ATTENTION_INPUTS:
            sizes = {getattr(block, ATTENTION_INPUTS[feature]).units for block in self.blocks}
            return sizes.pop() if len(sizes) == 1 else None  # pruning may leave layers of several sizes
        return self.config.hidden_size if feature in ("embeddings", "hidden_states") else None

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        """Return the features named in `want`.

        Args:
            inputs: as in `Encoder.call`; optionally also `head_gates`, a (B, A) for each layer.
            want: some of `offers`.
            training: whether dropout and LayerDrop are active.
        """
        token_ids, mask, gates = inputs["token_ids"], inputs["padding_mask"], inputs.get("head_gates")
        segment_ids = inputs.get("segment_ids")
        if segment_ids is None:
            segment_ids = ops.zeros_like(token_ids)
        key_bias = (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * self.masked_score
        hidden = embeddings = self.embeddings(token_ids, segment_ids, mask, training=training)
        pooled_only = self.can_skip and set(want) == {"pooled"} and gates is None
        outputs: list[LayerOutput] = []
        for number, block in enumerate(self.blocks):
            options = {} if gates is None else {"gates": gates[number]}
            if pooled_only and number + 1 == len(self.blocks):
                # A classifier reads the [CLS] state alone. So the last layer computes queries, attention
                # output and feed-forward network for one position instead of L, which saves most of a layer.
                options["first_only"] = True
            output = block(hidden, key_bias, training=training, **options)
            if self.layerdrops is not None:
                output = output._replace(hidden=self.layerdrops[number](output.hidden, hidden, training=training))
            outputs.append(output)
            hidden = output.hidden
        features = {"embeddings": embeddings}
        features["hidden_states"] = tuple(output.hidden for output in outputs)
        features["attention_scores"] = tuple(output.attention_scores for output in outputs)
        for name, part in ATTENTION_INPUTS.items():
            features[name] = tuple(getattr(output, part) for output in outputs)
        # The first call makes all weights, whichever features it returns.
        if "pooled" in want or (self.pooler is not None and not self.pooler.built):
            features["pooled"] = hidden[:, 0] if self.pooler is None else self.pooler(hidden[:, 0])
        return {name: features[name] for name in want}
