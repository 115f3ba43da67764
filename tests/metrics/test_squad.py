from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.errors import UserError
from tfdistill.metrics.squad import exact_match, f1, normalize_answer, squad_scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat", "cat"),
        ("a an the", ""),
        ("an apple a day", "apple day"),
        ("Theatre, another banana", "theatre another banana"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("T.H.E. end", "end"),  # punctuation goes before articles do
        ("twenty-one", "twentyone"),
        ("  two \t words\n ", "two words"),
        ("$1,000.50", "100050"),
        ("“the” end—", "“ ” end—"),  # only ASCII punctuation goes; quotes are borders of words
        ("À LA carte", "à la carte"),
        ("ÉCOLE a\u00a0b", "école b"),
        ("the_end", "theend"),
        ("-", ""),
        ("", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("the Eiffel Tower", "Eiffel Tower!", 1.0),
        ("Eiffel Tower", "tower", 2 * 1 / 3),
        ("a b b c", "b b b", 2 * 2 / (3 + 3)),  # "a" is an article; b counts twice
        ("Paris", "London", 0.0),
        ("", "London", 0.0),
        ("the", "London", 0.0),
        ("", "", 1.0),
        ("the", ".", 1.0),
    ],
)
def test_f1(prediction, answer, expected):
    assert f1(prediction, answer) == pytest.approx(expected)
    assert f1(answer, prediction) == pytest.approx(expected)


def test_nothing_against_nothing_in_1_1():
    assert f1("the", "", no_answer=False) == 0.0 and exact_match("the", "") == 1.0
    assert squad_scores({"q": ""}, {"q": ["the"]}) == {"f1": 0.0, "exact_match": 1.0}
    assert squad_scores({"q": ""}, {"q": ["the"]}, version_2=True)["f1"] == 1.0


def test_scores_of_1_1():
    answers = {"one": ["Paris", "the city of Paris"], "two": ["1889", "in 1889"]}
    scores = squad_scores({"one": "City of Paris.", "two": "by 1889", "another": "x"}, answers)
    assert scores == pytest.approx({"f1": (1 + 2 / 3) / 2, "exact_match": 0.5})
    assert list(scores) == ["f1", "exact_match"]


def test_scores_of_2_0():
    answers = {"one": ["Paris"], "two": [], "three": [], "four": ["the"]}
    scores = squad_scores({"one": "Paris, France", "two": "", "three": "no", "four": ""}, answers)
    # An answer of articles alone is none: question four has an answer in the file, and "" is right.
    assert scores == pytest.approx(
        {
            "f1": (2 / 3 + 1 + 0 + 1) / 4,
            "exact_match": (0 + 1 + 0 + 1) / 4,
            "f1_answerable": (2 / 3 + 1) / 2,
            "exact_match_answerable": 0.5,
            "f1_unanswerable": 0.5,
            "exact_match_unanswerable": 0.5,
        }
    )
    assert "f1_unanswerable" not in squad_scores({"one": "Paris"}, {"one": ["Paris"]}, version_2=True)


@pytest.mark.heavy
@given(st.text(max_size=30), st.text(max_size=30))
def test_properties(first, second):
    assert 0 <= f1(first, second) == f1(second, first) <= 1
    assert f1(first, first) == exact_match(first, first) == 1.0
    assert exact_match(first, second) <= f1(first, second)


def test_questions_without_a_prediction(capsys):
    """The official script of 1.1 counts them as wrong, that of 2.0 leaves them out."""
    answers = {"one": ["Paris"], "two": ["Rome"]}
    assert squad_scores({"one": "Paris"}, answers) == {"f1": 0.5, "exact_match": 0.5}
    assert "'two'" in capsys.readouterr().err
    scores = squad_scores({"one": "Paris"}, answers, version_2=True)
    assert (scores["f1"], scores["exact_match"], scores["f1_answerable"]) == (1.0, 1.0, 1.0)
    assert "'two'" in capsys.readouterr().err


def test_refuses():
    with pytest.raises(UserError, match="no questions"):
        squad_scores({}, {})
    with pytest.raises(UserError, match="'one'"):
        squad_scores({"three": "x"}, {"one": ["x"], "two": ["y"]})
    with pytest.raises(UserError, match="'one'"):
        squad_scores({"one": "x"}, {"one": []}, version_2=False)
