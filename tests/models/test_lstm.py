"""Our LSTM beside Keras's: the same weights give the same states and gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdistill.models.lstm import LSTM


@pytest.mark.heavy
@pytest.mark.parametrize(("batch", "length"), [(3, 7), (1, 1)])
def test_states_and_gradients_are_keras_own(batch, length):
    rng = np.random.default_rng(batch)
    x = tf.constant(rng.normal(size=(batch, length, 4)).astype("float32"))
    weight = tf.constant(rng.normal(size=(batch, length, 5)).astype("float32"))
    theirs, ours = (kind(5, return_sequences=True) for kind in (keras.layers.LSTM, LSTM))
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights([rng.normal(size=w.shape).astype("float32") for w in theirs.get_weights()])
    theirs.set_weights(ours.get_weights())

    @tf.function
    def run(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            states = layer(x)
            loss = tf.reduce_sum(states * weight)
        return states, tape.gradient(loss, [*(v.value for v in layer.trainable_variables), x])

    (expected, slopes), (found, our_slopes) = run(theirs, x), run(ours, x)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for a, b in zip(our_slopes, slopes, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_half_precision_stays_half():
    layer = LSTM(5, return_sequences=True, dtype="mixed_bfloat16")
    assert layer(np.ones((2, 3, 4), "float32")).dtype == tf.bfloat16
