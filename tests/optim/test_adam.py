"""Fused Adam against Keras's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import mirrored

from tfdistill.optim.adam import FusedAdam, row_sums

GRADIENTS = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")


def _run(optimizer: keras.optimizers.Optimizer, gradients: list) -> np.ndarray:
    variable = keras.Variable(np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3))
    for gradient in gradients:
        optimizer.apply([gradient], [variable])
    return variable.numpy()


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.5}, {"weight_decay": 0.1}])
def test_dense_updates_are_those_of_keras(options: dict) -> None:
    gradients = [tf.constant(g) for g in GRADIENTS]
    expected = _run(keras.optimizers.Adam(0.01, **options), gradients)
    np.testing.assert_allclose(_run(FusedAdam(0.01, **options), gradients), expected, atol=1e-6)


def test_first_step_moves_by_the_learning_rate() -> None:
    # At the first step m / sqrt(v) is the gradient's sign, whatever its size (Kingma and Ba, section 2.1).
    moved = _run(FusedAdam(0.5, epsilon=0.0), [tf.fill([5, 3], 7.0)])
    np.testing.assert_allclose(moved, np.linspace(-1, 1, 15).reshape(5, 3) - 0.5, atol=1e-6)


def _slices(rows: list[int], values: np.ndarray) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([5, 3]))


def test_rows_in_every_batch_move_as_in_adam_and_others_stay() -> None:
    dense = GRADIENTS.copy()
    dense[:, [0, 2, 4]] = 0
    expected = _run(keras.optimizers.Adam(0.01), [tf.constant(g) for g in dense])
    # Row 3 comes twice, each time with half of its gradient.
    sparse = [_slices([3, 1, 3], np.stack([g[3] / 2, g[1], g[3] / 2])) for g in GRADIENTS]
    moved = _run(FusedAdam(0.01), sparse)
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    start = np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3)
    np.testing.assert_array_equal(moved[[0, 2, 4]], start[[0, 2, 4]])


@pytest.mark.heavy
@pytest.mark.parametrize("compiled", [False, True])
def test_static_shapes_give_the_same_rows(compiled: bool) -> None:
    sparse = [_slices([3, 1, 3], np.stack([g[3] / 2, g[1], g[3] / 2])) for g in GRADIENTS]
    variable = keras.Variable(np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3))
    optimizer = FusedAdam(0.01, static=True)
    optimizer.build([variable])
    step = tf.function(lambda gradient: optimizer.apply([gradient]), jit_compile=compiled)
    for gradient in sparse:
        step(gradient)
    np.testing.assert_allclose(variable.numpy(), _run(FusedAdam(0.01), sparse), atol=1e-6)


def test_sums_of_rows() -> None:
    rows, values = row_sums(tf.constant([3, 1, 3, 0]), tf.constant([[1.0], [2.0], [4.0], [8.0]]))
    assert rows.numpy().tolist() == [0, 1, 3, 3] and values.numpy().ravel().tolist() == [8, 2, 5, 5]
    rows, values = row_sums(tf.constant([3, 1, 3, 0]), tf.constant([[1.0], [2.0], [4.0], [8.0]]), once=True)
    assert rows.numpy().tolist() == [0, 1, 3, 3] and values.numpy().ravel().tolist() == [8, 2, 5, 0]


def test_lazy_differs_from_adam_where_a_row_pauses_and_eager_does_not() -> None:
    gradients = [_slices([1], GRADIENTS[0][:1]), _slices([2], GRADIENTS[1][:1])]
    dense = [tf.convert_to_tensor(g) for g in gradients]
    expected = _run(keras.optimizers.Adam(0.01), dense)
    np.testing.assert_allclose(_run(FusedAdam(0.01, lazy=False), gradients), expected, atol=1e-6)
    assert np.abs(_run(FusedAdam(0.01), gradients)[1] - expected[1]).max() > 1e-3


@pytest.mark.heavy
def test_two_replicas_give_one_devices_weights() -> None:
    def train(strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.layers.Embedding(7, 4), keras.layers.Flatten(), keras.layers.Dense(1)])
            model.build((None, 3))
            model.compile(FusedAdam(0.01), "mse")
        ids = np.random.default_rng(1).integers(0, 7, (16, 3))
        model.fit(ids, ids.sum(axis=1).astype("float32"), batch_size=8, shuffle=False, verbose=0)
        return model.get_weights()

    one, two = train(tf.distribute.get_strategy()), train(mirrored())
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_amsgrad_is_refused() -> None:
    with pytest.raises(ValueError, match="no amsgrad"):
        FusedAdam(amsgrad=True)
