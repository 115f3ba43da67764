from __future__ import annotations

import numpy as np
import pytest

from tfdistill.data.splits import Split, concatenate, random_split
from tfdistill.errors import UserError


def test_take():
    split = Split(["a", "b", "c"], ["d", "e", "f"], np.array([0, 1, 2]))
    taken = split.take([2, 0])
    assert (taken.texts, taken.texts_b, taken.labels.tolist()) == (["c", "a"], ["f", "d"], [2, 0])
    assert (Split(["a", "b"]).take(np.array([1])).texts, Split(["a"]).take([]).labels) == (["b"], None)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="texts_b has 1"):
        Split(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="labels has 3"):
        Split(["a", "b"], None, np.zeros(3))


def test_random_split():
    whole = Split([str(i) for i in range(25)], None, np.arange(25))
    parts = random_split(whole, 13)
    assert {name: len(part) for name, part in parts.items()} == {"train": 21, "dev": 2, "test": 2}
    order = np.random.default_rng(13).permutation(25).tolist()
    assert parts["test"].labels.tolist() + parts["dev"].labels.tolist() + parts["train"].labels.tolist() == order
    assert random_split(whole, 13)["train"].texts == parts["train"].texts
    assert random_split(whole, 14)["train"].texts != parts["train"].texts
    with pytest.raises(UserError, match="9 examples"):
        random_split(whole.take(range(9)), 13)


def test_extra_texts():
    split = Split(["a", "b"], ["c", "d"], np.array([0, 1]), (["e", ""], ["f", "g"]))
    assert (split.take([1]).texts_extra, split.take([1]).labels.tolist()) == (
        (
            [
                "",
            ],
            ["g"],
        ),
        [1],
    )
    seen = split.with_extra()
    assert (seen.texts, seen.texts_b, seen.labels.tolist()) == (["a", "b"], ["c e f", "d g"], [0, 1])
    assert Split(["a"], texts_extra=(["x"],)).with_extra().texts_b == ["x"]
    with pytest.raises(UserError, match="text_extra"):
        Split(["a"]).with_extra()
    with pytest.raises(ValueError, match="texts_extra has 1"):
        Split(["a", "b"], texts_extra=(["c"],))


def test_concatenate_marks_rows_without_labels():
    labelled, bare = Split(["a", "b"], None, np.array([0, 1])), Split(["c"], texts_extra=(["x"],))
    both = concatenate([labelled, bare])
    assert (both.texts, both.labels.tolist(), both.texts_extra) == (["a", "b", "c"], [0, 1, -1], (["", "", "x"],))
    assert both.labels.dtype == np.int64 and both.labelled.tolist() == [True, True, False]
    numbers = concatenate([bare, Split(["a"], None, np.array([-0.5], np.float32))])
    assert np.isnan(numbers.labels[0]) and numbers.labels[1] == -0.5 and numbers.labels.dtype == np.float32
    assert numbers.labelled.tolist() == [False, True]
    sets = concatenate([Split(["a"], None, np.array([[0, 1]], np.float32)), bare])
    assert sets.labels.tolist() == [[0, 1], [-1, -1]] and sets.labelled.tolist() == [True, False]
    assert concatenate([bare, bare]).labels is None and bare.labelled.tolist() == [False]
    assert concatenate([Split(["a"], ["b"]), Split(["c"], ["d"])]).texts_b == ["b", "d"]
    with pytest.raises(UserError, match="text_b"):
        concatenate([Split(["a"], ["b"]), bare])
