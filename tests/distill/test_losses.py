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


# --- the losses of the other papers ---------------------------------------------------------------------------------


def test_generalized_distillation_tempers_the_teacher_alone():
    # σ(z_t/2) = (2/3, 1/3), σ(z_s) with z_s = (ln 3, 0) is (3/4, 1/4): -2/3·ln 3/4 - 1/3·ln 1/4, no factor T²
    student = np.array([[np.log(3.0), 0.0]], "float32")
    value = losses.soft_cross_entropy(student, TEACHER, temperature=2.0, student_temperature=1.0)
    assert value.numpy() == pytest.approx([0.653886], abs=1e-6)


def test_soft_binary_cross_entropy_is_a_mean_over_labels():
    # sigmoid(z_t) = (0.8, 0.5), sigmoid(z_s) = (0.5, 0.5): both labels cost ln 2
    assert losses.soft_binary_cross_entropy(STUDENT, TEACHER).numpy() == pytest.approx([0.693147], abs=1e-6)
    # T = 2: sigmoid(z_t/2) = (2/3, 1/2); times T²
    student = np.array([[2 * np.log(3.0), 0.0]], "float32")  # sigmoid(z_s/2) = (3/4, 1/2)
    expected = 4 * ((-2 / 3 * np.log(3 / 4) - 1 / 3 * np.log(1 / 4)) + np.log(2)) / 2
    value = losses.soft_binary_cross_entropy(student, TEACHER, temperature=2.0)
    assert value.numpy() == pytest.approx([expected], abs=1e-6)


def test_pseudo_labels_take_the_teachers_class():
    student = np.array([[0.0, np.log(3.0)]], "float32")
    assert losses.pseudo_labels(student, TEACHER).numpy() == pytest.approx([np.log(4.0)], abs=1e-6)


def test_half_squared_distance_is_a_sum_over_classes():
    a, b = np.array([[1.0, 2.0]], "float32"), np.array([[3.0, 1.0]], "float32")
    assert losses.half_squared_distance(a, b).numpy() == pytest.approx([2.5])


def test_half_squared_log_odds_is_the_papers():
    # σ(z_t) = (0.8, 0.2), so logit(p_t) = (ln 4, -ln 4): ½·((1 - 1.386294)² + (2 + 1.386294)²) = ½·(0.149223 + 11.466988)
    student = np.array([[1.0, 2.0]], "float32")
    assert losses.half_squared_log_odds(student, TEACHER).numpy() == pytest.approx([5.808106], abs=1e-5)
    # p_t = (1/2, 1/3, 1/6): logit (0, -ln 2, -ln 5), whatever constant the logits have: ½·(0.480453 + 2.590290)
    teacher = np.log(np.array([[3.0, 2.0, 1.0]], "float32")) + 7.0
    assert losses.half_squared_log_odds(np.zeros((1, 3)), teacher).numpy() == pytest.approx([1.535372], abs=1e-5)


def test_half_squared_log_odds_of_a_certain_teacher_is_finite():
    # z_t = (60, 0, 0), where 1 - p_t is 0 in float32: logit (60 - ln 2, -60, -60)
    student = tf.Variable([[60.0 - np.log(2.0), -59.0, -60.0]])
    with tf.GradientTape() as tape:
        value = losses.half_squared_log_odds(student, np.array([[60.0, 0.0, 0.0]], "float32"))
    assert value.numpy() == pytest.approx([0.5], abs=1e-4)
    np.testing.assert_allclose(tape.gradient(value, student), [[0.0, 1.0, 0.0]], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(logits, logits)
def test_half_squared_log_odds_has_finite_gradients(z_s, z_t):
    variable = tf.Variable(z_s)
    with tf.GradientTape() as tape:
        value = losses.half_squared_log_odds(variable, z_t)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, variable)).all()


def test_cosine_distance_of_real_tokens():
    student = np.array([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]], "float32")
    teacher = np.array([[[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]]], "float32")
    sums, counts = losses.cosine(student, teacher, mask=np.array([[1, 1, 0]]))
    assert sums.numpy() == pytest.approx([1.0]) and counts.numpy() == pytest.approx([2.0])  # 0 + 1


