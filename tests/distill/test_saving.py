"""A Distiller saves its student, or says before the first step that it cannot."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert

from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.errors import UserError

X, Y = inputs(), np.random.default_rng(1).integers(0, 3, 22)


def made(student=None):
    distiller = Distiller(student or tiny_bert(1), None, [HardLabels()])
    distiller.compile(keras.optimizers.SGD(0.1))
    return distiller


class NoConfig(keras.Model):
    """A model that Keras cannot make again."""

    def __init__(self, thing):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x, training=False):
        return self.dense(x)


@pytest.mark.heavy
def test_callbacks_that_save_everything_save_the_student(tmp_path):
    distiller, best = made(), tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.ModelCheckpoint(best, save_best_only=True),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    distiller.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y), callbacks=callbacks)
    again = keras.saving.load_model(best)
    assert type(again) is type(distiller.student)
    np.testing.assert_array_equal(again.predict(X, verbose=0), distiller.predict(X, verbose=0))
    distiller.save(tmp_path / "saved.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "saved.keras")(X), distiller.student(X))


@pytest.mark.heavy
def test_what_cannot_be_saved_is_refused_before_the_first_step(tmp_path):
    x = np.ones((22, 4), "float32")
    for student, path in ((NoConfig(object()), "best.keras"), (tiny_bert(1), "best.h5")):
        distiller = made(student)
        callback = keras.callbacks.ModelCheckpoint(tmp_path / path)
        with pytest.raises(UserError, match=r"save_weights_only=True|keras"):
            distiller.fit(X if path.endswith("h5") else x, Y, verbose=0, callbacks=[callback])
        assert distiller.optimizer.iterations.numpy() == 0
        with pytest.raises(UserError, match="best"):
            distiller.save(tmp_path / path)
    weights_only = keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True)
    made(NoConfig(object())).fit(x, Y, verbose=0, callbacks=[weights_only])
    assert (tmp_path / "best.weights.h5").is_file()


def test_a_distiller_itself_has_no_config(tmp_path):
    for take in (
        lambda: made().get_config(),
        lambda: keras.models.clone_model(made()),
        lambda: keras.saving.save_model(made(), tmp_path / "x.keras"),
        lambda: made().to_json(),
    ):
        with pytest.raises(UserError, match="student"):
            take()


def test_a_saved_model_needs_no_signature(tmp_path):
    student = tiny_bert(1)
    student.export(tmp_path / "student", verbose=False)
    made(student).export(tmp_path / "again", verbose=False)
    for name in ("student", "again"):
        loaded = tf.saved_model.load(tmp_path / name)
        for x in (X, inputs(2, 5)):  # any batch and length
            np.testing.assert_allclose(
                loaded.serve({key: tf.constant(value) for key, value in x.items()}), student(x), atol=1e-5
            )


@pytest.mark.slow
def test_a_litert_file_of_keras_runs_without_operators_of_tensorflow(tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    student, path = tiny_bert(1), tmp_path / "model.tflite"
    student.export(path, format="litert", verbose=False)
    runner = interpreter.Interpreter(str(path)).get_signature_runner()
    x = {name: np.pad(value, [(0, 0), (0, 8)]) for name, value in inputs(1).items()}
    np.testing.assert_allclose(next(iter(runner(**x).values())), student(x), atol=1e-5)
