"""Augmented data as files with provenance, the same after an interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfdistill.augment.tang import augment_tang
from tfdistill.augment.write import Plan, augment_data, tang_plan
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError
from tfdistill.system.locks import lock_beside, locked

TEXTS = [f"the {name} text of a small corpus, number {i}" for i, name in enumerate(["first", "next", "last"] * 7)]
LABELS = np.arange(len(TEXTS)) % 2


def corpus(pair=False, labels=LABELS, names=("no", "yes"), **options) -> TextData:
    texts_b = [f"{text} again" for text in TEXTS] if pair else None
    train = Split(TEXTS, texts_b, labels, **options)
    return TextData("corpus", {"train": train, "dev": train.take(range(4)), "test": train.take([1, 2])}, names)


def plan(source: Split, copies: int = 3, rows: int = 5, seed: int = 7, **options) -> Plan:
    def make(part, first):
        return augment_tang(part.texts, part.texts_b, copies=copies, seed=seed, first=first, **options)

    return Plan("tang", copies, seed, make, options, rows)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files(tmp_path):
    data = corpus()
    report = augment_data(data, plan(data.splits["train"]), tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == [
        "dev.jsonl",
        "labels.txt",
        "provenance.json",
        "test.jsonl",
        "train.jsonl",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    rows = lines(tmp_path / "out" / "train.jsonl")
    whole = augment_tang(TEXTS, copies=3, seed=7)
    assert rows[0] == {
        "text": TEXTS[0], "label": "no", "source_row": 0, "copy": None, "method": "original", "seed": None
    }  # fmt: skip
    assert [row["text"] for row in rows] == TEXTS + whole.texts
    new = rows[len(TEXTS) :]
    assert [(row["source_row"], row["copy"]) for row in new] == list(zip(whole.source, whole.copy, strict=True))
    assert all(row["label"] == ("no", "yes")[row["source_row"] % 2] for row in rows)
    assert {(row["method"], row["seed"]) for row in new} == {("tang", 7)}
    assert lines(tmp_path / "out" / "dev.jsonl")[1] == {"text": TEXTS[1], "label": "yes"}
    assert report == json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))
    assert report["state"] == "done" and report["data"] == {"name": "corpus", "fingerprint": data.fingerprint}
    assert report["rows"] == len(rows) and report["copies_made"] == len(whole)
    assert report["copies_left_out"] == 3 * len(TEXTS) - len(whole)
    assert sorted(report["sha256"]) == ["dev.jsonl", "labels.txt", "test.jsonl", "train.jsonl"]


@pytest.mark.parametrize("file_format", ["jsonl", "tsv"])
@pytest.mark.parametrize("kind", ["single", "pair", "regression", "multilabel", "extra"])
def test_is_a_data_source(tmp_path, file_format, kind):
    data = {
        "single": corpus,
        "pair": lambda: corpus(pair=True),
        "regression": lambda: corpus(labels=np.linspace(-3, 3.3, len(TEXTS)).astype(np.float32), names=None),
        "multilabel": lambda: TextData(
            "corpus",
            corpus(labels=np.stack([LABELS, 1 - LABELS, LABELS * 0], axis=1).astype(np.float32)).splits,
            ("a", "b", "c"),
            multilabel=True,
        ),
        "extra": lambda: corpus(texts_extra=(TEXTS[::-1], TEXTS)),
    }[kind]()
    augment_data(data, plan(data.splits["train"]), tmp_path / "out", file_format=file_format)
    read = load_data(str(tmp_path / "out"), **({"task": "multilabel"} if kind == "multilabel" else {}))
    assert (read.task, read.label_names) == (data.task, data.label_names)
    for name in ("dev", "test"):
        assert read.splits[name].texts == data.splits[name].texts
        assert np.array_equal(read.splits[name].labels, data.splits[name].labels)
    train, source = read.splits["train"], data.splits["train"]
    made = augment_tang(source.texts, source.texts_b, copies=3, seed=7)
    every = np.concatenate([np.arange(len(source)), made.source])
    assert train.texts == source.texts + made.texts
    assert train.texts_b == (None if source.texts_b is None else source.texts_b + made.texts_b)
    assert np.array_equal(train.labels, source.labels[every])
    assert train.texts_extra == tuple([column[i] for i in every] for column in source.texts_extra)


def test_rows_without_a_label_stay_so(tmp_path):
    labels = LABELS.copy()
    labels[::4] = -1
    data = corpus(labels=labels)
    augment_data(data, plan(data.splits["train"]), tmp_path / "out")
    assert all(
        (row["label"] is None) == (row["source_row"] % 4 == 0) for row in lines(tmp_path / "out" / "train.jsonl")
    )


def test_other_splits_and_copies_alone(tmp_path):
    data = corpus(labels=None)
    augment_data(data, plan(data.splits["test"]), tmp_path / "out", split="test", only_copies=True)
    assert lines(tmp_path / "out" / "train.jsonl") == [{"text": text} for text in TEXTS]
    assert {row["method"] for row in lines(tmp_path / "out" / "test.jsonl")} == {"tang"}


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4])
def test_an_interrupted_run_goes_on_and_gives_the_same_files(tmp_path, stop_at):
    data = corpus(pair=True)
    augment_data(data, plan(data.splits["train"]), tmp_path / "whole")
    calls = []

    def stopped(part, first):
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(first)
        return plan(data.splits["train"]).make(part, first)

    broken = Plan("tang", 3, 7, stopped, {}, 5)
    with pytest.raises(KeyboardInterrupt):
        augment_data(data, broken, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))["state"] == "running"
    assert not (tmp_path / "out" / "train.jsonl").exists()
    again = []

    def counted(part, first):
        again.append(first)
        return plan(data.splits["train"]).make(part, first)

    augment_data(data, Plan("tang", 3, 7, counted, {}, 5), tmp_path / "out")
    assert calls + again == [0, 5, 10, 15, 20]  # nothing is made twice
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_duplicates_across_parts_are_left_out(tmp_path):
    texts = ["a b", "c", "a b", "a  b", "d"]
    data = TextData("corpus", {"train": Split(texts)}, None)
    augment_data(data, plan(data.splits["train"], copies=20, rows=1, p_mask=0.5), tmp_path / "out")
    rows = [row["text"] for row in lines(tmp_path / "out" / "train.jsonl")]
    assert rows[:5] == texts and len(set(rows[5:])) == len(rows[5:])
    assert rows[5:] == augment_tang(texts, copies=20, seed=7, p_mask=0.5).texts


def test_done_work_is_left_alone(tmp_path, monkeypatch):
    data = corpus()
    first = augment_data(data, plan(data.splits["train"]), tmp_path / "out")
    nothing = Plan("tang", 3, 7, None, {}, 5)  # It would fail if it were used.
    assert augment_data(data, nothing, tmp_path / "out") == first
    with pytest.raises(UserError, match=r"seed is 8.*7.*--force"):
        augment_data(data, plan(data.splits["train"], seed=8), tmp_path / "out")
    augment_data(data, plan(data.splits["train"], seed=8), tmp_path / "out", force=True)
    assert {row["seed"] for row in lines(tmp_path / "out" / "train.jsonl")} == {None, 8}
    (tmp_path / "out" / "dev.jsonl").write_text("changed")
    with pytest.raises(UserError, match="missing or changed"):
        augment_data(data, plan(data.splits["train"], seed=8), tmp_path / "out")


def test_a_directory_of_others_is_never_touched(tmp_path):
    data = corpus()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for force in (False, True):
        with pytest.raises(UserError, match="out"):
            augment_data(data, plan(data.splits["train"]), tmp_path / "out", force=force)
    assert contents(tmp_path / "out") == {"mine": b"x"}


def test_two_processes(tmp_path):
    data = corpus()
    with locked(lock_beside(tmp_path / "out"), "works"), pytest.raises(UserError, match="another process"):
        augment_data(data, plan(data.splits["train"]), tmp_path / "out")


def test_tsv_cannot_hold_line_ends(tmp_path):
    data = TextData("corpus", {"train": Split(["a b", "a\nb"])}, None)
    with pytest.raises(UserError, match=r"1 .*train.*--format jsonl"):
        augment_data(data, plan(data.splits["train"]), tmp_path / "out", file_format="tsv")
    assert not (tmp_path / "out").exists()


def test_tang_plan_exchanges_words_of_the_split(monkeypatch):
    monkeypatch.setattr("tfdistill.augment.write.load_tagger", lambda path: lambda words: ["T"] * len(words))
    source = Split(["alpha beta", "gamma delta"])
    made = tang_plan(source, copies=50, seed=1, p_mask=0.0, p_pos=0.5, p_ng=0.0)
    assert made.settings == {
        "p_mask": 0.0, "p_pos": 0.5, "p_ng": 0.0, "whole_words": True, "tagger": "textblob-aptagger 0.2.0"
    }  # fmt: skip
    words = {word for text in made.make(source, 0).texts for word in text.split()}
    assert words == {"alpha", "beta", "gamma", "delta"}
    with pytest.raises(UserError, match=r"p_mask=0\.7 and p_pos=0\.5"):
        tang_plan(source, copies=1, seed=1, p_mask=0.7, p_pos=0.5)
    with pytest.raises(UserError, match=r"p_ng=7"):
        tang_plan(source, copies=1, seed=1, p_ng=7)
