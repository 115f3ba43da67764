"""Labels of data files: classes, several classes and numbers."""

from __future__ import annotations

import numpy as np
import pytest
from data_files import TRAIN, fails, jsonl, tsv, write

from tfdistill.data.text_sources import load_data


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["1", "0", "2"], ("0", "1", "2"), [1, 0, 2]),
        (["5", "1", "3"], ("1", "3", "5"), [2, 0, 1]),
        (["10", "9", "-1"], ("-1", "9", "10"), [2, 1, 0]),
        (["02", "01"], ("01", "02"), [1, 0]),
        (["b", "B", "a"], ("B", "a", "b"), [2, 0, 1]),
    ],
)
def test_class_labels(tmp_path, labels, names, numbers):
    data = load_data(write(tmp_path, {"train.tsv": tsv(*labels)}))
    assert (data.label_names, data.splits["train"].labels.tolist()) == (names, numbers)


@pytest.mark.parametrize("labels", [["0.5", "1", "2"], ["1.0", "0.0"], ["-1e-3", "+.5", "3"]])
def test_regression(tmp_path, labels):
    data = load_data(write(tmp_path, {"train.tsv": tsv(*labels), "dev.tsv": tsv("1", "2")}))
    assert (data.task, data.label_names, data.num_outputs) == ("regression", None, 1)
    assert data.splits["train"].labels.dtype == np.float32
    np.testing.assert_array_equal(data.splits["train"].labels, np.array([float(label) for label in labels], np.float32))
    assert data.splits["dev"].labels.tolist() == [1.0, 2.0]


def test_json_labels(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    numbers = jsonl({"text": "a", "label": 1}, {"text": "b", "label": 0})
    strings = jsonl({"text": "a", "label": "0.5"}, {"text": "b", "label": "1"})
    assert load_data(write(tmp_path / "a", {"train.jsonl": numbers})).splits["train"].labels.tolist() == [1, 0]
    assert load_data(write(tmp_path / "b", {"train.jsonl": strings})).label_names == ("0.5", "1")


def test_multilabel(tmp_path):
    spec = write(
        tmp_path, {"train.tsv": tsv("joy|anger", "fear", "|", "anger | joy"), "dev.csv": "text,label\na,joy\n"}
    )
    data = load_data(spec)
    assert (data.task, data.label_names, data.num_outputs) == ("multilabel", ("anger", "fear", "joy"), 3)
    labels = data.splits["train"].labels
    assert labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]] and labels.dtype == np.float32
    assert data.splits["dev"].labels.tolist() == [[0, 0, 1]]
    named = load_data(spec, label_names=["joy", "anger", "fear", "none"])
    assert named.splits["train"].labels[0].tolist() == [1, 1, 0, 0]
    fails(spec, "train.tsv", "line 2", "'anger'", label_names=["joy", "fear"])
    fails(spec, "train.tsv", "line 4", task="classification")
    fails(spec, "'joy|anger'", task="regression")
    fails(spec, "'multilable'", "'multilabel'", task="multilable")


def test_multilabel_lists_and_numbers(tmp_path):
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": "x|y"}]
    data = load_data(write(tmp_path, {"train.jsonl": jsonl(*rows)}))
    assert (data.label_names, data.splits["train"].labels.tolist()) == (
        ("x", "x|y", "y"),
        [[1, 0, 1], [0] * 3, [0, 1, 0]],
    )
    fails(str(tmp_path), "line 1", task="classification")
    write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": [10, 9]}, {"text": "b", "label": [2]})})
    assert load_data(str(tmp_path)).label_names == ("2", "9", "10")
    write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": [0, 2]}), "labels.txt": "p\nq\nr\n"})
    assert load_data(str(tmp_path)).splits["train"].labels.tolist() == [[1, 0, 1]]
    for value, said in (([0.5], "0.5"), ([["x"]], '["x"]'), ([None], "null"), ([""], '""'), ([True], "true/false")):
        write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": value})})
        fails(str(tmp_path), "train.jsonl", "line 1", said)


