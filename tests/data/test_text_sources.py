"""Directories, files and names of text data."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from data_files import TRAIN, fails, jsonl, tsv, write

from tfdistill.data.text_sources import load_data


def test_directory(tmp_path):
    spec = write(
        tmp_path, {"train.tsv": TRAIN, "dev.csv": 'text,label\n"a, ""b""",positive\n', "test.tsv": "text\nwhat\n"}
    )
    (tmp_path / "README.md").write_text("ignored")
    data = load_data(spec)
    assert (data.name, data.label_names, data.task, data.is_pair) == (
        spec,
        ("negative", "positive"),
        "classification",
        False,
    )
    assert list(data.splits) == ["train", "dev", "test"]
    assert data.splits["train"].texts == ["good film", "bad film"]
    assert data.splits["train"].labels.tolist() == [1, 0]
    assert data.splits["train"].labels.dtype == np.int64
    assert data.splits["dev"].texts == ['a, "b"']
    assert data.splits["test"].labels is None


@pytest.mark.parametrize("name", ["dev", "validation", "valid", "val", "Dev"])
@pytest.mark.parametrize("suffix", ["tsv", "TSV"])
def test_names_of_dev(tmp_path, name, suffix):
    assert len(load_data(write(tmp_path, {"train.tsv": TRAIN, f"{name}.{suffix}": TRAIN})).splits["dev"]) == 2


def test_pairs(tmp_path):
    rows = [{"text": "a", "text_b": "b", "label": "yes"}, {"text": "c", "text_b": "d", "label": "no"}]
    data = load_data(write(tmp_path, {"train.jsonl": jsonl(*rows)}))
    assert data.is_pair
    assert (data.splits["train"].texts, data.splits["train"].texts_b) == (["a", "c"], ["b", "d"])


def test_labels_file(tmp_path):
    files = {"train.tsv": TRAIN, "labels.txt": "positive\r\nneutral\r\nnegative\r\n"}
    data = load_data(write(tmp_path, files))
    assert (data.label_names, data.splits["train"].labels.tolist()) == (("positive", "neutral", "negative"), [0, 2])
    data = load_data(str(tmp_path), label_names=["negative", "neutral", "positive"])
    assert (data.label_names, data.splits["train"].labels.tolist()) == (("negative", "neutral", "positive"), [2, 0])


def test_without_train(tmp_path):
    spec = write(tmp_path, {"test.tsv": TRAIN})
    assert load_data(spec, label_names=["positive", "negative"]).splits["test"].labels.tolist() == [0, 1]
    fails(spec, "labels.txt")
    write(tmp_path, {"labels.txt": "negative\npositive\n"})
    assert load_data(spec).splits["test"].labels.tolist() == [1, 0]
    write(tmp_path, {"test.tsv": "text\nonly text\n"})
    assert load_data(spec).splits["test"].labels is None
    (tmp_path / "labels.txt").unlink()
    fails(spec, "labels.txt")
    write(tmp_path, {"test.tsv": tsv("0.5", "1.5")})
    assert load_data(spec).task == "regression"


def test_test_labels_all_empty(tmp_path):
    assert (
        load_data(write(tmp_path, {"train.tsv": TRAIN, "test.tsv": "text\tlabel\na\t\nb\t \n"})).splits["test"].labels
        is None
    )
    (tmp_path / "test.tsv").unlink()
    rows = [{"text": "a", "label": None}, {"text": "b"}, {"text": "c", "label": ""}]
    assert load_data(write(tmp_path, {"test.jsonl": jsonl(*rows)})).splits["test"].labels is None


def test_single_file(tmp_path):
    write(tmp_path, {"all.tsv": tsv(*["a", "b"] * 20)})
    spec = str(tmp_path / "all.tsv")
    data = load_data(spec)
    order = np.random.default_rng(13).permutation(40)
    assert data.splits["test"].texts == [f"text {i}" for i in order[:4]]
    assert data.splits["dev"].texts == [f"text {i}" for i in order[4:8]]
    assert data.splits["train"].texts == [f"text {i}" for i in order[8:]]
    assert load_data(spec, seed=1).splits["test"].texts != data.splits["test"].texts


def test_splits_asked_for(tmp_path):
    spec = write(tmp_path, {"train.tsv": TRAIN, "dev.tsv": TRAIN})
    assert list(load_data(spec, splits=["dev"]).splits) == ["dev"]
    fails(spec, "'test'", splits=["dev", "test"])


@pytest.mark.parametrize("name", ["unlabelled.txt", "unlabeled.TXT", "unlabelled.txt.gz"])
def test_unlabelled_plain_text(tmp_path, name):
    content = "\ufefffirst\r\n\n  \n second\tpart \n".encode()
    spec = write(tmp_path, {"train.tsv": TRAIN, name: gzip.compress(content) if name.endswith("gz") else content})
    data = load_data(spec)
    assert list(data.splits) == ["train", "unlabelled"]
    assert (data.splits["unlabelled"].texts, data.splits["unlabelled"].labels) == (["first", " second\tpart "], None)


def test_unlabelled_tables(tmp_path):
    spec = write(tmp_path, {"train.tsv": TRAIN, "unlabelled.csv": "text,label\na,positive\nb,\n"})
    assert load_data(spec).splits["unlabelled"].texts == ["a", "b"]
    write(tmp_path, {"unlabelled.txt": "c\n"})
    fails(spec, "unlabelled.csv", "unlabelled.txt")
    (tmp_path / "unlabelled.csv").unlink()
    write(tmp_path, {"unlabelled.txt": b"ok\n\xff\n"})
    fails(spec, "unlabelled.txt", "line 2", "byte 3", "0xff")
    (tmp_path / "unlabelled.txt").unlink()
    write(tmp_path, {"unlabelled.txt.gz": gzip.compress(b"text\n" * 99)[:-9]})
    fails(spec, "unlabelled.txt.gz")
    (tmp_path / "unlabelled.txt.gz").unlink()
    write(tmp_path, {"unlabelled.txt": "a\n", "train.tsv": "text\ttext_b\tlabel\na\tb\tx\nc\td\ty\n"})
    fails(spec, "train.tsv", "unlabelled.txt")
    (tmp_path / "train.tsv").unlink()
    fails(spec, "unlabelled.txt")


