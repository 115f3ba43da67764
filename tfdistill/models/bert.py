"""BERT's encoder (Devlin et al. 2019), exact against Hugging Face: erf-GELU, LayerNorm after each residual sum.

The same classes encode DistilBERT (without token types), RoBERTa, ELECTRA and ALBERT
(`tfdistill.models.families`), models that `tfdistill.compress` has pruned (layers of different sizes, a
factorised word table) and models that train with LayerDrop.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from tfdistill.models.bert_config import (
    BertConfig,
    LayerShape,
)
from tfdistill.models.encoder import Encoder
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

_POOLER_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "gelu": ACTIVATIONS["gelu"]}


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
                _POOLER_ACTIVATIONS[config.pooler_act],
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
