"""Loss scaling for fp16: a step that overflows changes the scale alone, all other steps are those of float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import mirrored

from tfdistill.optim import loss_scale
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear


def optimizer(name: str, **options):
    return make_optimizer(name, WarmupLinear(0.5, 0, 10), weight_decay=0.0, scaled=True, **options)


def variables():
    return [tf.Variable([1.0, -2.0], name="kernel"), tf.Variable([[1.0], [2.0], [3.0]], name="embeddings")]


def gradients(scale: float, bad: bool = False):
    rows = tf.IndexedSlices(tf.constant([[1.0], [1.0]]) * scale, tf.constant([2, 2]), tf.constant([3, 1]))
    return [tf.constant([np.inf if bad else 0.5, 1.0]) * scale, rows]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
@pytest.mark.parametrize("compiled", [False, True])
def test_scaled_gradients_give_the_step_of_plain_ones(name, compiled):
    variables_, plain = variables(), variables()
    scaled, other = optimizer(name), make_optimizer(name, WarmupLinear(0.5, 0, 10), weight_decay=0.0)
    scaled.build(variables_)
    other.build(plain)
    call = tf.function(scaled.apply) if compiled else scaled.apply
    for _ in range(2):
        call(gradients(float(scaled.scale_loss(tf.constant(1.0)))))
        other.apply(gradients(1.0))
    for a, b in zip(variables_, plain, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    assert scaled.log_values == {"loss_scale": 32768.0, "skipped_steps": 0.0}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_an_overflow_halves_the_scale_and_changes_nothing_else(name):
    weights = variables()
    scaled = optimizer(name, clip_norm=1.0)
    scaled.build(weights)
    step = tf.function(scaled.apply)
    step(gradients(32768.0))
    before = [v.numpy() for v in [*weights, *scaled.variables]]
    names = [*["weight"] * 2, *(v.path for v in scaled.variables)]
    step(gradients(32768.0, bad=True))
    moved = {
        n.rpartition("/")[2]
        for n, v, b in zip(names, [*weights, *scaled.variables], before, strict=True)
        if (v.numpy() != b).any()
    }
    assert moved == {"iteration", "loss_scale", "good_steps", "skipped_steps"}
    assert scaled.log_values == {"loss_scale": 16384.0, "skipped_steps": 1.0} and int(scaled.iterations.numpy()) == 2
    scaled.restart()
    assert scaled.log_values == {"loss_scale": 32768.0, "skipped_steps": 0.0} and int(scaled.iterations.numpy()) == 0


def test_the_scale_grows_after_steps_without_overflow(monkeypatch):
    monkeypatch.setattr(loss_scale, "GROW_AFTER", 2)
    scaled = optimizer("sgd")
    scaled.build(variables())
    scales = []
    for bad in (False, False, False, True, False):
        scaled.apply(gradients(1.0, bad))
        scales.append(scaled.log_values["loss_scale"])
    assert scales == [32768.0, 65536.0, 65536.0, 32768.0, 32768.0]


@pytest.mark.heavy
def test_devices_leave_the_same_steps_out():
    strategy = mirrored()
    with strategy.scope():
        weight = keras.Variable([1.0, 1.0], name="kernel")
        scaled = optimizer("adamw")
        scaled.build([weight])

    @tf.function
    def step(bad):
        def one():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            broken = tf.logical_and(bad, tf.equal(number, 1))
            scaled.apply([tf.where(broken, np.nan, tf.constant([1.0, -1.0]))])

        strategy.run(one)

    step(True)
    assert weight.numpy().tolist() == [1.0, 1.0] and scaled.log_values == {"loss_scale": 16384.0, "skipped_steps": 1.0}
    step(False)
    assert weight.numpy()[0] < 1.0 < weight.numpy()[1] and scaled.log_values["skipped_steps"] == 1.0
