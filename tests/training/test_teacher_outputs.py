"""Which features of the teacher the cache has to hold."""

import pytest
from helpers import tiny_bert

from tfdistill import losses
from tfdistill.distill.features import FEATURES, Feature
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.training.teacher_outputs import wanted


class Reads(Term):
    name = "reads"

    def __init__(self, *features):
        self.teacher_features = frozenset(features)


@pytest.fixture(scope="module")
def teacher():
    return tiny_bert(2)


@pytest.mark.parametrize(
    ("feature", "names"),
    [
        (Feature("BLH", layered=True), {"new/1": True, "new/2": True}),
        (Feature("BALL", layered=True), {"new/1": True, "new/2": True}),
        (Feature("BLH"), {"new": True}),
        (Feature("BH"), {"new": False}),
    ],
)
def test_a_new_feature_is_of_all_tokens_if_it_has_an_axis_of_tokens(monkeypatch, teacher, feature, names):
    monkeypatch.setitem(FEATURES, "new", feature)
    assert wanted([Reads("new", "logits")], teacher) == names


def test_the_first_position_is_enough_if_all_terms_read_it_alone(teacher):
    patient = Match(losses.patient, on="hidden_states", layers=((1, 1), (2, 2)))
    hidden = Match(losses.hidden_mse, on="hidden_states", layers=((1, 2),))
    assert wanted([patient], teacher) == {"hidden_states/1": False, "hidden_states/2": False}
    assert wanted([patient, hidden], teacher) == {"hidden_states/1": False, "hidden_states/2": True}
