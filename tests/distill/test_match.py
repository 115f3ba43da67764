"""Match: which features it reads, how it projects, and what it refuses."""

import keras
import pytest
import tensorflow as tf
from helpers import tiny_bert

from tfdistill import losses
from tfdistill.distill.features import Features
from tfdistill.distill.match import Match
from tfdistill.distill.step import Step
from tfdistill.errors import UserError

STATES = tuple(tf.constant([[[float(n), 0.0], [0.0, 0.0]]]) for n in range(1, 4))
MASK = tf.constant([[1, 1]])


def step(**more):
    zeros = Features(embeddings=STATES[0] * 0, hidden_states=tuple(state * 0 for state in STATES), mask=MASK)
    return Step(zeros, Features(embeddings=STATES[0] * 5, hidden_states=STATES), **more)


def test_losses_of_layer_pairs_are_summed():
    # Layers 1 and 3 of the teacher are (1, 0) and (3, 0) at the first of two tokens: 1²/2 + 3²/2.
    sums, counts = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1), (2, 3)))(step())
    assert sums.numpy() == pytest.approx([5.0]) and counts.numpy() == pytest.approx([2.0])


def test_layer_zero_is_the_embedding_output():
    match = Match(losses.hidden_mse, on="hidden_states", layers=((0, 0),))
    assert match.student_features == match.teacher_features == {"hidden_states", "embeddings"}
    assert match(step()).sum.numpy() == pytest.approx([12.5])


def test_losses_per_example_are_summed_over_pairs_too():
    value = Match(losses.patient, on="hidden_states", layers=((1, 1), (2, 3)))(step())
    assert value.numpy() == pytest.approx([2.0])  # a unit vector and zero, twice


def test_only_labelled_tokens_count_where_they_are_asked_for():
    match = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1),), where="labelled")
    sums, counts = match(step(labels=tf.constant([[-1, 4]])))
    assert sums.numpy() == pytest.approx([0.0]) and counts.numpy() == pytest.approx([1.0])
    with pytest.raises(UserError, match="labelled"):
        match(step())


def test_projections_bridge_the_sizes():
    match = Match(losses.hidden_mse, on="embeddings", project="fit", name="e")
    double = keras.layers.Dense(2, use_bias=False, kernel_initializer=keras.initializers.Constant([[2.0, 0.0]]))
    student = Features(embeddings=tf.constant([[[3.0]]]), mask=tf.constant([[1]]))
    teacher = Features(embeddings=tf.constant([[[7.0, 2.0]]]))
    sums, _ = match(Step(student, teacher, projections={"e_0": double}))
    assert sums.numpy() == pytest.approx([(1 + 4) / 2])


@pytest.mark.parametrize(
    ("loss", "on", "by_token", "first_only"),
    [
        (losses.soft_kl, "logits", False, False),
        (losses.hidden_mse, "embeddings", True, False),
        (losses.patient, "embeddings", False, True),
        (losses.representation_kl, "pooled", False, True),
    ],
)
def test_which_tokens_a_match_reads(loss, on, by_token, first_only):
    match = Match(loss, on=on)
    assert (match.by_token, match.first_only) == (by_token, first_only)


def test_shared_and_separate_projections():
    student, teacher = tiny_bert(2), tiny_bert(2, width=12)
    for project, count in (("fit", 2), ("shared", 1)):
        match = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1), (2, 2)), project=project)
        assert len(match.make_projections(student, teacher)) == count


@pytest.mark.slow
def test_a_layer_that_learns_from_two_has_two_projections():
    match = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1), (1, 2), (2, 2)), project="fit", name="h")
    made = match.make_projections(tiny_bert(2), tiny_bert(2, width=12))
    assert sorted(made) == ["h_1_1", "h_1_2", "h_2"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Match(losses.soft_kl, on="logit"), "logit"),
        (lambda: Match(losses.soft_kl, on="pooled", teacher_on="logit"), "teacher_on"),
        (lambda: Match(losses.hidden_mse, on="hidden_states"), "layers"),
        (lambda: Match(losses.soft_kl, layers=((1, 2),)), "layers"),
        (lambda: Match(losses.soft_kl, project="yes"), "project"),
        (lambda: Match(losses.soft_kl, where="here"), "where"),
        (lambda: Match(losses.soft_kl, name="soft")(Step(Features(), None)), "'soft' needs a teacher"),
    ],
)
def test_what_is_wrong_is_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize("student", [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), tiny_bert(1)])
def test_sizes_that_are_not_known_are_refused(student):
    on = "embeddings" if isinstance(student, keras.Sequential) else "nsp_logits"
    with pytest.raises(UserError, match=on):
        Match(losses.hidden_mse, on=on, project="fit").make_projections(student, tiny_bert(1))
