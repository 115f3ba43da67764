"""BERT encoder (Devlin et al. 2019), exact against Hugging Face: erf-GELU, LayerNorm after each residual sum."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops

from tfdistill.errors import UserError

# Added to the scores of padded keys. Bounded on purpose: exp(-100) is far below float32's resolution beside real keys,
# and static int8 keeps its scale, which -10,000 or -1e9 would destroy.
MASKED_SCORE = -100.0

_ACTIVATIONS = {
    "gelu": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu_new": lambda x: keras.activations.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": keras.activations.relu,
}


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

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in _ACTIVATIONS:
            raise UserError(f"hidden_act '{self.hidden_act}' is unknown; expected one of {', '.join(_ACTIVATIONS)}")


# --- layers ---------------------------------------------------------------------------------------------------------


def _initializer(config: BertConfig) -> keras.initializers.Initializer:
    """A new one for every weight: a Keras initializer draws the same numbers each time it is used."""
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)


@keras.saving.register_keras_serializable(package="tfdistill")
class Linear(keras.layers.Dense):
    """Dense over the last axis as one two-dimensional product: one kernel in TFLite, and no batched gradient."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        shape = ops.shape(inputs)
        flat = inputs if len(shape) == 2 else ops.reshape(inputs, (-1, shape[-1]))
        outputs = self.activation(ops.add(ops.matmul(flat, self.kernel), self.bias))
        return outputs if len(shape) == 2 else ops.reshape(outputs, (*shape[:-1], self.units))


class BertEmbeddings(keras.layers.Layer):
    """Sum of word, position and token-type embeddings, then LayerNorm and dropout."""

    def __init__(self, config: BertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.word = keras.layers.Embedding(
            config.vocab_size, config.hidden_size, _initializer(config), dtype=self.dtype_policy, name="word"
        )
        self.position = keras.layers.Embedding(
            config.max_position_embeddings,
            config.hidden_size,
            _initializer(config),
            dtype=self.dtype_policy,
            name="position",
        )
        self.token_type = keras.layers.Embedding(
            config.type_vocab_size, config.hidden_size, _initializer(config), dtype=self.dtype_policy, name="token_type"
        )
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def call(self, token_ids: Any, segment_ids: Any, training: bool = False) -> Any:
        positions = ops.expand_dims(ops.arange(ops.shape(token_ids)[1], dtype="int32"), 0)
        total = self.word(token_ids) + self.position(positions) + self.token_type(segment_ids)
        return self.dropout(self.norm(total), training=training)


class BertLayer(keras.layers.Layer):
    """One transformer layer. Returns (hidden state (B, L, H), attention scores (B, A, L, L) before mask and softmax)."""

    def __init__(self, config: BertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        width = config.hidden_size
        self.heads, self.head_size = config.num_attention_heads, width // config.num_attention_heads

        def linear(units: int, name: str, activation: Any = None) -> Linear:
            return Linear(
                units, activation, kernel_initializer=_initializer(config), dtype=self.dtype_policy, name=name
            )

        self.query, self.key, self.value = (linear(width, name) for name in ("query", "key", "value"))
        self.attention_output = linear(width, "attention_output")
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="attention_norm"
        )
        self.intermediate = linear(config.intermediate_size, "intermediate", _ACTIVATIONS[config.hidden_act])
        self.output_dense = linear(width, "output_dense")
        self.output_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="output_norm"
        )
        self.attention_dropout = keras.layers.Dropout(config.attention_probs_dropout_prob, dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy)

    def _split(self, x: Any) -> Any:
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        return ops.transpose(ops.reshape(x, (batch, length, self.heads, self.head_size)), (0, 2, 1, 3))

    def call(self, hidden: Any, key_bias: Any, training: bool = False) -> tuple[Any, Any]:
        shape = ops.shape(hidden)
        query = self._split(self.query(hidden)) * ops.cast(self.head_size**-0.5, hidden.dtype)
        scores = ops.matmul(query, ops.transpose(self._split(self.key(hidden)), (0, 1, 3, 2)))
        weights = ops.softmax(scores + ops.cast(key_bias, scores.dtype), axis=-1)
        mixed = ops.matmul(self.attention_dropout(weights, training=training), self._split(self.value(hidden)))
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), shape)
        mixed = self.dropout(self.attention_output(mixed), training=training)
        hidden = self.attention_norm(hidden + mixed)
        fed = self.dropout(self.output_dense(self.intermediate(hidden)), training=training)
        return self.output_norm(hidden + fed), scores


# --- model ----------------------------------------------------------------------------------------------------------


class BertEncoder(keras.layers.Layer):
    """Embeddings, layers and pooler (tanh of a dense layer over the [CLS] state).

    Called with a dict of int32 (B, L): `token_ids`, `padding_mask` and, optionally, `segment_ids`.
    Returns a dict of `pooled`, `embeddings`, `hidden_states`, `attention_scores` as in `tfdistill.features.Features`.
    """

    def __init__(self, config: BertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.embeddings = BertEmbeddings(config, dtype=self.dtype_policy, name="embeddings")
        self.blocks = [
            BertLayer(config, dtype=self.dtype_policy, name=f"layer_{n}")
            for n in range(1, config.num_hidden_layers + 1)
        ]
        self.pooler = Linear(
            config.hidden_size, "tanh", kernel_initializer=_initializer(config), dtype=self.dtype_policy, name="pooler"
        )

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], inputs["padding_mask"]
        segment_ids = inputs.get("segment_ids")
        if segment_ids is None:
            segment_ids = ops.zeros_like(token_ids)
        key_bias = (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * MASKED_SCORE
        embeddings = self.embeddings(token_ids, segment_ids, training=training)
        hidden, states, scores = embeddings, [], []
        for block in self.blocks:
            hidden, score = block(hidden, key_bias, training=training)
            states.append(hidden)
            scores.append(score)
        pooled = self.pooler(hidden[:, 0])
        return {"pooled": pooled, "embeddings": embeddings, "hidden_states": states, "attention_scores": scores}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": asdict(self.config)}
