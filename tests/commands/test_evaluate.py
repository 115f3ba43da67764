"""Test `tfdistill evaluate`: scores, predictions and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.text_model import TextModel

pytestmark = pytest.mark.heavy

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


def test_a_table_of_scores(work, tfdistill):
    code, printed, err = tfdistill("evaluate", work / "teacher" / "student", "--data", work / "data")
    assert code == 0, err
    scores = json.loads((work / "teacher" / "run.json").read_text("utf-8"))["scores"]["test"]
    assert "accuracy" in printed and f"{scores['accuracy']:.1%}".replace("%", " %") in printed


def test_the_scores_of_the_data_come_first(tfdistill, tmp_path):
    model = load_directory(TINY, num_outputs=2, label_names=("not_equivalent", "equivalent"))
    save_directory(model, tmp_path / "model")
    rows = "".join(f"{n % 2}\t{n}\t{n}\ta b\t{'b' * (n + 1)}\n" for n in range(6))
    (tmp_path / "dev.tsv").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + rows, "utf-8")
    words = ["--data", f"glue:mrpc:{tmp_path}", "--split", "dev", "--json"]
    code, printed, err = tfdistill("evaluate", tmp_path / "model", *words)
    assert code == 0, err
    assert list(json.loads(printed))[4:6] == ["f1", "accuracy"]  # GLUE's for MRPC


def test_predictions_need_no_labels(work, tfdistill, tmp_path):
    student, data, file = work / "teacher" / "student", tmp_path / "data", tmp_path / "predictions.jsonl"
    data.mkdir()
    (data / "train.tsv").write_bytes((work / "data" / "train.tsv").read_bytes())
    (data / "unlabelled.txt").write_text("a b c\nd e f\n", "utf-8")
    words = ["evaluate", student, "--data", data, "--split", "unlabelled"]
    code, _, err = tfdistill(*words)
    assert code == 2 and "--predictions" in err and err.count("\n") == 1
    code, _, err = tfdistill(*words, "--predictions", file)
    assert code == 0, err
    assert len(file.read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    ("model", "more", "part"),
    [
        (None, ["--split", "tset"], "train, dev, test"),
        (None, ["--data", "nothing"], "nothing"),
        (None, ["--data", "demo:movie"], "movie-snippets"),
        ("nothing", [], "nothing"),
    ],
)
def test_mistakes_are_one_line(work, tfdistill, model, more, part):
    code, _, err = tfdistill("evaluate", model or work / "teacher" / "student", "--data", work / "data", *more)
    assert code == 2 and part in err and err.count("\n") == 1, err


def test_lower_casing_that_does_not_fit_the_vocabulary_is_said(work, tfdistill, tmp_path):
    for file in (work / "teacher" / "student").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    vocabulary = (tmp_path / "vocab.txt").read_text("utf-8")
    letters = re.sub(r"(?m)^[a-z]$", lambda match: match[0].upper(), vocabulary)
    (tmp_path / "vocab.txt").write_text(letters, "utf-8")
    code, _, err = tfdistill("evaluate", tmp_path, "--data", work / "data")
    assert code == 0 and "do_lower_case" in err, err


def test_texts_and_pairs_beyond_the_tables_of_a_model_are_one_line(tfdistill, tmp_path):
    model = load_directory(TINY, num_outputs=2, label_names=("no", "yes"))
    assert model.tokenizer is not None
    single = TextModel(
        replace(model.config, type_vocab_size=1, max_position_embeddings=8), 2, label_names=("no", "yes")
    )
    single.tokenizer = model.tokenizer
    save_directory(single, tmp_path / "model")
    (tmp_path / "long.tsv").write_text("text\tlabel\n" + "a b c d e f g h i j\tyes\nb\tno\n" * 6, "utf-8")
    (tmp_path / "pairs.tsv").write_text("text\ttext_b\tlabel\n" + "a\tb\tyes\nb\ta\tno\n" * 6, "utf-8")
    for data, part in (("long", "12 tokens"), ("pairs", "type_vocab_size")):
        words = ["--data", tmp_path / f"{data}.tsv", "--split", "train", "--max-length", 64]
        code, printed, err = tfdistill("evaluate", tmp_path / "model", *words)
        last = err.rstrip().splitlines()[-1]
        assert code == 2 and not printed and last.startswith("tfdistill: ") and part in last, err
