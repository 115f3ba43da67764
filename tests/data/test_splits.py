from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tfdistill.data.splits import Split, TextData, concatenate, random_split, with_label_names
from tfdistill.errors import UserError, listing, nearest


def data(texts=("a", "b"), texts_b=None, labels=(0, 1), names=("no", "yes"), name="data") -> TextData:
    kind = np.int64 if names else np.float32
    split = Split(
        list(texts), None if texts_b is None else list(texts_b), None if labels is None else np.array(labels, kind)
    )
    return TextData(name, {"train": split}, names)


def test_properties():
    assert (data().task, data().num_outputs, data().is_pair) == ("classification", 2, False)
    assert (data(names=None).task, data(names=None).num_outputs) == ("regression", 1)
    assert data(texts_b=("c", "d")).is_pair


def test_take():
    split = Split(["a", "b", "c"], ["d", "e", "f"], np.array([0, 1, 2]))
    taken = split.take([2, 0])
    assert (taken.texts, taken.texts_b, taken.labels.tolist()) == (["c", "a"], ["f", "d"], [2, 0])
    assert (Split(["a", "b"]).take(np.array([1])).texts, Split(["a"]).take([]).labels) == (["b"], None)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="texts_b has 1 entries; expected 2"):
        Split(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="labels has 3 entries; expected 2"):
        Split(["a", "b"], None, np.zeros(3))


def test_fingerprint():
    assert data().fingerprint == data(name="other").fingerprint
    parts = [b"no", b"yes", b"train 2 False True", b"a", b"b", bytes(8) + b"\1" + bytes(7)]
    content = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    assert data().fingerprint == hashlib.sha256(content).hexdigest()
    others = [
        data(texts=("ab", "")),
        data(texts=("b", "a")),
        data(labels=(1, 0)),
        data(labels=None),
        data(names=("yes", "no")),
        data(names=None),
        data(texts_b=("c", "d")),
        TextData("data", {"dev": data().splits["train"]}, ("no", "yes")),
    ]
    assert len({one.fingerprint for one in [data(), *others]}) == 9
    two = {"train": Split(["a"]), "dev": Split(["b"])}
    turned = dict(reversed(two.items()))
    assert TextData("", two, None).fingerprint == TextData("", turned, None).fingerprint


def test_random_split():
    whole = Split([str(i) for i in range(25)], None, np.arange(25))
    parts = random_split(whole, 13)
    assert {name: len(part) for name, part in parts.items()} == {"train": 21, "dev": 2, "test": 2}
    order = np.random.default_rng(13).permutation(25).tolist()
    assert parts["test"].labels.tolist() + parts["dev"].labels.tolist() + parts["train"].labels.tolist() == order
    assert random_split(whole, 13)["train"].texts == parts["train"].texts
    assert random_split(whole, 14)["train"].texts != parts["train"].texts
    with pytest.raises(UserError, match="got 9 examples to split 80/10/10; expected at least 10"):
        random_split(whole.take(range(9)), 13)


def test_with_label_names():
    turned = with_label_names(data(), ["yes", "maybe", "no"])
    assert (turned.label_names, turned.splits["train"].labels.tolist()) == (("yes", "maybe", "no"), [2, 0])
    assert turned.splits["train"].labels.dtype == np.int64
    assert with_label_names(data(labels=None), ["yes", "no"]).splits["train"].labels is None
    with pytest.raises(UserError, match=r"the class 'yes'; expected one of no, yess \(did you mean 'yess'\?\): use"):
        with_label_names(data(), ["no", "yess"])
    with pytest.raises(UserError, match="numbers as targets"):
        with_label_names(data(names=None), ["no", "yes"])


def test_messages():
    assert nearest("Txt", ["label", "text"]) == " (did you mean 'text'?)"
    assert nearest("TEXT", ["Text"]) == " (did you mean 'Text'?)"
    assert nearest("zzz", ["label", "text"]) == ""
    assert listing("abc") == "a, b, c"
    assert listing("abcde", 3) == "a, b, c, and 2 more"


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
    with pytest.raises(UserError, match="no extra texts; expected a column text_extra"):
        Split(["a"]).with_extra()
    with pytest.raises(ValueError, match="texts_extra has 1 entries; expected 2"):
        Split(["a", "b"], texts_extra=(["c"],))
    plain = TextData("", {"train": Split(["a"])}, None)
    extras = [TextData("", {"train": Split(["a"], texts_extra=e)}, None) for e in ((["b"],), (["c"],), (["b"], ["c"]))]
    assert len({one.fingerprint for one in [plain, *extras]}) == 4


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
    with pytest.raises(UserError, match="with and without text_b"):
        concatenate([Split(["a"], ["b"]), bare])


def test_multilabel():
    split = Split(["a", "b", "c"], None, np.array([[1, 0], [1, 1], [-1, -1]], np.float32))
    many = TextData("many", {"train": split}, ("no", "yes"), multilabel=True)
    assert (many.task, many.num_outputs) == ("multilabel", 2)
    turned = with_label_names(many, ["yes", "maybe", "no"])
    assert turned.splits["train"].labels.tolist() == [[0, 0, 1], [1, 0, 1], [-1, -1, -1]]
    assert (turned.task, turned.splits["train"].labels.dtype) == ("multilabel", np.float32)
    one = TextData("", {"train": Split(["a", "b"], None, np.array([1, -1]))}, ("no", "yes"), metrics=("f1",))
    again = with_label_names(one, ["yes", "no"])
    assert (again.splits["train"].labels.tolist(), again.metrics) == ([0, -1], ("f1",))
    flipped = TextData("", {"train": Split(["a"], None, np.array([[0, 1]], np.float32))}, ("n", "y"), True)
    other = TextData("", {"train": Split(["a"], None, np.array([[1, 0]], np.float32))}, ("n", "y"), True)
    assert flipped.fingerprint != other.fingerprint
