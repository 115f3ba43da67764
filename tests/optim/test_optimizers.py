"""Optimizers against Keras' and against numbers worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.optim.optimizers import OPTIMIZERS, make_optimizer
from tfdistill.optim.schedule import WarmupLinear


def test_frozen_variables_do_not_count_in_the_gradient_norm():
    trained, frozen = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = make_optimizer("sgd", WarmupLinear(1.0, 0, 10**6), clip_norm=1.0)
    optimizer.build([trained, frozen])
    optimizer.factors.assign([1.0, 0.0])
    optimizer.apply([tf.constant([0.5]), tf.constant([1000.0])], [trained, frozen])
    assert trained.numpy() == pytest.approx([0.5], abs=1e-4) and frozen.numpy() == pytest.approx([1.0])


def test_adamw_is_keras_adamw():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 2)), rng.normal(size=(5, 3, 2)).astype("float32")
    variable, expected = (keras.Variable(start, name="kernel") for _ in range(2))
    optimizer = make_optimizer("adamw", WarmupLinear(0.1, 0, 10**9))
    reference = keras.optimizers.AdamW(0.1, weight_decay=0.01)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
        reference.apply([tf.constant(gradient)], [expected])
    np.testing.assert_allclose(variable.numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("epsilon", "moved"), [(None, 0.024026), (1e-6, 0.0030653)])
def test_adams_epsilon(epsilon, moved):
    """A first step is rate·g / (|g| + ε/√(1 - β₂)), the ε̂ of Kingma and Ba, section 2: here 0.1·g / (g + 31.6·ε), g = 1e-6."""
    weight = keras.Variable([0.0], name="kernel")
    optimizer = make_optimizer("adam", WarmupLinear(0.1, 0, 10**9), epsilon=epsilon)
    optimizer.build([weight])
    optimizer.apply([tf.constant([1e-6])])
    np.testing.assert_allclose(weight.numpy(), [-moved], rtol=1e-3)


def test_biases_and_norms_do_not_decay():
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "bias", "gamma", "beta")]
    optimizer = make_optimizer("adamw", WarmupLinear(0.1, 0, 10**9), weight_decay=0.5)
    optimizer.build(variables)
    optimizer.apply([tf.zeros(1)] * 4, variables)
    assert [v.numpy()[0] for v in variables] == pytest.approx([0.95, 1.0, 1.0, 1.0])


def test_lambs_first_step():
    """r = [1, 1] + 0.1·[3, 4], ‖x‖ = 5, ‖r‖ = 1.910497; 0.1·5/1.910497·r = [0.340226, 0.366397]. A bias has no decay."""
    variables = [keras.Variable([3.0, 4.0], name=name) for name in ("kernel", "bias")]
    optimizer = make_optimizer("lamb", WarmupLinear(0.1, 0, 10**9), weight_decay=0.1)
    optimizer.build(variables)
    optimizer.apply([tf.ones(2)] * 2, variables)
    np.testing.assert_allclose(variables[0].numpy(), [2.659774, 3.633603], rtol=1e-5)
    np.testing.assert_allclose(variables[1].numpy(), [3 - 0.353553, 4 - 0.353553], rtol=1e-5)


@pytest.mark.parametrize("name", ["lamb", "adadelta"])
def test_rows_that_are_read_twice_count_once(name):
    moved = []
    for sparse in (False, True):
        table = keras.Variable(np.arange(1.0, 7.0, dtype="float32").reshape(3, 2), name="embeddings")
        optimizer = make_optimizer(name, WarmupLinear(0.1, 0, 10**9))
        optimizer.build([table])
        for _ in range(3):
            rows = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), tf.constant([2, 2, 0]), [3, 2])
            whole = tf.constant([[0.5, 0.5], [0.0, 0.0], [4.0, 1.0]])
            optimizer.apply([rows if sparse else whole], [table])
        moved.append(table.numpy())
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-6)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_restarted_optimizer_is_a_new_one(name):
    def steps(optimizer, variable, count):
        for _ in range(count):
            optimizer.apply([tf.constant([0.3])], [variable])
        return variable.numpy()[0]

    old, new = (make_optimizer(name, WarmupLinear(0.1, 2, 10)) for _ in range(2))
    first, second = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="kernel")
    old.build([first])
    new.build([second])
    steps(old, first, 4)
    first.assign([1.0])
    old.restart()
    assert steps(old, first, 4) == pytest.approx(steps(new, second, 4), rel=1e-6)


def test_unknown_optimizer_is_refused():
    with pytest.raises(UserError, match="adamx"):
        make_optimizer("adamx", WarmupLinear(0.1, 0, 1))


@pytest.mark.parametrize("norm", [0.5, 1e6])
def test_clips_the_global_norm_as_keras_does(norm):
    optimizers = [keras.optimizers.SGD(0.01, global_clipnorm=norm), make_optimizer("sgd", 0.01, clip_norm=norm)]
    variables = [keras.Variable(np.ones((5, 3), "float32"), name="kernel") for _ in optimizers]
    for optimizer, variable in zip(optimizers, variables, strict=True):
        optimizer.build([variable])
        for gradient in np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32"):
            optimizer.apply([tf.constant(gradient)], [variable])
    np.testing.assert_allclose(variables[1].numpy(), variables[0].numpy(), atol=1e-6)


def test_the_schedule_rises_and_falls_linearly():
    schedule = WarmupLinear(1.0, 2, 6)
    assert [float(schedule(step)) for step in range(7)] == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    schedule.set(2.0, 0, 2)
    assert [float(schedule(step)) for step in range(3)] == pytest.approx([2.0, 1.0, 0.0])
