"""Losses against numbers worked out by hand from the papers' formulas."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfdistill import losses
from tfdistill.errors import UserError

# z_t = (ln 4, 0), z_s = (0, 0): σ(z_t) = (0.8, 0.2), σ(z_s) = (0.5, 0.5).
TEACHER, STUDENT = np.array([[np.log(4.0), 0.0]], "float32"), np.zeros((1, 2), "float32")


def test_soft_kl_at_temperature_one():
    # 0.8·ln(0.8/0.5) + 0.2·ln(0.2/0.5) = 0.376004 - 0.183258
    assert losses.soft_kl(STUDENT, TEACHER).numpy() == pytest.approx([0.192745], abs=1e-6)


def test_soft_kl_at_temperature_two_carries_the_square():
    # σ(z_t/2) = (2/3, 1/3): KL = 2/3·ln(4/3) + 1/3·ln(2/3) = 0.056633; times T² = 4
    assert losses.soft_kl(STUDENT, TEACHER, temperature=2.0).numpy() == pytest.approx([0.226532], abs=1e-6)


def test_soft_cross_entropy_is_the_teacher_expectation():
    # -0.8·ln 0.5 - 0.2·ln 0.5 = ln 2
    assert losses.soft_cross_entropy(STUDENT, TEACHER).numpy() == pytest.approx([0.693147], abs=1e-6)


def test_soft_kl_is_cross_entropy_less_entropy():
    rng = np.random.default_rng(0)
    z_s, z_t = rng.normal(size=(2, 5, 4)).astype("float32")
    entropy = losses.soft_cross_entropy(z_t, z_t)
    np.testing.assert_allclose(losses.soft_kl(z_s, z_t), losses.soft_cross_entropy(z_s, z_t) - entropy, atol=1e-6)


def test_logits_mse_is_a_mean_over_classes():
    value = losses.logits_mse(
        np.array([[1.0, 2.0], [0.0, 0.0]], "float32"), np.array([[3.0, 1.0], [0.0, 0.0]], "float32")
    )
    assert value.numpy() == pytest.approx([2.5, 0.0])


def test_hidden_mse_counts_real_tokens_only():
    student = np.zeros((1, 3, 2), "float32")
    teacher = np.array([[[1.0, 1.0], [2.0, 0.0], [100.0, 100.0]]], "float32")
    sums, counts = losses.hidden_mse(student, teacher, mask=np.array([[1, 1, 0]]))
    assert sums.numpy() == pytest.approx([3.0]) and counts.numpy() == pytest.approx([2.0])  # (1 + 1)/2 + (4 + 0)/2


def test_attention_mse_is_a_mean_over_heads_and_real_pairs():
    student = np.zeros((1, 2, 2, 2), "float32")
    teacher = np.array([[[[1.0, 9.0], [9.0, 9.0]], [[3.0, 9.0], [9.0, 9.0]]]], "float32")
    sums, counts = losses.attention_mse(student, teacher, mask=np.array([[1, 0]]))
    assert sums.numpy() == pytest.approx([5.0]) and counts.numpy() == pytest.approx([1.0])  # (1² + 3²)/2


def test_hard_losses():
    assert losses.sparse_cross_entropy(TEACHER, np.array([1])).numpy() == pytest.approx([np.log(5.0)], abs=1e-6)
    assert losses.squared_error(np.array([[2.0], [1.0]]), np.array([0.5, 1.0])).numpy() == pytest.approx([2.25, 0.0])


@pytest.mark.parametrize("name", ["hidden_mse", "attention_mse"])
def test_padded_equals_unpadded(name):
    rng = np.random.default_rng(1)
    shape = (2, 3, 5, 5) if name == "attention_mse" else (2, 5, 4)
    student, teacher = (rng.normal(size=shape).astype("float32") for _ in range(2))
    width = [(0, 0)] * 2 + [(0, 3)] * 2 if name == "attention_mse" else [(0, 0), (0, 3), (0, 0)]
    padded = [np.pad(x, width, constant_values=value) for x, value in ((student, np.inf), (teacher, np.nan))]
    mask = np.pad(np.ones((2, 5), "int32"), [(0, 0), (0, 3)])
    for plain, long in zip(
        getattr(losses, name)(student, teacher), getattr(losses, name)(*padded, mask=mask), strict=True
    ):
        np.testing.assert_allclose(plain, long, rtol=1e-6)


logits = arrays(np.float32, (3, 4), elements=st.floats(-60, 60, width=32))


@settings(max_examples=40, deadline=None)
@given(logits, logits, st.floats(0.5, 20))
def test_soft_kl_is_finite_not_negative_and_has_finite_gradients(z_s, z_t, temperature):
    variable = tf.Variable(z_s)
    with tf.GradientTape() as tape:
        value = losses.soft_kl(variable, z_t, temperature=temperature)
    assert np.isfinite(value).all() and (value.numpy() > -1e-3).all()
    assert np.isfinite(tape.gradient(value, variable)).all()


@settings(max_examples=20, deadline=None)
@given(logits, st.floats(0.5, 20))
def test_soft_kl_of_equal_logits_is_zero(z, temperature):
    np.testing.assert_allclose(losses.soft_kl(z, z, temperature=temperature), 0.0, atol=1e-4)


def test_half_precision_is_computed_in_float32():
    value = losses.soft_kl(STUDENT.astype("float16"), TEACHER.astype("float16"))
    assert value.dtype == tf.float32


@pytest.mark.parametrize("name", ["soft_kl", "soft_cross_entropy", "logits_mse"])
def test_other_number_of_classes_is_refused(name):
    with pytest.raises(UserError, match=r"\(2, 2\).*\(2, 3\)"):
        getattr(losses, name)(np.zeros((2, 2), "float32") + tf.zeros(()), tf.zeros((2, 3)))


def test_other_widths_and_heads_are_refused():
    with pytest.raises(UserError, match="project"):
        losses.hidden_mse(tf.zeros((1, 2, 3)), tf.zeros((1, 2, 4)))
    with pytest.raises(UserError, match="heads"):
        losses.attention_mse(tf.zeros((1, 2, 3, 3)), tf.zeros((1, 4, 3, 3)))
