from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tfdistill.data.textdata import Split, TextData, listing, nearest, random_split, with_label_names
from tfdistill.errors import UserError


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
