"""Layers that the encoders share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

# Added to the scores of padded keys. exp(-100) is far below float32's resolution, and static int8 keeps its scale, which
# -10,000 or -1e9 would destroy.
MASKED_SCORE = -100.0


@tf.custom_gradient
def gelu(x: Any) -> tuple[Any, Any]:
    """Return x·Φ(x), the exact GELU (Hendrycks and Gimpel 2016).

    The gradient is written out, which takes half the operations of the traced one.
    """
    cumulative = 0.5 * (1.0 + tf.math.erf(x * 0.5**0.5))

    def gradient(upstream: Any) -> Any:
        return upstream * (cumulative + x * (tf.exp(-0.5 * x * x) * (2.0 * np.pi) ** -0.5))

    return x * cumulative, gradient


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": lambda x: keras.activations.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": keras.activations.relu,
}


def initializer(stddev: float) -> keras.initializers.Initializer:
    """Return a new initializer. Every weight needs one: a Keras initializer always draws the same numbers."""
    return keras.initializers.TruncatedNormal(stddev=stddev)


class Composite(keras.layers.Layer):
    """Base class of layers that contain layers, whose weights are made by the first call.

    Without this `build`, Keras would first trace `call` on symbols, twice at each level, which takes
    seconds for every model.
    """

    def build(self, shape: Any) -> None: ...


class Dropout(keras.layers.Dropout):
    """Drop inputs as Keras' Dropout does, with half the random numbers; the rate is exact to 1/65,536."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return inputs
        levels = 2**16
        dropped = min(round(self.rate * levels), levels - 1)
        size = tf.size(inputs)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform([(size + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32)
        drawn = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size], tf.shape(inputs))
        kept = tf.cast(drawn >= tf.constant(dropped, tf.uint16), inputs.dtype)
        return inputs * (kept * (levels / (levels - dropped)))


@keras.saving.register_keras_serializable(package="tfdistill")
class Embedding(keras.layers.Embedding):
    """Look up rows without copying the table, which Keras' Embedding does in each step."""

    def call(self, inputs: Any) -> Any:
        return ops.cast(tf.gather(self._embeddings.value, ops.cast(inputs, "int32")), self.compute_dtype)


@keras.saving.register_keras_serializable(package="tfdistill")
class Linear(keras.layers.Dense):
    """Apply a dense layer to the last axis as one two-dimensional product: one kernel in TFLite, no batched gradient."""

    quantizer: Any = None  # set by `tfdistill.models.quantization_aware` before the first call

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        shape = ops.shape(inputs)
        flat = inputs if len(shape) == 2 else ops.reshape(inputs, (-1, shape[-1]))
        kernel, bias = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        if self.quantizer is None:
            outputs = self.activation(tf.nn.bias_add(ops.matmul(flat, kernel), bias))
        else:
            outputs = self.quantizer(flat, kernel, bias, activation=self.activation)
        return outputs if len(shape) == 2 else ops.reshape(outputs, (*shape[:-1], self.units))


class NoNorm(keras.layers.Layer):
    """Return γ∘h + β, MobileBERT's replacement of LayerNorm (Sun et al. 2020, section 3.3)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gamma + self.beta


def _masked_softmax(scores: Any, key_bias: Any) -> Any:
    return ops.softmax(scores + ops.cast(key_bias, scores.dtype), axis=-1)


def attend(
    query: Any, key: Any, value: Any, key_bias: Any, heads: int, dropout: Any, training: bool, quantizer: Any = None
) -> tuple[Any, Any]:
    """Apply scaled dot-product attention.

    Args:
        query: (B, M, heads·size).
        key: (B, L, heads·size).
        value: (B, L, heads·size of a value).
        key_bias: (B, 1, 1, L), added to the scores: 0 for tokens, a large negative number for padding.
        heads: the number of heads.
        dropout: a layer for the attention weights.
        training: whether dropout is active.
        quantizer: replaces mask and softmax in quantization-aware training.

    Returns:
        Mixed values (B, M, heads·size of a value), and scores (B, heads, M, L) before mask and softmax.
    """
    batch, queries = ops.shape(query)[0], ops.shape(query)[1]

    def split(x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (batch, ops.shape(x)[1], heads, x.shape[-1] // heads)), (0, 2, 1, 3))

    scale = ops.cast((query.shape[-1] // heads) ** -0.5, query.dtype)
    scores = ops.matmul(split(query) * scale, ops.transpose(split(key), (0, 1, 3, 2)))
    weights = (quantizer or _masked_softmax)(scores, key_bias)
    mixed = ops.matmul(dropout(weights, training=training), split(value))
    return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (batch, queries, value.shape[-1])), scores
