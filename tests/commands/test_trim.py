"""Test `tfdistill trim`: fewer tokens, the same answers."""

from __future__ import annotations

import json
import shutil

import pytest

from tfdistill.models.bert_config import BertConfig
from tfdistill.models.hf import save_directory
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.models.training_record import max_length_of
from tfdistill.text.tokenizer import Tokenizer

WORDS = ["bad", "cab", "dead"]
CHARACTERS = [*"abcde", *(f"##{character}" for character in "abcde")]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *CHARACTERS, *WORDS, "face", "##ade"]


@pytest.fixture
def work(tmp_path):
    """Write a model of two classes and data with few of its tokens; test has a word that train does not have."""
    model = TextModel(BertConfig(len(VOCABULARY), 8, 2, 2, 16, 16, initializer_range=0.3), 2, label_names=("no", "yes"))
    model.tokenizer = Tokenizer(VOCABULARY)
    save_directory(model, tmp_path / "model", recipe={"max_length": 16})
    (tmp_path / "data").mkdir()
    for name, own in (("train", WORDS[:2]), ("dev", WORDS[:2]), ("test", WORDS)):
        rows = "".join(f"{word} a b\t{label}\n" for word in own for label in ("no", "yes"))
        (tmp_path / "data" / f"{name}.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
    return tmp_path


@pytest.mark.heavy
def test_fewer_tokens_and_the_same_answers(work, tfdistill):
    out = work / "small"
    code, printed, err = tfdistill("trim", work / "model", "--data", work / "data", "--out", out)
    assert code == 0, err
    report = json.loads((out / "recipe.json").read_text("utf-8"))
    before, small = load(work / "model"), load(out)
    assert report["max_length"] == 16
    pieces = report["trimmed"]["pieces"]
    assert pieces == [len(before.tokenizer.vocabulary), len(small.tokenizer.vocabulary)] and pieces[1] < pieces[0]
    assert f"{pieces[1]} of {pieces[0]} tokens stay" in printed
    assert report["trimmed"]["parameters"] == [before.count_params(), small.count_params()]
    dev, test = report["trimmed"]["splits"]["dev"], report["trimmed"]["splits"]["test"]
    assert dev["resegmented"] == 0 and dev["same_pieces"] == 1 and dev["max_difference"] < 1e-5
    assert dev["scores"][0]["accuracy"] == dev["scores"][1]["accuracy"]
    assert (
        test["resegmented"] == pytest.approx(1 / 9) and test["unknown"] == 0
    )  # one word of three in a third of the texts

    text = work / "more.txt"
    text.write_text((work / "data" / "test.tsv").read_text("utf-8").replace("\t", " "), "utf-8")
    more = ["--text", text, "--embedding-size", "3", "--force"]
    code, printed, err = tfdistill("trim", work / "model", "--data", work / "data", "--out", out, *more)
    assert code == 0, err
    assert "the token table lost" in printed
    again = json.loads((out / "recipe.json").read_text("utf-8"))["trimmed"]
    assert again["splits"]["test"]["resegmented"] == 0 and again["pieces"][1] > pieces[1]
    assert load(out).config.embedding_size == 3


@pytest.mark.heavy
def test_mistakes_are_one_line(work, tfdistill):
    data = work / "data"
    shutil.copytree(data, work / "three")
    with open(work / "three" / "train.tsv", "a", encoding="utf-8") as file:
        file.write("a\tperhaps\n")
    for words, part in (
        (["--data", data, "--out", work / "model"], str(work / "model")),
        (["--data", work / "three", "--out", work / "s"], "perhaps"),
        (["--data", data, "--out", work / "s", "--embedding-size", "99"], "99"),
        (["--data", data, "--out", work / "s", "--text", work / "none.txt"], "none.txt"),
    ):
        code, _, err = tfdistill("trim", work / "model", *words)
        assert code == 2 and part in err and len(err.strip().splitlines()) == 1, (words, err)
        assert not (work / "s").exists()


@pytest.mark.parametrize("content", ["[1]", "null", "{", '{"max_length": "long"}'])
def test_a_damaged_recipe_is_as_none(tmp_path, content):
    (tmp_path / "recipe.json").write_text(content, "utf-8")
    assert max_length_of(str(tmp_path)) == 64
