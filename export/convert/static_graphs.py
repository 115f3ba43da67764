"""Build the inference graph of the static encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.export.convert.graph_parts import Encoder, Function, Parts

# Copied from tfdistill.models, since importing it would load Keras into the converter's process.
MASKED_SCORE = -100.0


def _token_scores(parts: Parts) -> Function:
    """Return a function from ids (n,) to float32 scores (n, 1).

    The converter would quantize a float table with one scale, and badly; 16 bits are exact enough for a softmax.
    """
    values = parts.tensors["token_score.weight"]
    if parts.table == "float":
        held = parts.hold(values)
        return lambda ids: tf.gather(held, ids)
    unit = max(float(np.abs(values).max()), 1e-12) / (2**15 - 1)
    steps = parts.hold(np.round(values / unit).astype("int16"))
    return lambda ids: tf.cast(tf.gather(steps, ids), tf.float32) * unit


def static(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return `tfdistill.models.static.StaticEncoder`: its pooled output (1, width), or states (length, width)."""
    word = parts.embedding("embedding")
    convolutions = [parts.dense(f"convolution_{n}") for n in range(1, config["convolution_layers"] + 1)]
    dense = [parts.dense(f"dense_{n}") for n in range(1, config["dense_layers"] + 1)] if pooled else []
    score = _token_scores(parts) if pooled else None

    def states(ids: tf.Tensor, real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return token vectors (length, E) of ids (length,), and the last convolution; 0 where `real` (length, 1) is."""
        vectors = word(ids) * real
        x = vectors
        for convolution in convolutions:
            wide = tf.concat([tf.pad(x[:-1], [[1, 0], [0, 0]]), x, tf.pad(x[1:], [[0, 1], [0, 0]])], axis=1)
            x = tf.nn.relu(convolution(wide)) * real
        return vectors, x if convolutions else None

    def pool(ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Pool the tokens where `mask` (length,) is 1 to (1, width)."""
        assert score is not None
        real = tf.reshape(tf.cast(mask, tf.float32), [length, 1])
        vectors, last = states(ids, real)
        scores = tf.reshape(score(ids) + (1.0 - real) * MASKED_SCORE, [1, length])
        mean = tf.matmul(tf.nn.softmax(scores), vectors)
        return mean if last is None else tf.concat([mean, tf.reduce_max(last, axis=0, keepdims=True)], axis=1)

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        ids, mask, segments = (tf.reshape(x, [length]) for x in (token_ids, padding_mask, segment_ids))
        if not pooled:
            vectors, last = states(ids, tf.reshape(tf.cast(mask, tf.float32), [length, 1]))
            return vectors if last is None else tf.concat([vectors, last], axis=1)
        if config["pair"]:
            second = segments * mask
            u, v = pool(ids, mask - second), pool(ids, second)
            state = tf.concat([u, v, tf.abs(u - v), u * v], axis=1)
        else:
            state = pool(ids, mask)
        for layer in dense:
            state = tf.nn.relu(layer(state))
        return state

    return forward
