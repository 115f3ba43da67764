"""MobileBERT (Sun et al. 2020), its TINY variant and the IB-BERT teacher, as one encoder with transformers' switches."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdistill.models.bert import BertEncoder, LayerOutput
from tfdistill.models.layers import ACTIVATIONS, Composite, Dropout, Embedding, Linear, NoNorm, attend, initializer
from tfdistill.models.mobilebert_config import MobileBertConfig


def _norm(config: MobileBertConfig, dtype: Any, name: str, epsilon: float | None = None) -> keras.layers.Layer:
    if config.normalization_type == "no_norm":
        return NoNorm(dtype=dtype, name=name)
    epsilon = config.layer_norm_eps if epsilon is None else epsilon
    return keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name=name)


def _linear(config: MobileBertConfig, units: int, dtype: Any, name: str, activation: Any = None) -> Linear:
    init = initializer(config.initializer_range)
    return Linear(units, activation, kernel_initializer=init, dtype=dtype, name=name)


# transformers uses PyTorch's default in the norms of the embeddings and of a layer's last feed-forward network.
_TORCH_EPSILON = 1e-5


class MobileBertEmbeddings(Composite):
    """Embed tokens with their neighbours (next, current, previous), then add position and token type.

    Zeros are before the first and after the last token (section 3.5, after Kaliamoorthi et al. 2019),
    also if padding follows. So padding does not change an example; in transformers, where the [PAD]
    vector follows the last token, it does.
    """

    def __init__(self, config: MobileBertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.trigram = config.trigram_input

        def table(rows: int, width: int, name: str) -> Embedding:
            init = initializer(config.initializer_range)
            return Embedding(rows, width, init, dtype=self.dtype_policy, name=name)

        self.word = table(config.vocab_size, config.embedding_size, "word")
        self.position = table(config.max_position_embeddings, config.hidden_size, "position")
        self.token_type = table(config.type_vocab_size, config.hidden_size, "token_type")
        self.transformation = None
        if config.embedding_transformation:
            self.transformation = _linear(config, config.hidden_size, self.dtype_policy, "transformation")
        self.norm = _norm(config, self.dtype_policy, "norm", _TORCH_EPSILON)
        self.dropout = Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, token_ids: Any, segment_ids: Any, mask: Any, training: bool = False) -> Any:
        """Return embeddings (B, L, H) of int32 (B, L) inputs."""
        words = self.word(token_ids)
        if self.trigram:
            words = words * ops.cast(mask, words.dtype)[:, :, None]
            following = ops.pad(words[:, 1:], ((0, 0), (0, 1), (0, 0)))
            previous = ops.pad(words[:, :-1], ((0, 0), (1, 0), (0, 0)))
            words = ops.concatenate([following, words, previous], axis=-1)
        if self.transformation is not None:
            words = self.transformation(words)
        positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1], dtype="int32"), 0)
        total = words + self.position(positions) + self.token_type(segment_ids)
        return self.dropout(self.norm(total), training=training)


class Bottleneck(Composite):
    """Apply a dense layer and a norm, which change the size of the hidden states."""

    def __init__(self, config: MobileBertConfig, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.dense = _linear(config, units, self.dtype_policy, "dense")
        self.norm = _norm(config, self.dtype_policy, "norm")

    def call(self, hidden: Any) -> Any:
        return self.norm(self.dense(hidden))


class FeedForward(Composite):
    """Apply dense, activation, dense and dropout, then a norm to the sum with the input."""

    def __init__(self, config: MobileBertConfig, dropout: float = 0.0, epsilon: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        activation = ACTIVATIONS[config.hidden_act]
        self.intermediate = _linear(config, config.intermediate_size, self.dtype_policy, "intermediate", activation)
        self.output_dense = _linear(config, config.width, self.dtype_policy, "output_dense")
        self.norm = _norm(config, self.dtype_policy, "norm", epsilon)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def call(self, hidden: Any, training: bool = False) -> Any:
        return self.norm(self.dropout(self.output_dense(self.intermediate(hidden)), training=training) + hidden)


class MobileBertLayer(Composite):
    """Apply one layer: bottlenecks, self-attention and a stack of feed-forward networks."""

    attention_quantizer: Any = None  # set by `tfdistill.models.quantization_aware`

    def __init__(self, config: MobileBertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config, dtype, width = config, self.dtype_policy, config.width
        # Inside a bottleneck only attention weights drop out; the layer's output does as well.
        inner_dropout = 0.0 if config.use_bottleneck else config.hidden_dropout_prob
        self.input_bottleneck = Bottleneck(config, width, dtype=dtype, name="input") if config.use_bottleneck else None
        self.attention_bottleneck = None
        if config.attention_bottleneck:
            self.attention_bottleneck = Bottleneck(config, width, dtype=dtype, name="attention")
        self.query, self.key, self.value = (_linear(config, width, dtype, name) for name in ("query", "key", "value"))
        self.attention_output = _linear(config, width, dtype, "attention_output")
        self.attention_norm = _norm(config, dtype, "attention_norm")
        self.attention_dropout = Dropout(config.attention_probs_dropout_prob, dtype=dtype)
        self.inner_dropout = Dropout(inner_dropout, dtype=dtype)
        self.stack = [
            FeedForward(config, dtype=dtype, name=f"ffn_{n}") for n in range(1, config.num_feedforward_networks)
        ]
        self.last = FeedForward(config, inner_dropout, _TORCH_EPSILON, dtype=dtype, name="ffn_last")
        if config.use_bottleneck:
            self.output_dense = _linear(config, config.hidden_size, dtype, "output_dense")
            self.output_norm = _norm(config, dtype, "output_norm")
            self.dropout = Dropout(config.hidden_dropout_prob, dtype=dtype)

    def call(self, hidden: Any, key_bias: Any, training: bool = False) -> LayerOutput:
        """Compute the layer; arguments as in `BertLayer.call`."""
        narrow = hidden if self.input_bottleneck is None else self.input_bottleneck(hidden)
        if self.attention_bottleneck is not None:
            reads = self.attention_bottleneck(hidden)
            query, key, value = self.query(reads), self.key(reads), self.value(hidden)
        else:
            reads = narrow if self.config.use_bottleneck_attention else hidden
            query, key, value = self.query(reads), self.key(reads), self.value(reads)
        heads, quantizer = self.config.num_attention_heads, self.attention_quantizer
        mixed, scores = attend(query, key, value, key_bias, heads, self.attention_dropout, training, quantizer)
        mixed = self.inner_dropout(self.attention_output(mixed), training=training)
        narrow = self.attention_norm(mixed + narrow)
        for network in self.stack:
            narrow = network(narrow, training=training)
        narrow = self.last(narrow, training=training)
        if not self.config.use_bottleneck:
            return LayerOutput(narrow, scores, query, key, value)
        wide = self.dropout(self.output_dense(narrow), training=training)
        return LayerOutput(self.output_norm(wide + hidden), scores, query, key, value)


# --- model ----------------------------------------------------------------------------------------------------------


class MobileBertEncoder(BertEncoder):
    """Encode tokens; hidden states are the outputs of the layers, `hidden_size` wide."""

    # Without LayerNorm the scores can be larger than BERT's -100.
    masked_score = -10_000.0
    can_skip = False

    def make_embeddings(self) -> MobileBertEmbeddings:
        return MobileBertEmbeddings(self.config, dtype=self.dtype_policy, name="embeddings")

    def make_layer(self, number: int) -> MobileBertLayer:
        return MobileBertLayer(self.config, dtype=self.dtype_policy, name=f"layer_{number}")
