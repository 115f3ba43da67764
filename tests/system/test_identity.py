"""The same work or another."""

import pytest

from tfdistill.errors import UserError
from tfdistill.system.identity import differences, digest, require_same, summary


def test_the_same_after_a_round_trip_through_json():
    assert differences({"a": (1, 2), "b": {1: None}}, {"b": {"1": None}, "a": [1, 2]}) == {}


@pytest.mark.parametrize(
    ("now", "then", "keys"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a.1"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a"]),
        ({"a": 1}, {"b": 1}, ["a", "b"]),
        ({"a": None}, {}, []),
        ({"a": 1}, {"a": "1"}, ["a"]),
        ({"a": {"b": 1}}, {"a": None}, ["a"]),
    ],
)
def test_each_value_that_differs_by_its_key(now, then, keys):
    assert list(differences(now, then)) == keys


def test_a_difference_shows_both_values():
    (text,) = differences({"settings": {"epochs": 4}}, {"settings": {"epochs": 3}}).values()
    assert text.startswith("settings.epochs") and "4" in text and "3" in text


def test_a_long_list_is_cut():
    assert summary(["a", "b"]) == "a; b" and summary("abcde") == "a; b; c; and 2 more"


def test_other_work_is_refused_with_the_differences(tmp_path):
    require_same(tmp_path, {"seed": 1}, {"seed": 1}, "Choose another `--out`.")
    with pytest.raises(UserError, match=r"seed.*1.*0.*`--out`") as error:
        require_same(tmp_path, {"seed": 1}, {"seed": 0}, "Choose another `--out`.")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