def test_patient_compares_directions_of_the_first_token():
    student = np.array([[[3.0, 4.0], [9.0, 9.0]]], "float32")  # (0.6, 0.8)
    teacher = np.array([[[10.0, 0.0], [0.0, 1.0]]], "float32")  # (1, 0)
    assert losses.patient(student, teacher).numpy() == pytest.approx([0.16 + 0.64])


def test_representation_losses():
    student, teacher = np.zeros((1, 2), "float32"), np.array([[[np.log(4.0), 0.0], [7.0, 7.0]]], "float32")
    assert losses.representation_kl(student, teacher).numpy() == pytest.approx([0.192745], abs=1e-6)
    assert losses.representation_mse(student, teacher).numpy() == pytest.approx([np.log(4.0) ** 2 / 2], abs=1e-6)


def test_feature_map_has_three_parts():
    student = np.array([[[1.0, -1.0], [0.0, 0.0]]], "float32")  # mean 0, variance 1
    teacher = np.array([[[5.0, 1.0], [50.0, 0.0]]], "float32")  # mean 3, variance 4, the same direction
    mask = np.array([[1, 0]])
    sums, counts = losses.feature_map(student, teacher, mask=mask)
    assert sums.numpy() == pytest.approx([100 * 0 + 5000 * 9 + 5 * 3]) and counts.numpy() == pytest.approx([1.0])
    sums, _ = losses.feature_map(-student, teacher, mask=mask, mean_weight=0, variance_weight=0)
    assert sums.numpy() == pytest.approx([100 * 4.0], rel=1e-5)


