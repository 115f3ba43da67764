"""Answers of a teacher as logits: every form of the same answer, averages, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.answer_values import FLOOR, Answers, WrongAnswer

NAMES = ("no", "maybe", "yes")


def answers(task="classification", names=NAMES, count=1):
    return Answers(count, task, 1 if names is None else len(names), names, "the data")


def softmax(logits):
    exponents = np.exp(np.float64(logits) - np.max(logits))
    return exponents / exponents.sum()


def added(*values, task="classification", names=NAMES):
    made = answers(task, names)
    for kind, value in values:
        made.add(kind, [0], [value])
    return made.logits[0]


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.permutations(range(3)))
def test_all_forms_of_an_answer_are_equal(logits, order):
    probs = softmax(logits).tolist()
    named = {NAMES[number]: probs[number] for number in order}
    as_list = added(("probs", probs))
    np.testing.assert_array_equal(added(("probs", named)), as_list)
    np.testing.assert_array_equal(added(("logits", {NAMES[n]: logits[n] for n in order})), np.float32(logits))
    np.testing.assert_allclose(as_list, np.array(logits) - np.mean(logits), atol=1e-4)


def test_a_probability_of_zero_has_a_finite_logit():
    logits = added(("probs", [0, 0.5, 0.5]))
    np.testing.assert_allclose(softmax(logits), [FLOOR, 0.5, 0.5], atol=1e-7)
    tiny = added(("probs", [0, 1e-12, 1.0]))
    assert tiny[0] == tiny[1] < tiny[2]


def test_classes_left_out_share_the_rest():
    np.testing.assert_allclose(softmax(added(("probs", {"yes": 0.7}))), [0.15, 0.15, 0.7], atol=1e-6)
    np.testing.assert_allclose(softmax(added(("probs", {"no": 0.4, "yes": 0.6}))), [0.4, FLOOR, 0.6], atol=1e-6)
    np.testing.assert_allclose(
        softmax(added(("probs", {"no": 0.4, "yes": 0.6, "maybe": None}))), [0.4, 0, 0.6], atol=1e-6
    )


def test_several_answers_are_averaged_as_probabilities():
    mean = added(("probs", [1, 0, 0]), ("probs", [0, 0, 1]), ("probs", {"maybe": 0.5, "yes": 0.5}))
    np.testing.assert_allclose(softmax(mean), [1 / 3, 1 / 6, 1 / 2], atol=1e-6)
    mixed = added(("logits", [0.0, 1.0, 5.0]), ("probs", [0.2, 0.3, 0.5]))
    np.testing.assert_allclose(softmax(mixed), (softmax([0, 1, 5]) + np.array([0.2, 0.3, 0.5])) / 2, atol=1e-6)


def test_multilabel_probabilities_are_independent():
    made = added(("probs", [0.0, 0.5, 0.9]), task="multilabel")
    np.testing.assert_allclose(1 / (1 + np.exp(-np.float64(made))), [FLOOR, 0.5, 0.9], rtol=1e-5)
    mean = added(("probs", [1, 0, 0.2]), ("logits", [0, 0, 0]), task="multilabel")
    np.testing.assert_allclose(1 / (1 + np.exp(-np.float64(mean))), [0.75, 0.25, 0.35], rtol=1e-5)
    np.testing.assert_array_equal(added(("logits", [-3, 0.5, 7]), task="multilabel"), np.float32([-3, 0.5, 7]))


def test_regression_takes_a_number():
    for kind, value in (("logits", 2.5), ("probs", [2.5]), ("logits", [2.5])):
        assert added((kind, value), task="regression", names=None).tolist() == [2.5]
    assert added(("logits", 1), ("logits", 2), task="regression", names=None).tolist() == [1.5]


@pytest.mark.parametrize(
    ("kind", "value", "parts"),
    [
        ("probs", [0.5, 0.2, 0.2], ["0.9"]),
        ("probs", [0.5, 0.3, 0.2021], ["1.0021"]),
        ("probs", {"no": 0.8, "yes": 0.4}, ["1.2"]),
        ("probs", [1.5, -0.5, 0], ["-0.5"]),
        ("probs", {"yes": -0.5}, ["-0.5"]),
        ("probs", [float("nan"), 0.5, 0.5], ["NaN"]),
        ("logits", [float("inf"), 0.5, 0.5], ["infinite"]),
        ("logits", [10**400, 0, 0], ["too large"]),
        ("logits", [1e39, 0, 0], ["too large"]),
        ("probs", [0.5, 0.5], ["2", "3", "no, maybe, yes"]),
        ("probs", [], ["0", "3"]),
        ("probs", {}, ["no classes"]),
        ("probs", {"yess": 1.0}, ["'yess'", "no, maybe, yes"]),
        ("logits", {"yes": 1.0}, ["no, maybe"]),
        ("probs", "0.5", ["a string"]),
        ("probs", 0.5, ["a number"]),
        ("probs", [0.5, "0.5", 0], ["a string"]),
        ("probs", [True, False, False], ["true/false"]),
        ("probs", {"yes": "1"}, ["'yes'", "a string"]),
        ("probs", {"yes": float("nan")}, ["NaN"]),
    ],
)
def test_wrong_answers_are_refused(kind, value, parts):
    for place in (0, None):
        made = answers()
        with pytest.raises(ValueError) as caught:
            made.add(kind, [place], [value])
        assert all(part in str(caught.value) for part in parts), caught.value
        assert not made.known.any()


@pytest.mark.parametrize(
    ("task", "names", "value"),
    [
        ("multilabel", NAMES, [1.2, 0, 0]),
        ("multilabel", NAMES, [-0.1, 0, 0]),
        ("multilabel", NAMES, {"yes": 0.9}),
        ("regression", None, {"yes": 0.9}),
        ("regression", None, [1, 2]),
        ("regression", None, float("nan")),
        ("regression", None, "1"),
    ],
)
def test_wrong_answers_of_other_tasks_are_refused(task, names, value):
    with pytest.raises(ValueError):
        answers(task, names).add("probs", [0], [value])


def test_the_first_wrong_answer_is_named():
    good, wrong, other = [0.2, 0.3, 0.5], [0.2, 0.3, 0.4], ["x", 0, 0]
    for values, row in (([good, wrong, other], 1), ([good, other, wrong], 1), ([good, good, [0.5], wrong], 2)):
        made = answers(count=4)
        with pytest.raises(WrongAnswer) as caught:
            made.add("probs", range(len(values)), values)
        assert caught.value.row == row and not made.known.any()


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 4)), st.integers(1, 9)), max_size=30), st.integers(1, 30))
def test_answers_together_are_those_one_by_one(rows, size):
    values = [[number / 20, number / 20, 1 - number / 10] for _, number in rows]
    places = [place for place, _ in rows]
    together, alone = answers(count=5), answers(count=5)
    for start in range(0, len(rows), size):
        together.add("probs", places[start : start + size], values[start : start + size])
    for place, value in zip(places, values, strict=True):
        alone.add("probs", [place], [value])
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-6)
    for place in range(5):
        mine = [value for other, value in zip(places, values, strict=True) if other == place]
        assert together.known[place] == bool(mine)
        if mine:
            np.testing.assert_allclose(softmax(together.logits[place]), np.mean(mine, axis=0), atol=1e-6)


def test_sums_within_the_tolerance_are_taken():
    for total in (0.9991, 1.0009):
        made = added(("probs", [0.5, 0.3, total - 0.8]))
        np.testing.assert_allclose(softmax(made), np.array([0.5, 0.3, total - 0.8]) / total, atol=1e-6)