def test_rows_without_label_on_request(tmp_path):
    files = {"train.tsv": "text\tlabel\ttext_extra\na\tx\t1\nb\t\t2\nc\ty\t3\nd\t \t4\n"}
    spec = write(tmp_path, files)
    fails(spec, "line 3", "unlabelled.tsv")
    data = load_data(spec, separate_unlabelled=True)
    assert (data.splits["train"].texts, data.splits["train"].labels.tolist()) == (["a", "c"], [0, 1])
    assert (data.splits["unlabelled"].texts, data.splits["unlabelled"].texts_extra) == (["b", "d"], (["2", "4"],))
    write(tmp_path, {"unlabelled.txt": "e\n"})
    fails(spec, "unlabelled.txt", "train.tsv", separate_unlabelled=True)
    write(tmp_path, {"all.tsv": tsv(*["a", "b", ""] * 10)})
    data = load_data(str(tmp_path / "all.tsv"), separate_unlabelled=True)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 16,
        "dev": 2,
        "test": 2,
        "unlabelled": 10,
    }
    write(tmp_path, {"all.tsv": tsv(*[""] * 10)})
    fails(str(tmp_path / "all.tsv"), "line 2", separate_unlabelled=True)


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (
            {"dev.tsv": tsv("positive", "positiv")},
            ["dev.tsv", "line 3", "'positiv'", "'positive'"],
        ),
        (
            {"test.tsv": tsv("positive", "other")},
            ["test.tsv", "line 3", "'other'"],
        ),
        ({"test.tsv": tsv("positive", "")}, ["test.tsv", "line 3"]),
        ({"dev.tsv": "text\na\n"}, ["dev.tsv", "'label'"]),
        ({"dev.tsv": tsv("", "")}, ["dev.tsv", "line 2"]),
        ({"dev.tsv": "text\ttext_b\tlabel\na\tb\tpositive\n"}, ["dev.tsv", "train.tsv"]),
        ({"train.csv": "text,label\na,b\n"}, ["train.csv", "train.tsv"]),
        ({"dev.tsv": TRAIN, "val.jsonl": "{}"}, ["dev.tsv", "val.jsonl"]),
        ({"labels.txt": "negative\npostive\n"}, ["train.tsv", "line 2", "'positive'", "'postive'"]),
        ({"labels.txt": "negative\n"}, ["labels.txt"]),
        ({"labels.txt": "negative\n\npositive\n"}, ["labels.txt"]),
        ({"labels.txt": "negative\npositive\nnegative\n"}, ["labels.txt", "'negative'"]),
        ({"labels.txt": b"\xff\n"}, ["cannot read", "labels.txt"]),
        (
            {"labels.txt": "negative\nneutral\npositive\n", "dev.tsv": tsv("neutral")},
            ["dev.tsv", "line 2", "'neutral'", "train.tsv"],
        ),
        (
            {"train.tsv": tsv("0.5", "1"), "dev.tsv": tsv("good")},
            ["dev.tsv", "line 2", "'good'"],
        ),
        ({"train.tsv": tsv("0", "1"), "dev.tsv": tsv("2")}, ["dev.tsv", "line 2", "'2'"]),
        ({"train.tsv": tsv("0", "1"), "dev.tsv": tsv("0.5")}, ["dev.tsv", "line 2", "'0.5'"]),
        ({"train.tsv": tsv("a", "a"), "labels.txt": "a\nb\n"}, ["train.tsv", "'a'"]),
    ],
)
def test_bad_directory(tmp_path, files, parts):
    fails(write(tmp_path, {"train.tsv": TRAIN, **files}), *parts)


def test_bad_paths(tmp_path):
    write(tmp_path, {"reviews.tsv": TRAIN, "reviews.txt": TRAIN})
    fails(
        str(tmp_path / "reviws.tsv"),
        "no data at",
        "reviws.tsv",
        f"did you mean {tmp_path / 'reviews.tsv'}?",
    )
    fails(str(tmp_path / "no" / "folder"), "no data at")
    fails(str(tmp_path / "reviews.txt"), "'.txt'")
    fails(str(tmp_path), "reviews.tsv", "reviews.txt")
    (tmp_path / "empty").mkdir()
    fails(str(tmp_path / "empty"), "nothing")
    fails("", "empty")
    fails("hf:imdb", "'hf:imdb'")
    fails("demo:movie-snipets", "'movie-snipets'", "'movie-snippets'")


def test_bad_single_files(tmp_path):
    write(tmp_path, {"few.tsv": tsv(*["a", "b"] * 4), "rare.tsv": tsv(*["1"] * 20, *["3"] * 20)})
    fails(str(tmp_path / "few.tsv"), "80/10/10")
    # The example that the permutation puts first falls into test.
    first = int(np.random.default_rng(13).permutation(40)[0])
    labels = ["1"] * 20 + ["3"] * 20
    labels[first] = "2"
    write(tmp_path, {"rare.tsv": tsv(*labels)})
    fails(str(tmp_path / "rare.tsv"), f"rare.tsv, line {first + 2}: label '2' is so rare")
    write(tmp_path, {"unlabelled.tsv": "text\n" + "a\n" * 20})
    fails(str(tmp_path / "unlabelled.tsv"), "'label'")
