"""fp16: a step that overflows changes nothing but the scale, and all others are those of float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import mirrored

from tfdistill.errors import UserError
from tfdistill.models.bert import BertConfig
from tfdistill.models.fp16_range import check_range, largest_values
from tfdistill.models.text_model import TextModel
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


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
@pytest.mark.parametrize("compiled", [False, True])
def test_scaled_gradients_give_the_step_of_plain_ones(name, compiled):
    ours, plain = variables(), variables()
    scaled, other = optimizer(name), make_optimizer(name, WarmupLinear(0.5, 0, 10), weight_decay=0.0)
    scaled.build(ours)
    other.build(plain)
    call = tf.function(scaled.apply) if compiled else scaled.apply
    for _ in range(2):
        call(gradients(float(scaled.scale_loss(tf.constant(1.0)))))
        other.apply(gradients(1.0))
    for a, b in zip(ours, plain, strict=True):
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


def test_values_beyond_the_range_are_named():
    keras.config.set_dtype_policy("mixed_float16")
    model = TextModel(BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24), 2)
    keras.config.set_dtype_policy("float32")
    ids = tf.constant([[2, 5, 6, 3]])
    inputs = {"token_ids": ids, "padding_mask": tf.ones_like(ids), "segment_ids": tf.zeros_like(ids)}
    found = largest_values(model, inputs)
    layers = ["hidden_states 1", "hidden_states 2", "attention_scores 1", "attention_scores 2"]
    assert list(found) == ["embeddings", *layers, "logits"]
    said = check_range(model, "student", inputs)
    assert said == {"fp16_largest": max(found.values()), "fp16_largest_in": max(found, key=found.get)}
    kernel = model.encoder.blocks[1].query.kernel
    kernel.assign(kernel * 1e7)
    with pytest.raises(UserError, match=r"hidden_states 2 of the teacher .*--precision bf16"):
        check_range(model, "teacher", inputs)
