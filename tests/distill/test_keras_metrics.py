"""Metrics of Keras that expect probabilities, on a student that returns logits: the values of a model with an activation."""

import keras
import numpy as np
import pytest
from helpers import mirrored

from tfdistill.distill.distiller import Distiller
from tfdistill.distill.keras_metrics import on_logits
from tfdistill.distill.label_terms import HardLabels
from tfdistill.errors import UserError

M, L = keras.metrics, keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
YES = (RNG.random((40, 1)) < 0.5).astype("float32")
CLASSES = RNG.integers(0, 3, 40)
SEVERAL = (RNG.random((40, 3)) < 0.4).astype("float32")


def dense(units):
    return keras.Sequential([keras.Input((4,)), L.Dense(8, "relu"), L.Dense(units)])


def both(student, activation, terms, labels, make):
    """The metrics of a Distiller, and those of the student followed by its activation."""
    distiller = Distiller(student, None, terms)
    distiller.compile("sgd", metrics=make())
    reference = keras.Sequential([student, L.Activation(activation)])
    reference.compile("sgd", lambda y, p: keras.ops.mean(p), metrics=make())
    ours, theirs = (each.evaluate(X, labels, verbose=0, return_dict=True) for each in (distiller, reference))
    return {name: value for name, value in ours.items() if name in theirs and name != "loss"}, theirs


@pytest.mark.parametrize(
    ("units", "activation", "term", "labels", "make"),
    [
        (
            1,
            "sigmoid",
            HardLabels(loss="binary_crossentropy"),
            YES,
            lambda: ["accuracy", "binary_accuracy", "binary_crossentropy", M.AUC(name="auc"), M.Recall(name="recall")],
        ),
        (
            3,
            "softmax",
            HardLabels(),
            np.eye(3, dtype="float32")[CLASSES],
            lambda: ["accuracy", "categorical_crossentropy", M.Precision(name="p"), M.KLDivergence(name="kl"), M.AUC()],
        ),
        (
            3,
            "softmax",
            HardLabels(),
            CLASSES,
            lambda: ["acc", "sparse_categorical_crossentropy", M.SparseTopKCategoricalAccuracy(2)],
        ),
        (
            3,
            "sigmoid",
            HardLabels(task="multilabel"),
            SEVERAL,
            lambda: ["binary_accuracy", M.F1Score(threshold=0.5, average="micro"), M.AUC(multi_label=True, name="auc")],
        ),
    ],
    ids=["one logit", "one-hot", "numbers", "several"],
)
def test_values_are_those_of_probabilities(units, activation, term, labels, make):
    ours, theirs = both(dense(units), activation, [term], labels, make)
    assert len(ours) >= 3
    for name, value in ours.items():
        assert np.asarray(value) == pytest.approx(np.asarray(theirs[name]), rel=1e-5), name


def test_metrics_that_read_logits_stay_as_they_are():
    made = [M.AUC(from_logits=True), M.BinaryAccuracy(threshold=0.0), M.Precision(thresholds=0), M.F1Score(), "mse"]
    made += [M.SparseCategoricalAccuracy(), M.SparseCategoricalCrossentropy(from_logits=True), M.MeanSquaredError()]
    assert on_logits(made, binary=False, outputs=3) == (made, [])
    again, changed = on_logits([M.AUC(name="auc")], binary=False, outputs=3)
    assert changed == ["auc"] and on_logits(again, binary=False, outputs=3) == (again, [])
    assert on_logits(None, binary=True, outputs=None) == (None, [])


def test_crossentropy_reads_the_shape():
    student = dense(3)
    for labels in (CLASSES, np.eye(3, dtype="float32")[CLASSES]):
        distiller = Distiller(student, None, [HardLabels()])
        distiller.compile("sgd", weighted_metrics=["crossentropy"])
        logs = distiller.evaluate(X, labels, verbose=0, return_dict=True)
        assert logs["crossentropy"] == pytest.approx(logs["loss"], rel=1e-5)


@pytest.mark.parametrize("metrics", ["accuracy", ["acuracy"], ["SensitivityAtSpecificity"], [{"a": 1}]])
def test_metrics_that_are_none_are_one_line(metrics):
    with pytest.raises(UserError, match="metric"):
        on_logits(metrics, binary=False, outputs=3)


@pytest.mark.slow
def test_metrics_under_a_strategy():
    with mirrored().scope():
        distiller = Distiller(dense(1), None, [])
        distiller.compile("sgd", loss="binary_crossentropy", metrics=["accuracy", M.AUC(name="auc")])
    history = distiller.fit(X, YES, batch_size=10, verbose=0).history
    assert 0 <= history["auc"][0] <= 1 and 0 < history["accuracy"][0] < 1
