"""Activation and dropout of our own against their formulas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdistill.models.layers import Dropout, Linear, gelu


def test_gelu_is_x_times_the_normal_distribution_function() -> None:
    values = gelu(tf.constant([-3.0, -1.0, 0.0, 1.0, 3.0]))
    np.testing.assert_allclose(values, [-0.00404969, -0.15865525, 0.0, 0.84134475, 2.99595031], atol=1e-6)


def test_gelus_gradient_is_the_traced_one() -> None:
    x = tf.linspace(-6.0, 6.0, 101)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = gelu(x), tf.nn.gelu(x, approximate=False)
    np.testing.assert_allclose(tape.gradient(ours, x), tape.gradient(theirs, x), atol=1e-6)


def test_gelus_gradient_has_a_gradient() -> None:
    x = tf.constant([0.0, 1.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = gelu(x)
        slope = inner.gradient(y, x)
    # φ(x)·(2 - x²)
    np.testing.assert_allclose(outer.gradient(slope, x), [0.79788456, 0.24197073], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_gelu_keeps_the_type(dtype: str) -> None:
    assert gelu(tf.cast([0.5], dtype)).dtype == dtype


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0.0, 0.99), shape=st.tuples(st.integers(1, 40), st.integers(1, 51)), seed=st.integers(0, 99))
def test_dropout_drops_its_share_and_scales_the_rest(rate: float, shape: tuple[int, int], seed: int) -> None:
    kept = Dropout(rate, seed=seed)(tf.ones(shape), training=True).numpy()
    share = round(rate * 65536) / 65536
    np.testing.assert_allclose(kept[kept != 0], 1 / (1 - share), rtol=1e-6)
    # Six standard deviations of a share of so many independent draws.
    assert abs((kept == 0).mean() - share) <= 6 * np.sqrt(share * (1 - share) / kept.size) + 1e-9


def test_neighbours_that_share_a_random_word_are_independent() -> None:
    dropped = Dropout(0.5, seed=3)(tf.ones([200_000]), training=True).numpy() == 0
    both = (dropped[0::2] & dropped[1::2]).mean()
    assert abs(both - 0.25) < 6 * np.sqrt(0.25 * 0.75 / 100_000)


def test_dropout_leaves_all_where_it_does_not_train() -> None:
    x = tf.random.stateless_normal([5, 7], [1, 2])
    np.testing.assert_array_equal(Dropout(0.5)(x, training=False), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)


def test_dropout_draws_anew_at_each_call_and_again_with_its_seed() -> None:
    def draws(seed: int) -> np.ndarray:
        layer = Dropout(0.5, seed=seed)
        step = tf.function(lambda: layer(tf.ones([3, 33]), training=True))
        return np.stack([step(), step()])

    first, again, other = draws(1), draws(1), draws(2)
    assert (first[0] != first[1]).any() and (first != other).any()
    np.testing.assert_array_equal(first, again)


def test_dropouts_gradient_is_its_mask() -> None:
    x, layer = tf.ones([4, 9]), Dropout(0.25, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    np.testing.assert_array_equal(tape.gradient(y, x), y)


def test_linear_is_dense() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    ours, theirs = Linear(4, gelu), keras.layers.Dense(4, lambda y: keras.activations.gelu(y, approximate=False))
    ours(x), theirs(x)
    ours.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in ours.weights])
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)
