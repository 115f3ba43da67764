"""Keras losses on the logits of a student: their value is that of the logits, in any form they are given."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdistill import losses
from tfdistill.distill.features import Features
from tfdistill.distill.keras_losses import on_logits, resolve
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.distill.step import Step
from tfdistill.errors import UserError

LOGITS = np.array([[2.0, -1.0, 0.5], [0.3, 0.1, -2.0]], "float32")
CLASSES = np.array([0, 2])
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
SPARSE = [0.2413113, 2.9517988]  # -log softmax, by hand
BINARY = [(0.12692801 + 0.31326169 + 0.97407698) / 3, (0.85435524 + 0.74439666 + 2.12692801) / 3]
ONE_LOGIT = np.array([[2.0], [-1.0]], "float32")

K = keras.losses


def value(loss, labels, logits=LOGITS):
    return HardLabels(loss=loss)(Step(Features(logits=tf.constant(logits)), labels=labels)).numpy()


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        "crossentropy",
        K.SparseCategoricalCrossentropy,
        K.SparseCategoricalCrossentropy(),
        K.SparseCategoricalCrossentropy(from_logits=True),
        K.sparse_categorical_crossentropy,
        functools.partial(K.sparse_categorical_crossentropy, from_logits=False),
        {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": False}},
    ],
)
def test_class_numbers(loss):
    assert value(loss, CLASSES) == pytest.approx(SPARSE, abs=1e-6)
    assert value(loss, CLASSES[:, None]) == pytest.approx(SPARSE, abs=1e-6)


@pytest.mark.parametrize("loss", ["categorical_crossentropy", K.CategoricalCrossentropy(), K.categorical_crossentropy])
def test_one_hot_rows(loss):
    assert value(loss, ONE_HOT) == pytest.approx(SPARSE, abs=1e-6)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "bce", K.BinaryCrossentropy(), K.binary_crossentropy])
def test_several_labels_and_one_logit(loss):
    assert value(loss, ONE_HOT) == pytest.approx(BINARY, abs=1e-6)
    for labels in ([1, 1], [[1.0], [1.0]]):  # a label for one logit is not spread over the batch
        assert value(loss, np.array(labels), ONE_LOGIT) == pytest.approx([0.12692801, 1.31326169], abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (K.BinaryFocalCrossentropy(gamma=3.0), ONE_HOT),
        ("categorical_focal_crossentropy", ONE_HOT),
        (K.CategoricalCrossentropy(label_smoothing=0.2), ONE_HOT),
    ],
)
def test_other_losses_equal_keras_on_probabilities(loss, labels):
    binary = "Binary" in type(loss).__name__
    probabilities = (tf.sigmoid if binary else tf.nn.softmax)(LOGITS)
    given = resolve(loss)
    expected = (given.call if isinstance(given, K.Loss) else given)(labels, probabilities)
    assert value(loss, labels) == pytest.approx(expected.numpy(), abs=1e-5)


def test_options_of_a_loss_stay_and_the_users_object_is_not_changed():
    given = K.CategoricalCrossentropy(label_smoothing=0.2)
    changed, was_changed = on_logits(given)
    assert was_changed and changed.get_config() == {**given.get_config(), "from_logits": True}
    assert given.from_logits is False and on_logits(changed) == (changed, False)


def test_losses_of_real_numbers_and_own_functions_are_taken_as_they_are():
    for loss in ("mse", K.MeanSquaredError(), K.Huber(100.0), "mae", "log_cosh", lambda y, z: z[:, 0], "hinge"):
        assert on_logits(resolve(loss))[1] is False
    assert value("mse", np.array([1.0, 1.0]), ONE_LOGIT) == pytest.approx([1.0, 4.0])
    assert value(lambda y, z: z[:, 0], CLASSES) == pytest.approx(LOGITS[:, 0])


@pytest.mark.parametrize(
    ("loss", "labels", "logits", "message"),
    [
        (K.KLDivergence(), ONE_HOT, LOGITS, "soft_kl"),
        ("kld", ONE_HOT, LOGITS, "soft_kl"),
        (K.poisson, ONE_HOT, LOGITS, "poisson"),
        (K.Dice(), ONE_HOT, LOGITS, "dice"),
        (K.CategoricalGeneralizedCrossEntropy, ONE_HOT, LOGITS, "generalized"),
        ("sparse_categorical_crossentropi", CLASSES, LOGITS, "did you mean 'sparse_categorical_crossentropy'"),
        (3, CLASSES, LOGITS, "loss=3"),
        (losses.soft_kl, ONE_HOT, LOGITS, "Match"),
        ("sparse_categorical_crossentropy", ONE_HOT, LOGITS, "categorical_crossentropy"),
        ("categorical_crossentropy", CLASSES, LOGITS, "sparse_categorical_crossentropy"),
        ("binary_crossentropy", CLASSES, LOGITS, r"\(2,\)"),
        ("mse", CLASSES, LOGITS, r"\(2,\)"),
        ("sparse_categorical_crossentropy", [0, 0], ONE_LOGIT, "one output"),
        (lambda y, z: tf.reduce_mean(z), CLASSES, LOGITS, "whole batch"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_read_these_logits_is_one_line(loss, labels, logits, message):
    with pytest.raises(UserError, match=message) as caught:
        value(loss, np.array(labels), logits)
    assert "\n" not in str(caught.value)


# --- labels of classes ----------------------------------------------------------------------------------------------


def test_hard_labels_takes_one_hot_rows_and_soft_labels():
    def both(labels, smoothing=0.0):
        return HardLabels(smoothing=smoothing)(Step(Features(logits=tf.constant(LOGITS)), labels=np.array(labels)))

    for labels in (CLASSES, ONE_HOT, ONE_HOT.astype(int)):
        assert both(labels).sum.numpy() == pytest.approx(SPARSE, abs=1e-6)
    soft = both([[0.5, 0.0, 0.5], [-1.0, -1.0, -1.0]])  # half of -log softmax of the first and of the last class; none
    assert soft.sum.numpy() == pytest.approx([(0.2413113 + 1.7413113) / 2, 0.0], abs=1e-6)
    assert soft.count.numpy().tolist() == [1.0, 0.0]
    assert both(ONE_HOT, 0.2).sum.numpy() == pytest.approx(both(CLASSES, 0.2).sum.numpy(), abs=1e-6)
    assert both([[np.nan] * 3, [0, 0, 1]]).count.numpy().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("loss", [losses.soft_kl, losses.soft_cross_entropy, losses.pseudo_labels])
def test_losses_over_one_class_are_refused(loss):
    with pytest.raises(UserError, match="soft_binary_cross_entropy"):
        loss(tf.constant(ONE_LOGIT), tf.constant(ONE_LOGIT))
    with pytest.raises(UserError, match="multilabel"):
        HardLabels()(Step(Features(logits=tf.constant(ONE_LOGIT)), labels=np.array([0, 0])))


# --- match ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["soft_kl", "logits_mse", "hidden_mse"])
def test_a_loss_by_name_is_the_function(name):
    by_name = Match(name, on="embeddings" if name == "hidden_mse" else "logits")
    assert by_name == Match(getattr(losses, name), on=by_name.on) and by_name.loss is getattr(losses, name)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Match("soft_lk"), "did you mean 'soft_kl'"),
        (lambda: Match("sparse_cross_entropy"), "sparse_cross_entropy"),
        (lambda: Match(K.KLDivergence()), "soft_kl"),
        (lambda: Match(K.KLDivergence), "soft_kl"),
        (lambda: Match(K.mean_squared_error), "logits_mse"),
        (lambda: Match(2.0), "2.0"),
        (lambda: Match(losses.soft_kl, options={"temprature": 2.0}), "did you mean 'temperature'"),
        (lambda: Match(losses.soft_kl, options={"temperature": 0}), "temperature is 0"),
        (lambda: Match(losses.soft_cross_entropy, options={"student_temperature": -1.0}), "student_temperature"),
        (lambda: losses.soft_kl(LOGITS, LOGITS, temperature=-2.0), "temperature"),
        (lambda: losses.span_kl(LOGITS, LOGITS, temperature=0.0), "temperature"),
        (lambda: losses.soft_binary_cross_entropy(LOGITS, LOGITS, temperature=float("nan")), "temperature"),
        (lambda: HardLabels(smoothing=1.0), "smoothing"),
    ],
)
def test_wrong_losses_and_temperatures_are_one_line(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_the_list_of_losses_holds_losses_only():
    assert {"soft_kl", "hidden_mse", "sparse_cross_entropy"} <= set(dir(losses))
    assert not {"Any", "tf", "np", "annotations", "UserError"} & set(dir(losses))
