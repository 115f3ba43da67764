"""Terms on parameters: the value by hand, and whom the gradient reaches."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert

from tfdistill.distill.distiller import Distiller
from tfdistill.distill.features import Features
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.parameter_terms import SharedProjection, TeacherMaskedLM
from tfdistill.distill.step import Step
from tfdistill.errors import UserError


@pytest.mark.heavy
@pytest.mark.parametrize("direction", ["up", "down"])
def test_value_is_the_formula_and_the_gradient_reaches_everyone(direction):
    keras.utils.set_random_seed(0)
    student, teacher = tiny_bert(2, width=4), tiny_bert(2, width=8)
    distiller = Distiller(student, teacher, [SharedProjection(direction)], train_teacher=True)
    distiller.compile("sgd")
    term, made = distiller.terms[0], distiller.projections
    u, v, fu, fv = (
        made[f"shared_projection_{kind}_{side}"].matrix.numpy()
        for kind in ("width", "ffn")
        for side in ("left", "right")
    )
    assert u.shape == ((8, 4) if direction == "up" else (4, 8))
    expected = 0.0
    for of_student, of_teacher in zip(student.encoder.blocks, teacher.encoder.blocks, strict=True):
        target, source = (of_teacher, of_student) if direction == "up" else (of_student, of_teacher)

        def kernel(layer_name, left, right, target=target, source=source):
            a, b = (np.array(getattr(block, layer_name).kernel) for block in (target, source))
            return np.sum((a - left @ b @ right) ** 2)

        def vector(get, right, target=target, source=source):
            return np.sum((np.array(get(target)) - np.array(get(source)) @ right) ** 2)

        for name in ("query", "key", "value", "attention_output"):
            expected += kernel(name, u, v) + vector(lambda block, name=name: getattr(block, name).bias, v)
        expected += kernel("intermediate", u, fv) + vector(lambda block: block.intermediate.bias, fv)
        expected += kernel("output_dense", fu, v) + vector(lambda block: block.output_dense.bias, v)
        for norm in ("attention_norm", "output_norm"):
            for name in ("gamma", "beta"):
                expected += vector(lambda block, norm=norm, name=name: getattr(getattr(block, norm), name), v)
    step = Step(Features(), None, None, made, (student, teacher))
    with tf.GradientTape() as tape:
        value = term(step)
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    wanted = {
        "U": made["shared_projection_width_left"].matrix,
        "V": made["shared_projection_width_right"].matrix,
        "student": student.encoder.blocks[1].output_dense.kernel,
        "teacher": teacher.encoder.blocks[0].query.kernel,
    }
    for name, gradient in zip(wanted, tape.gradient(value, list(wanted.values())), strict=True):
        assert float(tf.norm(gradient)) > 0, name


@pytest.mark.heavy
def test_a_term_on_parameters_counts_once_and_trains_the_teacher():
    student, teacher = tiny_bert(2, width=4), tiny_bert(2, width=8)
    labels = np.zeros(22, "int64")
    distiller = Distiller(student, teacher, [SharedProjection(weight=0.01), HardLabels()], train_teacher=True)
    distiller.compile(keras.optimizers.SGD(0.01))
    assert len(distiller.trainable_variables) == 4 + len(student.trainable_variables) + len(teacher.trainable_variables)
    before = np.array(teacher.encoder.blocks[0].query.kernel)
    logs = [
        distiller.evaluate(inputs(), labels, sample_weight=weights, batch_size=22, verbose=0, return_dict=True)
        for weights in (np.ones(22), np.zeros(22))
    ]
    assert logs[0]["shared_projection"] == pytest.approx(logs[1]["shared_projection"])
    assert logs[1]["loss"] == pytest.approx(0.01 * logs[1]["shared_projection"], rel=1e-5)
    distiller.fit(inputs(), labels, batch_size=22, verbose=0)
    assert np.abs(np.array(teacher.encoder.blocks[0].query.kernel) - before).max() > 0


def test_layers_have_to_pair():
    with pytest.raises(UserError, match="layers"):
        Distiller(tiny_bert(1), tiny_bert(2), [SharedProjection()])
    with pytest.raises(UserError, match="'up' or 'down'"):
        Distiller(tiny_bert(1), tiny_bert(1), [SharedProjection("sideways")])


def test_a_masked_piece_is_predicted_within_its_vocabulary():
    # Ids 0 and 1 are the teacher's, 2 to 4 the student's; logits of the other vocabulary do not matter.
    logits = tf.constant(
        [[[np.log(3.0), 0.0, 50.0, 50.0, 50.0], [50.0, 50.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0, 9.0]]]
    )
    labels = {"teacher_labels": np.array([[0, 3, 1]]), "teacher_weights": np.array([[1.0, 1.0, 0.0]])}
    sums, counts = TeacherMaskedLM(2)(Step(Features(), Features(logits=tf.cast(logits, tf.float32)), labels))
    assert sums.numpy() == pytest.approx([np.log(4 / 3) + np.log(3.0)], abs=1e-5)
    assert counts.numpy() == pytest.approx([2.0])
