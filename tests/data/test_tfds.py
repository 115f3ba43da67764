from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from tfdistill.data import tfds as tfds_source
from tfdistill.data.text_sources import load_data
from tfdistill.errors import MissingExtra, UserError

with warnings.catch_warnings():  # of a library that is not ours
    warnings.simplefilter("ignore")
    tfds = pytest.importorskip("tensorflow_datasets")

GLUE = {
    "cola": (False, ("unacceptable", "acceptable")),
    "sst2": (False, ("negative", "positive")),
    "mrpc": (True, ("not_equivalent", "equivalent")),
    "qqp": (True, ("not_duplicate", "duplicate")),
    "stsb": (True, None),
    "mnli": (True, ("entailment", "neutral", "contradiction")),
    "qnli": (True, ("entailment", "not_entailment")),
    "rte": (True, ("entailment", "not_entailment")),
    "wnli": (True, ("not_entailment", "entailment")),
}


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


@pytest.mark.heavy
@pytest.mark.parametrize("task", GLUE)
def test_glue(task):
    with tfds.testing.mock_data(num_examples=4):
        data = load_data(f"tfds:glue/{task}")
    is_pair, label_names = GLUE[task]
    assert (data.name, data.is_pair, data.label_names) == (f"tfds:glue/{task}", is_pair, label_names)
    assert data.task == ("regression" if task == "stsb" else "classification")
    assert list(data.splits) == ["train", "dev", "test"]
    for split in data.splits.values():
        assert len(split) == 4
        assert all(type(text) is str for text in split.texts + (split.texts_b or []))
        assert split.labels.dtype == (np.float32 if task == "stsb" else np.int64)


class Builder:
    """Stands in for a TFDS builder. rows: {split: list of examples}."""

    def __init__(self, features, rows, error=None):
        self.info = SimpleNamespace(features=tfds.features.FeaturesDict(features), splits=dict.fromkeys(rows))
        self.rows, self.error, self.read = rows, error, []

    def download_and_prepare(self):
        if self.error:
            raise self.error

    def as_dataset(self, split, batch_size, shuffle_files):
        assert not shuffle_files
        self.read.append(split)
        rows = self.rows[split]
        for start in range(0, len(rows), 2):
            part = rows[start : start + 2]
            yield {key: np.array([row[key] for row in part]) for key in part[0]}


def use(monkeypatch, builder):
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    monkeypatch.setattr(tfds, "as_numpy", lambda dataset: dataset)
    return builder


def nli(label: int) -> dict:
    return {"hypothesis": b"so it is", "premise": "it was schön".encode(), "idx": 1, "label": label}


@pytest.fixture
def mnli(monkeypatch):
    features = {
        "hypothesis": tfds.features.Text(),
        "premise": tfds.features.Text(),
        "idx": np.int32,
        "label": tfds.features.ClassLabel(names=["entailment", "neutral", "contradiction"]),
    }
    names = ["train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"]
    rows = {name: [nli(-1 if "test" in name else i % 3) for i in range(3)] for name in names}
    return use(monkeypatch, Builder(features, rows))


def test_mnli_takes_the_matched_splits(mnli):
    data = load_data("tfds:glue/mnli")
    assert mnli.read == ["train", "validation_matched", "test_matched"]
    assert (data.splits["dev"].texts[0], data.splits["dev"].texts_b[0]) == ("it was schön", "so it is")
    assert data.splits["train"].labels.tolist() == [0, 1, 2]
    assert data.splits["test"].labels is None


def test_only_the_splits_asked_for(mnli):
    assert list(load_data("tfds:glue/mnli", splits=["validation_mismatched"]).splits) == ["validation_mismatched"]
    assert mnli.read == ["validation_mismatched"]
    with pytest.raises(UserError, match="'validation'"):
        load_data("tfds:glue/mnli", splits=["validation"])


def test_label_names(mnli):
    data = load_data("tfds:glue/mnli", label_names=["contradiction", "entailment", "neutral"])
    assert data.splits["train"].labels.tolist() == [1, 2, 0]
    with pytest.raises(UserError, match="'contradiction'"):
        load_data("tfds:glue/mnli", label_names=["entailment", "neutral"])


