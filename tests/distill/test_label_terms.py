"""Terms on labels, by hand: which examples count, and which loss belongs to which task."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdistill.distill.features import Features
from tfdistill.distill.label_terms import TASK_LOSSES, HardLabels, PseudoLabels, token_labels
from tfdistill.distill.step import Step
from tfdistill.errors import UserError

LOGITS = tf.constant([[np.log(4.0), 0.0], [np.log(3.0), 0.0]], tf.float32)  # σ = (0.8, 0.2) and (0.75, 0.25)
TOKENS = tf.constant([[[0.0, 0.0], [np.log(3.0), 0.0], [9.0, -9.0]]], tf.float32)
MASKED = {
    "masked_positions": np.array([[1, 0]]),
    "masked_labels": np.array([[1, 0]]),
    "masked_weights": np.array([[1.0, 0.0]]),
    "next_sentence": np.array([1]),
}


@pytest.mark.parametrize(
    ("task", "features", "labels", "sums", "counts"),
    [
        ("classification", {"logits": LOGITS}, [1, -1], [np.log(5.0), 0.0], [1.0, 0.0]),
        ("multilabel", {"logits": LOGITS * 0}, [[1.0, 0.0], [-1.0, -1.0]], [np.log(2.0), 0.0], [1.0, 0.0]),
        ("regression", {"logits": LOGITS[:, 1:]}, [3.0, np.nan], [9.0, 0.0], [1.0, 0.0]),
        ("token_classification", {"logits": TOKENS}, [[0, 1, -1]], [np.log(2.0) + np.log(4.0)], [2.0]),
        ("masked_lm", {"logits": TOKENS}, MASKED, [np.log(4.0)], [1.0]),
        ("masked_lm", {"logits": TOKENS[:, 1:]}, {**MASKED, "masked_positions": None}, [np.log(4.0)], [1.0]),
        ("next_sentence", {"nsp_logits": LOGITS[:1]}, MASKED, [np.log(5.0)], [1.0]),
    ],
)
def test_sum_and_count_of_each_task(task, features, labels, sums, counts):
    if isinstance(labels, dict):
        labels = {key: value for key, value in labels.items() if value is not None}
    value = HardLabels(task=task)(Step(Features(**features), labels=labels))
    assert value.sum.numpy() == pytest.approx(sums, abs=1e-6) and value.count.numpy() == pytest.approx(counts)


def test_an_answer_is_found_among_real_positions():
    step = Step(Features(logits=TOKENS, mask=tf.constant([[1, 1, 0]])), labels=[[1, 0]])
    # Start: σ(0, ln 3) = (1/4, 3/4) at position 1; end: σ(0, 0) at position 0.
    assert HardLabels(task="question_answering")(step).numpy() == pytest.approx([(np.log(4 / 3) + np.log(2)) / 2])


@pytest.mark.parametrize("loss", [keras.losses.SparseCategoricalCrossentropy(from_logits=True), lambda y, z: z[:, 0]])
def test_another_loss_replaces_the_tasks(loss):
    value = HardLabels(loss=loss)(Step(Features(logits=LOGITS), labels=np.array([1, 0])))
    expected = [np.log(5.0), np.log(4 / 3)] if isinstance(loss, keras.losses.Loss) else LOGITS[:, 0]
    assert value.numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_pseudo_labels_count_examples_without_a_label_alone():
    value = PseudoLabels()(Step(Features(logits=LOGITS), Features(logits=-LOGITS), np.array([0, -1])))
    assert value.sum.numpy() == pytest.approx([0.0, np.log(4.0)], abs=1e-6)  # the teacher's class is 1
    assert value.count.numpy().tolist() == [0.0, 1.0]


def test_masked_tokens_without_weight_have_no_label():
    assert token_labels(MASKED).numpy().tolist() == [[1, -1]]


def test_smoothing_reaches_the_loss():
    # ε = 0.2: 0.8·ln 5 + 0.2·(ln 5 + ln 1.25)/2
    value = HardLabels(smoothing=0.2)(Step(Features(logits=LOGITS[:1]), labels=[1]))
    assert value.sum.numpy() == pytest.approx([0.8 * np.log(5) + 0.1 * (np.log(5) + np.log(1.25))], abs=1e-6)


def test_what_is_missing_or_unknown_is_refused():
    with pytest.raises(UserError, match="labels"):
        HardLabels()(Step(Features(logits=LOGITS)))
    with pytest.raises(UserError, match="teacher"):
        PseudoLabels()(Step(Features(logits=LOGITS), labels=[0, 1]))
    with pytest.raises(UserError, match=next(iter(TASK_LOSSES))):
        HardLabels(task="ranking")
