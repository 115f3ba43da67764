"""The base class of terms: defaults that hold everywhere, and data that tells terms apart."""

import functools
import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill import losses
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.distill.parameter_terms import SharedProjection, TeacherMaskedLM
from tfdistill.distill.step import Term


class Confidence(Term):
    """A term with nothing but its name, what it reads, and its call."""

    name = "confidence"
    student_features = frozenset({"logits"})

    def __init__(self, power=1.0):
        self.power = power

    def __call__(self, step):
        return -(keras.ops.max(keras.ops.softmax(step.student.logits), axis=-1) ** self.power)


def other_loss(labels, logits):
    return keras.ops.sum(logits, axis=-1)


@pytest.mark.heavy
def test_a_subclass_needs_a_name_features_and_a_call():
    keras.utils.set_random_seed(0)
    distiller = Distiller(tiny_bert(1), None, [Confidence()])
    distiller.compile("sgd")
    assert -1 < distiller.evaluate(inputs(), np.zeros(22), verbose=0, return_dict=True)["confidence"] < 0


ALIKE = [
    (Confidence(), Confidence(2.0)),
    (HardLabels(), HardLabels(task="multilabel")),
    (HardLabels(), HardLabels(smoothing=0.1)),
    (HardLabels(loss=keras.losses.Huber(1.0)), HardLabels(loss=keras.losses.Huber(2.0))),
    (HardLabels(loss=keras.losses.Huber(1.0)), HardLabels(loss=keras.losses.MeanSquaredError())),
    (HardLabels(loss=other_loss), HardLabels(loss=keras.losses.mean_squared_error)),
    (Match(losses.soft_kl), Match(losses.soft_kl, options={"temperature": 2.0})),
    (Match(losses.soft_kl), Match(losses.soft_cross_entropy, name="soft_kl")),
    (Match(losses.soft_kl), Match(functools.partial(losses.soft_kl, temperature=2.0), name="soft_kl")),
    (SharedProjection("up"), SharedProjection("down")),
    (TeacherMaskedLM(7), TeacherMaskedLM(8)),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_terms_that_differ_in_one_field_differ_as_data(one, other):
    first, second = (json.dumps(term.as_data(), sort_keys=True) for term in (one, other))
    assert first != second and " at 0x" not in first + second


def test_equal_terms_are_equal_as_data():
    def make():
        layers = ((1, 3), (2, 6))
        return [
            Confidence(),
            HardLabels(loss=keras.losses.Huber(1.0)),
            Match(losses.hidden_mse, on="hidden_states", layers=layers, project="fit"),
        ]

    first, second = ([json.loads(json.dumps(term.as_data())) for term in make()] for _ in range(2))
    assert first == second == [term.as_data() for term in make()]
    assert first[2]["layers"] == [[1, 3], [2, 6]] and first[2]["loss"] == "tfdistill.distill.losses.hidden_mse"


def test_options_that_are_objects_are_recorded_by_their_fields():
    @dataclass
    class Scale:
        factor: float

    def scaled(student, teacher, *, scale):
        return scale.factor * losses.logits_mse(student, teacher)

    data = [Match(scaled, options={"scale": Scale(factor)}).as_data()["options"] for factor in (1.0, 2.0)]
    assert [each["scale"]["factor"] for each in data] == [1.0, 2.0]