def test_attention_cross_entropy_sums_over_keys_and_averages_heads_and_queries():
    student = np.zeros((1, 2, 2, 2), "float32")
    teacher = np.log(np.array([[[[4.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]], "float32"))
    sums, counts = losses.attention_cross_entropy(student, teacher)
    assert sums.numpy() == pytest.approx([2 * np.log(2.0)], abs=1e-6) and counts.numpy() == pytest.approx([2.0])
    # One real key: the softmax over it alone is 1, so nothing is left to learn.
    sums, counts = losses.attention_cross_entropy(student, teacher, mask=np.array([[1, 0]]))
    assert sums.numpy() == pytest.approx([0.0], abs=1e-6) and counts.numpy() == pytest.approx([1.0])


def test_attention_kl_sums_over_keys_and_averages_heads_and_queries():
    # The first head's first query attends with (0.8, 0.2), all others with (0.5, 0.5), as the student: KL 0.192745 / 2.
    teacher = np.log(np.array([[[[4.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]], "float32"))
    sums, counts = losses.attention_kl(np.zeros((1, 2, 2, 2), "float32"), teacher)
    assert sums.numpy() == pytest.approx([0.0963725], abs=1e-6) and counts.numpy() == pytest.approx([2.0])
    sums, counts = losses.attention_kl(np.zeros((1, 2, 2, 2), "float32"), teacher, mask=np.array([[1, 0]]))
    assert sums.numpy() == pytest.approx([0.0], abs=1e-6) and counts.numpy() == pytest.approx([1.0])


def test_relations_are_scaled_dot_products_of_tokens():
    # x₁ = (b, b, b, b), x₂ = 0 with 2·b² = ln 4: x₁·x₁/√4 = ln 4. Token 1 relates to the tokens as σ(ln 4, 0) = (0.8, 0.2),
    # token 2 as (0.5, 0.5), and so do both of the student's: KL 0.8·ln 1.6 + 0.2·ln 0.4 = 0.192745.
    b = np.sqrt(np.log(4.0) / 2)
    teacher = np.array([[[b, b, b, b], [0.0, 0.0, 0.0, 0.0]]], "float32")
    sums, counts = losses.relation_kl(np.zeros((1, 2, 6), "float32"), teacher, heads=1)
    assert sums.numpy() == pytest.approx([0.192745], abs=1e-6) and counts.numpy() == pytest.approx([2.0])


def test_relation_heads_split_the_hidden_units_in_their_order():
    # Head 1 is the units 1 and 2: x₁ = (a, 0), a²/√2 = ln 4, head 2 is 0 at both tokens: the mean is half of 0.192745.
    a = np.sqrt(np.log(4.0) * np.sqrt(2.0))
    teacher = np.array([[[a, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]], "float32")
    sums, _ = losses.relation_kl(np.zeros((1, 2, 2), "float32"), teacher, heads=2)
    assert sums.numpy() == pytest.approx([0.0963725], abs=1e-6)
    # A rotation of the units inside a head changes no relation.
    student = np.array([[[0.6 * a, 0.8 * a, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]], "float32")
    assert losses.relation_kl(student, teacher, heads=2).sum.numpy() == pytest.approx([0.0], abs=1e-6)
    with pytest.raises(UserError, match="3 relation heads"):
        losses.relation_kl(student, teacher, heads=3)


def test_padding_changes_no_relation_and_gradients_are_finite():
    rng = np.random.default_rng(3)
    student, teacher = rng.normal(size=(2, 5, 6)).astype("float32"), rng.normal(size=(2, 5, 12)).astype("float32")
    mask = np.pad(np.ones((2, 5), "int32"), [(0, 0), (0, 3)])
    results = []
    for pad, real, filling in ((0, None, 0.0), (3, mask, np.nan)):
        width = [(0, 0), (0, pad), (0, 0)]
        variable = tf.Variable(np.pad(student, width, constant_values=filling))
        with tf.GradientTape() as tape:
            padded = np.pad(teacher, width, constant_values=filling)
            sums, counts = losses.relation_kl(variable, padded, heads=3, mask=real)
            total = tf.reduce_sum(sums) / tf.reduce_sum(counts)
        gradient = tape.gradient(total, variable).numpy()
        assert np.isfinite(gradient).all() and not gradient[:, 5:].any()
        results.append((total.numpy(), gradient[:, :5]))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-4, atol=1e-6)


def test_masked_lm_counts_labelled_tokens_and_smooths():
    logits = np.array([[[np.log(4.0), 0.0], [np.nan, np.inf]]], "float32")
    sums, counts = losses.sparse_cross_entropy(logits, np.array([[1, -1]]))
    assert sums.numpy() == pytest.approx([np.log(5.0)], abs=1e-6) and counts.numpy() == pytest.approx([1.0])
    # ε = 0.2: 0.8·ln 5 + 0.2·(ln 5 + ln 1.25)/2
    sums, _ = losses.sparse_cross_entropy(logits, np.array([[1, -1]]), smoothing=0.2)
    assert sums.numpy() == pytest.approx([0.8 * np.log(5) + 0.1 * (np.log(5) + np.log(1.25))], abs=1e-6)


def test_rows_without_labels_cost_nothing_and_do_not_count():
    logits = np.array([[np.log(4.0), 0.0], [3.0, 9.0]], "float32")
    assert losses.sparse_cross_entropy(logits, np.array([1, -1])).numpy() == pytest.approx([np.log(5.0), 0.0], abs=1e-6)
    assert losses.squared_error(logits[:, :1], np.array([0.0, np.nan])).numpy()[1] == 0.0
    both = np.array([[1.0, 0.0], [-1.0, -1.0]], "float32")
    expected = [(np.log(1.25) + np.log(2.0)) / 2, 0.0]
    assert losses.binary_cross_entropy(logits, both).numpy() == pytest.approx(expected, abs=1e-6)
    assert losses.known(np.array([1, -1])).numpy().tolist() == [1.0, 0.0]
    assert losses.known(np.array([[-3.0], [np.nan]]), "regression").numpy().tolist() == [1.0, 0.0]
    assert losses.known(both, "multilabel").numpy().tolist() == [1.0, 0.0]


def test_spans_are_found_among_real_positions():
    logits = np.array([[[0.0, np.log(3.0)], [0.0, 0.0], [99.0, 99.0]]], "float32")
    mask = np.array([[1, 1, 0]])
    value = losses.span_cross_entropy(logits, np.array([[1, 0]]), mask=mask)
    assert value.numpy() == pytest.approx([(np.log(2.0) + np.log(4 / 3)) / 2], abs=1e-6)
    assert losses.span_kl(logits, logits + 5.0, mask=mask).numpy() == pytest.approx([0.0], abs=1e-6)


def test_span_kl_is_tempered_and_a_mean_over_start_and_end():
    student = np.zeros((1, 3, 2), "float32")
    teacher = np.array([[[0.0, 0.0], [2 * np.log(3.0), 0.0], [99.0, -99.0]]], "float32")
    value = losses.span_kl(student, teacher, temperature=2.0, mask=np.array([[1, 1, 0]]))
    # T²/2 times the KL of (1/4, 3/4) from (1/2, 1/2) for the start, and nothing for the end.
    assert value.numpy() == pytest.approx([2 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))], abs=1e-6)


@pytest.mark.parametrize("name", ["span_cross_entropy", "span_kl", "sparse_cross_entropy"])
def test_padding_changes_neither_answers_nor_labelled_tokens(name):
    rng = np.random.default_rng(4)
    student, teacher = (rng.normal(size=(2, 5, 2)).astype("float32") for _ in range(2))
    mask = np.pad(np.ones((2, 5), "int32"), [(0, 0), (0, 3)])
    found = []
    for pad, real in ((0, None), (3, mask)):
        student_logits, teacher_logits = (
            np.pad(z, [(0, 0), (0, pad), (0, 0)], constant_values=v) for z, v in ((student, 40), (teacher, -40))
        )
        tokens = np.pad([[0, 1, -1, 1, 0], [1, 1, 0, -1, -1]], [(0, 0), (0, pad)], constant_values=-1)
        arguments = {
            "span_cross_entropy": ([[1, 3], [0, 4]], {"mask": real}),
            "span_kl": (teacher_logits, {"mask": real, "temperature": 2.0}),
            "sparse_cross_entropy": (tokens, {}),
        }
        targets, options = arguments[name]
        variable = tf.Variable(student_logits)
        with tf.GradientTape() as tape:
            value = getattr(losses, name)(variable, np.asarray(targets), **options)
            sums, counts = value if isinstance(value, tuple) else (value, tf.ones_like(value))
            total = tf.reduce_sum(sums) / tf.reduce_sum(counts)
        gradient = tape.gradient(total, variable).numpy()
        assert np.isfinite(gradient).all() and not gradient[:, 5:].any()
        found.append((total.numpy(), gradient[:, :5]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


TOKEN_LOSSES = [
    "soft_kl",
    "soft_cross_entropy",
    "soft_binary_cross_entropy",
    "logits_mse",
    "half_squared_distance",
    "hidden_mse",
    "cosine",
    "feature_map",
]


@pytest.mark.parametrize("name", [*TOKEN_LOSSES, "attention_mse", "attention_cross_entropy", "attention_kl"])
def test_gradients_are_finite_and_padding_changes_neither_value_nor_gradient(name):
    rng = np.random.default_rng(2)
    is_attention = name.startswith("attention")
    shape = (2, 3, 5, 5) if is_attention else (2, 5, 4)
    student, teacher = (rng.normal(size=shape).astype("float32") for _ in range(2))
    teacher[:, 0] = student[:, 0]  # where the difference is zero
    width = [(0, 0)] * 2 + [(0, 3)] * 2 if is_attention else [(0, 0), (0, 3), (0, 0)]
    mask = np.pad(np.ones((2, 5), "int32"), [(0, 0), (0, 3)])
    found = []
    for student_logits, teacher_logits, real in (
        (student, teacher, None),
        (np.pad(student, width, constant_values=40), np.pad(teacher, width, constant_values=-40), mask),
    ):
        variable = tf.Variable(student_logits)
        with tf.GradientTape() as tape:
            sums, counts = getattr(losses, name)(variable, teacher_logits, mask=real)
            total = tf.reduce_sum(sums) / tf.reduce_sum(counts)
        gradient = tape.gradient(total, variable).numpy()
        assert np.isfinite(gradient).all()
        found.append((total.numpy(), gradient[:, :, :5, :5] if is_attention else gradient[:, :5]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["patient", "representation_kl", "representation_mse"])
def test_gradients_at_zero_are_finite(name):
    variable = tf.Variable(np.zeros((2, 3, 4), "float32"))
    with tf.GradientTape() as tape:
        value = getattr(losses, name)(variable, np.zeros((2, 3, 4), "float32"))
    assert np.isfinite(tape.gradient(value, variable)).all()