def test_names_with_a_bar_stay_names_where_they_are_listed(tmp_path):
    spec = write(tmp_path, {"train.tsv": tsv("a|b", "c"), "labels.txt": "a|b\nc\n"})
    data = load_data(spec)
    assert (data.task, data.splits["train"].labels.tolist()) == ("classification", [0, 1])
    (tmp_path / "labels.txt").unlink()
    assert load_data(spec, task="classification").label_names == ("a|b", "c")
    assert load_data(spec).label_names == ("a", "b", "c")
    write(tmp_path, {"train.tsv": tsv("a||b", "c")})
    assert load_data(spec).label_names == ("a||b", "c")


def test_task_that_was_asked_for(tmp_path):
    spec = write(tmp_path, {"train.tsv": tsv("1", "2", "5")})
    assert load_data(spec).task == "classification"
    assert load_data(spec, task="regression").splits["train"].labels.tolist() == [1.0, 2.0, 5.0]
    assert load_data(spec, task="multilabel").splits["train"].labels.tolist() == np.eye(3).tolist()
    write(tmp_path, {"train.tsv": tsv("1.5", "2", "5")})
    fails(spec, task="classification")


def test_class_numbers_with_names(tmp_path):
    spec = write(tmp_path, {"train.tsv": tsv("1", "0"), "dev.tsv": tsv("1", "1")})
    data = load_data(spec, label_names=["negative", "positive"])
    assert (data.label_names, data.splits["train"].labels.tolist()) == (("negative", "positive"), [1, 0])
    assert load_data(spec, label_names=["1", "0"]).splits["train"].labels.tolist() == [0, 1]  # these are names


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.tsv", "text\tlable\na\tb\n", ["'label'", "'lable'"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "labels": 1}),
            ["'label'", "'labels'"],
        ),
        ("train.tsv", tsv("", ""), ["line 2"]),
        ("train.tsv", tsv("0.5", "nan"), ["line 3", "'nan'"]),
        ("train.tsv", tsv("0.5", "-Infinity"), ["line 3", "'-Infinity'"]),
        ("train.tsv", tsv("0.5", "1e39"), ["line 3"]),
        ("train.jsonl", '{"text": "a", "label": NaN}\n', ["line 1"]),
        ("train.jsonl", '{"text": "a", "label": 1e999}\n', ["line 1"]),
        ("train.jsonl", '{"text": "a", "label": 1' + "0" * 50 + "}\n", ["is not finite"]),
        ("train.jsonl", '{"text": "a", "label": 1' + "0" * 5000 + "}\n", ["line 1"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "label": True}),
            ["line 1"],
        ),
        ("train.tsv", tsv("good", "1"), ["line 3", "'1'", "line 2", "'good'"]),
        (
            "train.tsv",
            tsv("1", "0.5", "good"),
            ["line 4", "'good'", "line 2", "'1'"],
        ),
        ("train.tsv", tsv("1", "01", "2"), ["'01'", "'1'"]),
        ("train.tsv", tsv("a", "a"), ["train.tsv", "'a'"]),
        ("train.tsv", tsv("1", "1"), ["'1'"]),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_their_line(tmp_path, name, content, parts):
    fails(write(tmp_path, {name: content}), name, *parts)


@pytest.mark.parametrize(
    ("content", "names", "parts"),
    [
        (TRAIN, ["negative", "positiv"], ["train.tsv", "line 2", "'positive'", "'positiv'"]),
        (tsv("0", "2"), ["a", "b"], ["line 3", "'2'"]),
        (tsv("1", "0.5"), ["a", "b"], ["line 3"]),
        (TRAIN, ["a"], ["label_names"]),
        (TRAIN, ["a", "a"], ["'a'"]),
    ],
)
def test_bad_label_names(tmp_path, content, names, parts):
    fails(write(tmp_path, {"train.tsv": content}), *parts, label_names=names)


def test_a_model_knows_classes_that_train_lacks(tmp_path):
    files = {"train.tsv": tsv("negative", "negative"), "dev.tsv": tsv("neutral"), "test.tsv": tsv("positive")}
    data = load_data(write(tmp_path, files), label_names=["negative", "neutral", "positive"])
    assert [data.splits[name].labels.tolist() for name in ("train", "dev", "test")] == [[0, 0], [1], [2]]


def test_label_names_against_labels_file(tmp_path):
    spec = write(tmp_path, {"train.tsv": TRAIN, "labels.txt": "negative\npositive\n"})
    fails(spec, "'negative'", label_names=["bad", "good"])
