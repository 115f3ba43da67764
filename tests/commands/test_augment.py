"""`tfdistill augment`: both methods from the command line, and one line for every mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfdistill.augment.tang import augment_tang
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.load import save
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.word_candidates import fill_mask, finder, load_masked_lm

TEXTS = [f"the {name} text of a small corpus, number {i}" for i, name in enumerate(["first", "next", "last"] * 7)]


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    for name, rows in (("train", TEXTS), ("dev", TEXTS[:4])):
        cells = "".join(f"{text}\t{'yes' if i % 2 else 'no'}\n" for i, text in enumerate(rows))
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + cells, "utf-8")
    return tmp_path / "data"


def test_command_tang(tfdistill, folder, tmp_path):
    words = ["augment", "--data", folder, "--copies", 2, "--p-pos", 0, "--ngram", 2, 3, "--format", "tsv", "--seed", 4]
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 0 and "new" in error, error
    read = load_data(str(tmp_path / "out"))
    assert read.splits["train"].texts == TEXTS + augment_tang(TEXTS, copies=2, seed=4, ngram=(2, 3)).texts
    assert json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))["settings"] == {
        "p_mask": 0.1, "p_pos": 0.0, "p_ng": 0.25, "ngram": [2, 3], "whole_words": True
    }  # fmt: skip
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 0 and "nothing to do" in error


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory):
    """A tiny model with a masked-language-model head over letters."""

    words = sorted({word.strip(",") for text in TEXTS for word in text.split()} - {"corpus"} | {"cor", "##pus"})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *words]
    config = BertConfig(len(vocabulary), 8, 1, 2, 16, 64, initializer_range=0.5)
    for task in ("masked_lm", "classification"):
        model = TextModel(config, task=task)
        model.tokenizer = Tokenizer(vocabulary)
        save(model, tmp_path_factory.getbasetemp() / f"tiny_{task}")
    return tmp_path_factory.getbasetemp()


@pytest.mark.heavy
def test_command_tinybert(tfdistill, folder, tmp_path, masked_lm):
    (tmp_path / "glove.txt").write_text("corpus 1 0\nbody 1 0.1\ntext 0 1\n")
    words = [
        "augment",
        "--data",
        folder,
        "--method",
        "tinybert",
        "--copies",
        3,
        "--candidates",
        2,
        "--glove",
        tmp_path / "glove.txt",
    ]
    code, _, error = tfdistill(*words, "--teacher", masked_lm / "tiny_masked_lm", "--out", tmp_path / "out")
    assert code == 0 and "new" in error, error
    rows = lines(tmp_path / "out" / "train.jsonl")
    new = [row for row in rows if row["method"] == "tinybert"]
    assert len(new) > 20
    for row in new:  # stop words, comma and number stay; corpus has its neighbours in GloVe
        made, source = row["text"].split(), TEXTS[row["source_row"]].split()
        assert [a for a, b in zip(made, source, strict=True) if b in ("the", "of", "a", "number")][:1] == ["the"]
        assert made[6] in ("corpus,", "body,", "text,") and made[-1] == source[-1]
    assert any(row["text"].split()[6] == "body," for row in new)
    stopped = tfdistill(*words, "--teacher", masked_lm / "tiny_masked_lm", "--out", tmp_path / "again")
    assert stopped[0] == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "none"], "--method none"),
        (["--format", "csv"], "--format csv"),
        (["--method", "tinybert"], "--teacher DIR"),
        (["--split", "none", "--p-pos", "0"], "--split none"),
        (["--p-mask", "2", "--p-pos", "0"], "--p-mask"),
        (["--ngram", "3", "2", "--p-pos", "0"], "ngram=(3, 2)"),
        (["--tagger", "/nowhere/tagger.json"], "/nowhere/tagger.json"),
        (["--minutes", "1", "--steps", "2"], "--steps"),
    ],
)
def test_mistakes(tfdistill, folder, tmp_path, words, message):
    code, _, error = tfdistill("augment", "--data", folder, "--out", tmp_path / "out", *words)
    errors = [line for line in error.splitlines() if line.startswith("tfdistill:")]  # other lines are about the data
    assert code == 2 and message in errors[0] and len(errors) == 1 and "Traceback" not in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.heavy
def test_a_teacher_without_a_head_gets_one_of_the_tasks_text(tfdistill, folder, tmp_path, masked_lm, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    words = ["augment", "--data", folder, "--method", "tinybert", "--teacher", masked_lm / "tiny_classification"]
    words += ["--glove", "none", "--copies", 2, "--candidates", 2, "--steps", 3]
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 0 and "is trained" in error, error
    (run,) = (tmp_path / "cache" / "masked-lm").glob("*/run")
    assert json.loads((run / "run.json").read_text("utf-8"))["steps"] == 3
    code, _, error = tfdistill(*words, "--out", tmp_path / "again")  # not trained twice
    assert code == 0 and "is trained" not in error and "new" in error
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    trained = tfdistill(*words[:-2], "--masked-lm", run, "--out", tmp_path / "other")
    assert trained[0] == 0
    ours, theirs = (json.loads((tmp_path / name / "provenance.json").read_text("utf-8")) for name in ("out", "other"))
    assert ours["settings"]["mlm"] == theirs["settings"]["mlm"]


def test_an_mlm_that_is_none_is_refused(tfdistill, folder, tmp_path, masked_lm):
    words = ["augment", "--data", folder, "--method", "tinybert", "--masked-lm", masked_lm / "tiny_classification"]
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 2 and "--masked-lm" in error
    assert error.count("tfdistill:") == 1


@pytest.mark.heavy
def test_the_model_itself_answers(masked_lm):
    """Top ids of `fill_mask` are those of the model's own logits."""

    model = load_masked_lm(masked_lm / "tiny_masked_lm")
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 10, 6)
    mask = (np.arange(10) < lengths[:, None]).astype(np.int32)
    inputs = {
        "token_ids": rng.integers(5, model.config.vocab_size, (6, 10)).astype(np.int32) * mask,
        "padding_mask": mask,
        "segment_ids": mask * 0,
    }
    positions = (lengths - 1)[:, None].astype(np.int32)
    logits = model(inputs, training=False).numpy()[np.arange(6), positions[:, 0]]
    best = fill_mask(model)({**inputs, "masked_positions": positions}, 5)
    assert best.tolist() == np.argsort(-logits, axis=1)[:, :5].tolist()
    assert fill_mask(model)({**inputs, "masked_positions": positions}, 999).shape == (6, model.config.vocab_size)
    assert finder(model).max_length == 64
    classifier = type(model)(model.config)
    with pytest.raises(UserError, match="classification"):
        fill_mask(classifier)