def test_rows_without_a_label(mnli, capsys):
    mnli.rows["train"] = [nli(0), nli(-1)]
    data = load_data("tfds:glue/mnli")
    assert data.splits["train"].labels.tolist() == [0]
    assert len(data.splits["unlabelled"]) == 1 and data.splits["unlabelled"].labels is None
    assert "1 rows of train" in capsys.readouterr().err


def test_stsb_test_has_no_labels(monkeypatch):
    features = {"sentence1": tfds.features.Text(), "sentence2": tfds.features.Text(), "label": np.float32}
    row = {"sentence1": b"a", "sentence2": b"b"}
    rows = {"train": [{**row, "label": np.float32(2.5)}], "test": [{**row, "label": np.float32(-1)}] * 3}
    use(monkeypatch, Builder(features, rows))
    data = load_data("tfds:glue/stsb")
    assert (data.task, data.splits["train"].labels.tolist(), data.splits["test"].labels) == ("regression", [2.5], None)


def test_another_data_set(monkeypatch):
    features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}
    rows = {
        name: [{"text": b"a film", "label": -1 if name == "unsupervised" else 1}] for name in ("train", "unsupervised")
    }
    use(monkeypatch, Builder(features, rows))
    assert list(load_data("tfds:imdb_reviews").splits) == ["train"]
    plain = load_data("tfds:imdb_reviews", splits=["unsupervised"]).splits["unsupervised"]
    assert (plain.texts, plain.labels) == (["a film"], None)


@pytest.mark.parametrize(
    "features",
    [
        {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)},
        {"text": tfds.features.Text()},
        {"a": tfds.features.Text(), "b": tfds.features.Text(), "c": tfds.features.Text(), "label": np.float32},
        {"text": tfds.features.Text(), "label": np.int64},
    ],
)
def test_features_that_do_not_fit(monkeypatch, features):
    use(monkeypatch, Builder(features, {}))
    with pytest.raises(UserError, match="the features"):
        load_data("tfds:some_set")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("no route\nto host"),
            r"tfds:glue/sst2 \(ConnectionError: no route\)",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (AssertionError(), "no reason given"),
        (
            ModuleNotFoundError("No module named 'helper'", name="helper"),
            "pip install helper",
        ),
    ],
)
def test_unreachable(monkeypatch, error, message):
    features = {"sentence": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["negative", "positive"])}
    use(monkeypatch, Builder(features, {"train": []}, error))
    with pytest.raises(UserError, match=message) as caught:
        load_data("tfds:glue/sst2")
    assert "\n" not in str(caught.value)


def test_downloads_give_up_soon(monkeypatch, mnli, capsys):
    import requests

    waits = []
    monkeypatch.setattr(requests.Session, "send", lambda self, request, **options: waits.append(options["timeout"]))
    monkeypatch.setattr(
        mnli, "download_and_prepare", lambda: requests.Session().get("http://127.0.0.1:9/"), raising=False
    )
    load_data("tfds:glue/mnli")
    requests.Session().get("http://127.0.0.1:9/")
    assert waits[0] is not None and waits[0] <= 60 and waits[1] is None
    assert "tfds:glue/mnli" in capsys.readouterr().err


def test_broken_files(mnli):
    del mnli.rows["validation_matched"]
    with pytest.raises(UserError, match="tfds:glue/mnli"):
        load_data("tfds:glue/mnli")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glue/sst3", "glue/sst3.*'sst2'"),
        ("glue", "tfds:glue/"),
        ("imdb_review", "'imdb_review'.*'imdb_reviews'"),
        ("glue/sst2:99.0.0", r"tfds:glue/sst2:99\.0\.0"),
        ("", "''"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message) as caught:
        load_data(f"tfds:{name}")
    assert "\n" not in str(caught.value)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tfdistill\[tfds\]'"):
        tfds_source.load("glue/sst2")
