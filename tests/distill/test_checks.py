"""What is wrong with inputs, labels and weights is one line before the first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert

from tfdistill import losses
from tfdistill.distill.checks import check_labels, check_teacher_features, check_weights
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.first_batch import class_weighted, first_batch
from tfdistill.distill.label_terms import HardLabels, PseudoLabels
from tfdistill.distill.match import Match
from tfdistill.errors import DivergedError, UserError

EYE = np.eye(3)
NAN = float("nan")
X = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")


@pytest.mark.parametrize(
    ("term", "labels"),
    [
        (HardLabels(), [0, 2, -1]),
        (HardLabels(), [[0], [2], [1]]),
        (HardLabels(), [0.0, 2.0, 1.0]),
        (HardLabels(), [True, False, True]),
        (HardLabels(), EYE),
        (HardLabels(), [[0.2, 0.3, 0.5], [-1, -1, -1], [NAN, NAN, NAN]]),
        (HardLabels(task="multilabel"), [[0, 1, 1], [-1, -1, -1], [NAN, 0, 0]]),
        (HardLabels(task="token_classification"), [[0, 1, -100]] * 3),
        (HardLabels(loss="categorical_crossentropy"), EYE),
        (HardLabels(loss=lambda y, z: z[:, 0]), ["any", "thing", "at all"]),
        (PseudoLabels(), [-1, -1, 2]),
    ],
)
def test_good_labels_pass(term, labels):
    check_labels([term], np.array(labels), 3, 3)


@pytest.mark.parametrize(
    ("term", "labels", "message"),
    [
        (HardLabels(), [1, 2, 3], "Subtract 1"),
        (HardLabels(), [0, 2, 7], "up to 7.*3 classes"),
        (HardLabels(), ["good", "bad", "good"], "'good'"),
        (HardLabels(), np.array(["good", b"bad", None], object), "'good'"),
        (HardLabels(), [0.5, 1.0, 2.0], "0.5"),
        (HardLabels(), [NAN, 1.0, 2.0], "whole"),
        (HardLabels(), np.eye(4)[:3], "4.*3 classes"),
        (HardLabels(), [[1, 1, 0]] * 3, "multilabel"),
        (HardLabels(), [0, 1], "shape"),
        (HardLabels(), np.array([{}, {}, {}]), "object"),
        (HardLabels(), None, "needs labels"),
        (HardLabels(task="multilabel"), [0, 1, 2], "shape"),
        (HardLabels(task="multilabel"), [[0, 1, 2]] * 3, "up to 2"),
        (HardLabels(task="regression"), [[0.0, 1.0]] * 3, "shape"),
        (HardLabels(task="token_classification"), [0, 1, 2], "token"),
        (HardLabels(task="token_classification"), [[0, 1, 3]] * 3, "up to 3"),
        (HardLabels(loss="sparse_categorical_crossentropy"), [-1, 0, 1], "-1"),
        (HardLabels(loss="sparse_categorical_crossentropy"), [1, 2, 3], "Subtract 1"),
        (HardLabels(loss="mse"), [NAN, 0.0, 1.0], "NaN"),
        (PseudoLabels(), [0, 1, 5], "up to 5"),
    ],
)
def test_bad_labels_are_one_line(term, labels, message):
    with pytest.raises(UserError, match=message) as caught:
        check_labels([term], labels if labels is None else np.array(labels), 3, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [[1, NAN, 1], [1, -1, 1], [1, np.inf, 1], [1, 1], ["a", "b", "c"]])
def test_bad_weights_are_one_line(weights):
    check_weights(np.array([0.0, 1.0, 2.5]), 3)
    with pytest.raises(UserError, match="sample_weight"):
        check_weights(np.array(weights), 3)


def test_cached_features_are_checked():
    assert check_teacher_features({"logits": np.array([[1.0, 2.0]]), "pooled": X}, 2) == ""
    with pytest.raises(UserError, match=r"3 classes.*2"):
        check_teacher_features({"logits": np.array([[1.0, 2.0]])}, 3)
    with pytest.raises(UserError, match=r"pooled.*row 1"):
        check_teacher_features({"pooled": np.array([[1.0], [NAN]])}, None)


# --- forms of data ----------------------------------------------------------------------------------------------------


def test_the_first_batch_of_every_form():
    batches = tf.data.Dataset.from_tensor_slices((X, [0, 1, 0, 1])).batch(2)
    assert first_batch(batches).batch[1].tolist() == [0, 1] and first_batch(batches, read=False).batch is None
    made = ((X[n : n + 2], n) for n in (0, 2))
    first = first_batch(made)
    assert first.batch[1].tolist() == 0 and [n for _, n in first.x] == [0, 2]  # nothing is lost
    whole = first_batch({"a": X}, np.zeros(4), np.ones(4))
    assert whole.whole and len(whole.batch) == 3 and whole.few(whole.batch[0])["a"].shape == (4, 2)
    assert first_batch(tf.RaggedTensor.from_row_lengths([1, 2], [2]), None).batch is None

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return X[:2], np.zeros(2)

    assert first_batch(Batches()).batch[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (["play jazz", "stop"], [0, 1], "play jazz"),
        (X, ["a", "b", "a", "b"], "'a'"),
        ([[1, 2], [3, 4]], None, "list"),
        (X, np.zeros(3), "4, 3 rows"),
        (X[:0], np.zeros(0), "no examples"),
        (tf.data.Dataset.from_tensors((X,)).take(0), None, "empty"),
        ((each for each in ()), None, "empty"),
    ],
)
def test_data_that_cannot_be_read_is_one_line(x, y, message):
    with pytest.raises(UserError, match=message):
        first_batch(x, y)


def test_weights_of_classes_become_weights_of_examples_in_dict_batches():
    for labels in ([0, 2, 1, 2], np.eye(3)[[0, 2, 1, 2]], [[0], [2], [1], [2]]):
        batch = {"student": X, "labels": np.array(labels)}
        x, _, left = class_weighted(batch, None, None, {0: 3.0, 2: 0.5})
        assert x["sample_weight"].numpy().tolist() == [3.0, 0.5, 1.0, 0.5] and left is None
        batches, _, left = class_weighted(tf.data.Dataset.from_tensors(batch), None, None, {0: 3.0, 2: 0.5})
        assert next(iter(batches))["sample_weight"].numpy().tolist() == [3.0, 0.5, 1.0, 0.5] and left is None
    assert class_weighted(X, [0, 1, 1, 0], None, {0: 2})[2] == {0: 2}  # which Keras applies
    for wrong in ({"a": 1.0}, {0: NAN}, {0: -1.0}, {0: "2"}):
        with pytest.raises(UserError, match="class_weight"):
            class_weighted(X, [0, 1, 1, 0], None, wrong)
    with pytest.raises(UserError, match="labels"):
        class_weighted({"student": X}, None, None, {0: 1.0})


# --- the Distiller ----------------------------------------------------------------------------------------------------


def dense(units=3):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])


def compiled(student=None, terms=None, teacher=None):
    distiller = Distiller(student or dense(), teacher, terms or [HardLabels()])
    distiller.compile(keras.optimizers.SGD(0.1))
    return distiller


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": [1, 2, 3, 3]}, "Subtract 1"),
        ({"y": ["a", "b", "a", "b"]}, "text"),
        ({"batch_size": 0}, "batch_size"),
        ({"sample_weight": [1, NAN, 1, 1]}, "sample_weight"),
        ({"x": np.where([[1, 0]], X, NAN)}, "inputs of the student.*row 0"),
        ({"x": np.array(["a", "b", "c", "d"])}, "does not read texts"),
        ({"validation_data": (X, np.array([3, 3, 3, 3]))}, "up to 3"),
        ({"class_weight": {"a": 1.0}}, "class_weight"),
    ],
)
def test_what_is_wrong_is_refused_before_the_first_step(options, message):
    options = {name: np.array(value) if isinstance(value, list) else value for name, value in options.items()}
    distiller = compiled()
    with pytest.raises(UserError, match=message) as caught:
        distiller.fit(**{"x": X, "y": np.array([0, 1, 2, 0]), "verbose": 0, **options})
    assert distiller.optimizer.iterations.numpy() == 0 and "\n" not in str(caught.value)


def test_labels_and_ids_of_a_data_set_are_one_line_without_a_graph():
    student = tiny_bert(1)
    good = inputs(4)
    for x, y, message in (
        (good, [0, 1, 2, 3], "3"),
        ({**good, "token_ids": good["token_ids"] + 40}, [0] * 4, r"\[0, 50\)"),
    ):
        batches = tf.data.Dataset.from_tensors((x, np.array(y)))
        with pytest.raises(UserError, match=message) as caught:
            compiled(student).evaluate(batches, verbose=0)
        assert "\n" not in str(caught.value)


def test_inputs_of_a_text_model_are_checked():
    good, distiller = inputs(4), compiled(tiny_bert(1))
    for x, message in (
        ({**good, "token_ids": good["token_ids"] + 40}, "vocabulary has 50"),
        ({name: np.pad(value, [(0, 0), (0, 12)]) for name, value in good.items()}, "20 tokens.*at most 16"),
        ({**good, "segment_ids": good["segment_ids"] + 2}, "segment 2"),
        ({"token_ids": good["token_ids"]}, "padding_mask"),
        ({**good, "token_ids": good["token_ids"] / 2}, "float64"),
        (good["token_ids"], "dict"),
    ):
        with pytest.raises(UserError, match=message):
            distiller.evaluate(x, np.zeros(4, int), verbose=0)
        with pytest.raises(UserError, match=message):
            distiller.predict(x, verbose=0)


def test_what_is_not_compiled_is_one_line():
    with pytest.raises(UserError, match="compile"):
        Distiller(dense(), None, [HardLabels()]).evaluate(X, np.zeros(4))


@pytest.mark.heavy
def test_dict_batches_take_weights_of_classes_and_validation_data():
    y = np.array([0, 1, 2, 0])
    batch = {"student": X, "labels": y}
    plain, dicts = compiled(), compiled()
    dicts.student.set_weights(plain.student.get_weights())
    options = {"class_weight": {0: 3.0, 1: 1.0, 2: 0.0}, "verbose": 0}
    one = plain.fit(X, y, validation_data=(X, y), **options).history
    for x in (batch, tf.data.Dataset.from_tensors(batch)):
        dicts.student.set_weights(plain.student.get_weights())
        two = dicts.fit(x, validation_data=batch, **options).history
        assert one.keys() == two.keys() == {"loss", "hard_labels", "val_loss", "val_hard_labels"}


@pytest.mark.heavy
def test_the_cause_of_a_divergence_is_named():
    teacher = dense()
    bad = X.copy()
    bad[3] = NAN
    batches = tf.data.Dataset.from_tensor_slices(({"student": X, "teacher_features": {"logits": bad[:, [0, 1, 0]]}},))
    soft = [Match(losses.soft_kl)]
    with pytest.raises(DivergedError, match="teacher's features of batch 4") as caught:
        compiled(None, soft).fit(batches.map(lambda x: x).batch(1), verbose=0)
    assert "learning rate" not in str(caught.value) and caught.value.step == 4
    with pytest.raises(DivergedError, match="inputs of batch 2"):
        compiled(None, soft, teacher).fit(tf.data.Dataset.from_tensor_slices((bad,)).batch(2), verbose=0)
    with pytest.raises(DivergedError, match="learning rate"):
        fast = compiled(None, [Match(losses.logits_mse)], teacher)
        fast.optimizer.learning_rate = 1e9
        fast.fit(X, epochs=50, verbose=0)
    teacher.set_weights([np.full_like(weight, NAN) for weight in teacher.get_weights()])
    with pytest.raises(UserError, match="teacher"):
        compiled(None, soft, teacher).fit(X, verbose=0)
