"""Texts with labels: fingerprints, classes, rows of token ids, scores and predictions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData, with_label_names
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"])


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
    plain = TextData("", {"train": Split(["a"])}, None)
    extras = [TextData("", {"train": Split(["a"], texts_extra=e)}, None) for e in ((["b"],), (["c"],), (["b"], ["c"]))]
    assert len({one.fingerprint for one in [plain, *extras]}) == 4


def test_with_label_names():
    turned = with_label_names(data(), ["yes", "maybe", "no"])
    assert (turned.label_names, turned.splits["train"].labels.tolist()) == (("yes", "maybe", "no"), [2, 0])
    assert turned.splits["train"].labels.dtype == np.int64
    assert with_label_names(data(labels=None), ["yes", "no"]).splits["train"].labels is None
    with pytest.raises(UserError, match=r"'yes'.*did you mean 'yess'"):
        with_label_names(data(), ["no", "yess"])
    with pytest.raises(UserError, match="regression"):
        with_label_names(data(names=None), ["no", "yes"])


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


def test_rows_score_and_predict_classes():
    pairs = data(texts_b=("c", "d"))
    rows = pairs.encode(pairs.splits["train"], TOKENIZER, 8)
    assert (len(rows.encoded), rows.labels.tolist(), rows.token_labels) == (2, [0, 1], None)
    logits = np.array([[2.0, 0.0], [1.0, 0.0]])
    assert rows.score(logits)["accuracy"] == 0.5
    first, second = rows.predictions(logits)
    assert first == {
        "text": "a",
        "text_b": "c",
        "label": "no",
        "predicted": "no",
        "probabilities": pytest.approx({"no": 1 / (1 + np.exp(-2)), "yes": 1 / (1 + np.exp(2))}),
    }
    assert (second["label"], second["predicted"]) == ("yes", "no")


def test_rows_predict_numbers_and_several_classes():
    numbers = data(names=None, labels=(0.5, 1.0))
    (row, _) = numbers.encode(numbers.splits["train"], TOKENIZER, 8).predictions(np.array([[0.25], [1.0]]))
    assert row == {"text": "a", "label": 0.5, "predicted": 0.25}
    many = TextData("", {"dev": Split(["a"], None, np.array([[0, 1]], np.float32))}, ("n", "y"), multilabel=True)
    (row,) = many.encode(many.splits["dev"], TOKENIZER, 8).predictions(np.array([[0.0, 1.0]]))
    assert (row["label"], row["predicted"]) == (["y"], ["y"])
    assert row["probabilities"] == pytest.approx({"n": 0.5, "y": 1 / (1 + np.exp(-1))})


def test_a_split_without_labels():
    bare = data(labels=None)
    rows = bare.encode(bare.splits["train"], TOKENIZER, 8)
    assert not bare.has_labels("train") and rows.labelled.tolist() == [False, False]
    assert "label" not in rows.predictions(np.zeros((2, 2)))[0]
    with pytest.raises(UserError, match="label"):
        rows.score(np.zeros((2, 2)))
    with pytest.raises(UserError, match="label"):
        TextData("", {"train": bare.splits["train"], "dev": bare.splits["train"]}, ("n", "y")).training_split(None)


def test_what_a_student_trains_on():
    train, extra = Split(["a"], None, np.array([1])), Split(["c"])
    whole = TextData("", {"train": train, "dev": train, "unlabelled": extra}, ("no", "yes"))
    texts = whole.training_split(lambda split: Split(["b"], None, split.labels))
    assert (texts.texts, texts.labels.tolist()) == (["a", "b", "c"], [1, 1, -1])
    assert whole.training_split(None).texts == ["a", "c"]
    assert whole.first(0).splits["dev"].texts == [] and len(whole.first(9).splits["dev"]) == 1


def test_extra_columns_are_for_teachers():
    with_extra = Split(["a"], None, np.array([1]), (["e"],))
    privileged = TextData("", {"train": with_extra, "dev": Split(["a"], None, np.array([1]))}, ("no", "yes"))
    assert privileged.has_extra("train") and not privileged.has_extra("dev")
    assert {name: split.texts_b for name, split in privileged.with_extra().splits.items()} == {"train": ["e"]}
    plain, extra = (
        privileged.encode_for_teacher(with_extra, TOKENIZER, 8, privileged=flag).token_ids.tolist()
        for flag in (False, True)
    )
    assert (plain, extra) == ([2, 4, 3], [2, 4, 3, 8, 3])
    with pytest.raises(UserError, match="text_extra"):
        data().with_extra()


def test_repr_is_short():
    texts = ["a secret text"] * 1000
    data = TextData("films", {"train": Split(texts, texts, np.zeros(1000, np.int64))}, ("no", "yes"))
    assert repr(data) == "TextData('films', classification, 2 classes, train: 1,000)"
    assert repr(data.splits["train"]) == "Split(1,000 pairs of texts with 1,000 labels)"
