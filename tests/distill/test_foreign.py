"""Models that are not of this library: what they may return, and that probabilities are never taken for logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdistill import losses
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.foreign import activation_of, as_logits, has_features, logits_of, look_at, looks_like_softmax
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import UserError

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")
Y = RNG.integers(0, 3, 20)
SOFT = Match("soft_kl", options={"temperature": 2.0})


def dense(activation=None, units=3):
    return keras.Sequential([keras.Input((4,)), L.Dense(units, activation)])


class Own(keras.Model):
    """A subclassed model that is not built."""

    def __init__(self, form=lambda z: z, units=3, layer=None):
        super().__init__()
        self.dense, self.form = layer or L.Dense(units), form

    def call(self, x, training=False):
        return self.form(self.dense(x))


def compiled(student, teacher=None, terms=(SOFT,), **options):
    distiller = Distiller(student, teacher, list(terms))
    distiller.compile("sgd", **options)
    return distiller


def loss_of(student, teacher=None, x=X, **options):
    return compiled(student, teacher, **options).evaluate(x, verbose=0, return_dict=True)["loss"]


# --- probabilities ----------------------------------------------------------------------------------------------------


def softmax_models():
    base = dense()
    inputs = keras.Input((4,))
    functional = keras.Model(inputs, L.Dropout(0.5)(L.Softmax()(base(inputs))))
    by_hand = Own(lambda z: tf.exp(z) / tf.reduce_sum(tf.exp(z), axis=-1, keepdims=True), layer=base.layers[-1])
    return base, {
        "last layer": keras.Sequential([base, L.Activation("softmax")]),
        "functional": functional,
        "by hand": by_hand,
        "log": keras.Sequential([base, L.Activation("log_softmax")]),
    }


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_teacher_that_returns_probabilities_is_as_good_as_its_logits(eagerly, capsys):
    student, (base, others) = dense(), softmax_models()
    expected = loss_of(student, base)
    z_s, z_t = (model.predict(X, verbose=0) / 2 for model in (student, base))
    p_t = np.exp(z_t) / np.exp(z_t).sum(axis=1, keepdims=True)
    by_hand = 4 * np.mean(np.sum(p_t * (np.log(p_t) - z_s + np.log(np.exp(z_s).sum(axis=1, keepdims=True))), axis=1))
    assert expected == pytest.approx(by_hand, rel=1e-5)
    for name, teacher in others.items():
        assert loss_of(student, teacher, run_eagerly=eagerly) == pytest.approx(expected, rel=1e-5), name
    assert "softmax" in capsys.readouterr().err


def test_cached_probabilities_are_as_good_as_cached_logits():
    student, (base, others) = dense(), softmax_models()
    logits, expected = base.predict(X, verbose=0), loss_of(student, base)
    for cached in (logits, others["last layer"].predict(X, verbose=0)):
        batch = {"student": X, "teacher_features": {"logits": cached}}
        for x in (batch, tf.data.Dataset.from_tensors(batch)):
            assert loss_of(student, x=x) == pytest.approx(expected, rel=1e-5)


def test_a_sigmoid_teacher_of_several_labels():
    student, base = dense(), dense()
    terms = [Match(losses.soft_binary_cross_entropy, options={"temperature": 2.0})]
    teacher = keras.Sequential([base, L.Activation("sigmoid")])
    assert loss_of(student, teacher, terms=terms) == pytest.approx(loss_of(student, base, terms=terms), rel=1e-5)


@pytest.mark.parametrize(
    "student",
    [dense("softmax"), dense("sigmoid"), softmax_models()[1]["functional"], Own(tf.nn.softmax), Own(tf.sigmoid)],
    ids=["softmax", "sigmoid", "functional", "own softmax", "own sigmoid"],
)
def test_a_student_that_returns_probabilities_is_refused(student):
    for evaluate in (lambda: loss_of(student, dense()), lambda: compiled(student, dense()).train_on_batch(X)):
        with pytest.raises(UserError, match=r"softmax|sigmoid"):
            evaluate()


def test_a_sigmoid_may_bound_numbers():
    student = dense("sigmoid", 1)
    expected = np.mean((student.predict(X, verbose=0)[:, 0] - Y / 3) ** 2)
    for options in ({"terms": [HardLabels(task="regression")]}, {"terms": [], "loss": "mse"}):
        logs = compiled(student, **options).evaluate(X, (Y / 3).astype("float32"), verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_which_values_look_like_a_softmax():
    assert looks_like_softmax(np.array([[0.25, 0.75], [1.0, 0.0]])) and looks_like_softmax(np.full((2, 3, 4), 0.25))
    for values in ([[0.25, 0.7]], [[1.5, -0.5]], [[1.0]], [[0.0, 0.0]]):
        assert not looks_like_softmax(np.array(values))
    logits = np.array([[2.0, -1.0, 0.5]], "float32")
    p = as_logits(tf.nn.softmax(logits), "softmax").numpy()
    assert p - p[0, 0] == pytest.approx(logits - 2.0, abs=1e-6)
    assert as_logits(tf.sigmoid(logits), "sigmoid").numpy() == pytest.approx(logits, abs=1e-5)
    assert np.isfinite(as_logits(np.array([[0.0, 1.0]]), "softmax")).all() and activation_of(tf.constant(1.0)) == ""


# --- forms of outputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda z: (z, z), "tuple of 2"),
        (lambda z: {"a": z, "b": z}, "dict of a, b"),
        (lambda z: tf.argmax(z, axis=-1), "int64"),
        (lambda z: z[:, None, None], "shape"),
        (lambda z: z / 0.0, "NaN|infinite"),
    ],
)
def test_outputs_that_cannot_be_logits_are_one_line(form, message):
    teacher = Own(form)
    with pytest.raises(UserError, match=message):
        loss_of(dense(), teacher)


@pytest.mark.parametrize("form", [lambda z: (z,), lambda z: [z], lambda z: {"logits": z, "x": z}, lambda z: {"y": z}])
def test_the_only_output_is_taken(form):
    assert logits_of(None, form(tf.ones((2, 3)))).shape == (2, 3)
    student = Own(form)
    distiller = compiled(student, dense())
    assert distiller.predict(X, verbose=0).shape == (20, 3)


def test_one_number_for_each_example_is_one_output():
    assert logits_of(None, tf.ones((4,))).shape == (4, 1)


def test_an_attribute_called_features_does_not_make_a_model_of_this_library():
    model = Own()
    model.features = [3]
    assert not has_features(model) and look_at(model, X).outputs == 3


# --- models that are not built ----------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("form", ["arrays", pytest.param("data set", marks=pytest.mark.slow), "generator"])
def test_models_that_are_not_built_are_built_by_fit(form):
    def batches():
        yield X, Y

    data = {"arrays": (X, Y), "data set": (tf.data.Dataset.from_tensors((X, Y)),), "generator": (batches(),)}[form]
    student = Own()
    distiller = compiled(student, Own(), [SOFT, HardLabels()], metrics=["accuracy"])
    history = distiller.fit(*data, steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["loss"][0]) and student.built and len(distiller.optimizer.variables) >= 2


def test_one_logit_that_is_known_late_has_the_right_accuracy():
    student = Own(units=1)
    logs = compiled(student, None, [], loss="bce", metrics=["accuracy"]).evaluate(X, Y % 2, verbose=0, return_dict=True)
    assert logs["accuracy"] == pytest.approx(np.mean((student.predict(X, verbose=0)[:, 0] > 0) == Y % 2))


def test_a_student_that_is_not_built_needs_data_that_can_be_read():
    with pytest.raises(UserError, match="not built"):
        compiled(Own(), None, [HardLabels()])._prepare(None, None, None)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (dense(), dense(units=4), "3 classes, the teacher 4"),
        (dense(), "my-bert", "tfdistill.load"),
        ("my-bert", None, "tfdistill.load"),
        (L.Dense(3), None, "keras.Model"),
        (dense(), 3, "teacher"),
    ],
)
def test_pairs_that_do_not_fit_are_one_line(student, teacher, message):
    with pytest.raises(UserError, match=message):
        loss_of(student, teacher)


@pytest.mark.parametrize("terms", [SOFT, "soft_kl", ["soft_kl"], [losses.soft_kl]])
def test_terms_that_are_none_are_one_line(terms):
    with pytest.raises(UserError, match="Match\\('soft_kl'\\)"):
        Distiller(dense(), dense(), terms)


@pytest.mark.slow
def test_keras_hub_classifiers_with_a_softmax():
    keras_hub = pytest.importorskip("keras_hub")

    def classifier(activation=None):
        backbone = keras_hub.models.BertBackbone(50, 1, 2, 8, 16, max_sequence_length=16)
        return keras_hub.models.BertTextClassifier(backbone, num_classes=3, preprocessor=None, activation=activation)

    x = {"token_ids": np.ones((4, 6), "int32"), "padding_mask": np.ones((4, 6), "int32")}
    x["segment_ids"] = np.zeros((4, 6), "int32")
    student, teacher, softmax = classifier(), classifier(), classifier("softmax")
    teacher.set_weights([weight + 0.3 for weight in teacher.get_weights()])
    teacher.layers[-1].set_weights([RNG.normal(size=w.shape) for w in teacher.layers[-1].get_weights()])
    softmax.set_weights(teacher.get_weights())
    assert loss_of(student, softmax, x=x) == pytest.approx(loss_of(student, teacher, x=x), rel=1e-4)
    with pytest.raises(UserError, match="softmax"):
        loss_of(softmax, teacher, x=x)
