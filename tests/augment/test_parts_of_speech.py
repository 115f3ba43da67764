from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest

from tfdistill.augment import parts_of_speech as pos
from tfdistill.augment.parts_of_speech import PosTable, affixes, load_tagger, read_pickle
from tfdistill.cache import packages as registry
from tfdistill.errors import UserError

# A model by hand: what ends in "ing" is a VBG, "the" a DT, all else NN.
WEIGHTS = {"i suffix ing": {"VBG": 2.0}, "bias": {"NN": 1.0}}
TAGDICT = {"the": "DT"}
CLASSES = ["DT", "NN", "VBG"]
TAGS = {"the": "DT", "a": "DT", "good": "JJ", "bad": "JJ", "fine": "JJ", "film": "NN", "play": "NN", "n't": "RB"}


def by_list(words):
    return [TAGS.get(word, "." if not word[0].isalpha() else "NN") for word in words]


@pytest.fixture(params=["folder", "json", "json list", "pickle", "old pickle"])
def model_file(request, tmp_path):
    if request.param == "folder":
        for part, value in (("weights", WEIGHTS), ("tagdict", TAGDICT), ("classes", CLASSES)):
            (tmp_path / f"averaged_perceptron_tagger_eng.{part}.json").write_text(json.dumps(value))
        return tmp_path
    if "json" in request.param:
        whole = [WEIGHTS, TAGDICT, CLASSES]
        content = whole if "list" in request.param else {"weights": WEIGHTS, "tagdict": TAGDICT, "classes": CLASSES}
        (tmp_path / "tagger.json").write_text(json.dumps(content))
        return tmp_path / "tagger.json"
    protocol = 2 if "old" in request.param else 4  # as Python 2 wrote it: __builtin__.set
    (tmp_path / "tagger.pickle").write_bytes(pickle.dumps((WEIGHTS, TAGDICT, set(CLASSES)), protocol))
    return tmp_path / "tagger.pickle"


def test_a_model_of_the_users(model_file):
    pytest.importorskip("nltk")
    assert load_tagger(model_file)(["the", "running", "man"]) == ["DT", "VBG", "NN"]
    assert load_tagger(model_file)([]) == []


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    ("value", "asks"),
    [
        (Evil(), "system"),
        (np.zeros(2), "numpy"),
        (({"a": Evil()}, {}, set()), "system"),
        (eval, "eval"),
    ],
)
def test_a_pickle_is_never_run(tmp_path, monkeypatch, value, asks):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match=f"m.pickle.*{asks}"):
        read_pickle((tmp_path / "m.pickle").read_bytes(), tmp_path / "m.pickle")
    assert not (tmp_path / "pwned").exists()


def test_plain_pickles_are_read():
    value = {"a": [1, 2.5, ("b", None, True)], "c": {"d"}}
    assert read_pickle(pickle.dumps(value, 2), "x") == read_pickle(pickle.dumps(value, 5), "x") == value


def test_what_is_no_model(tmp_path):
    pytest.importorskip("nltk")
    with pytest.raises(UserError, match=r"none\.json"):
        load_tagger(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"weights\.json"):
        load_tagger(tmp_path)
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(UserError, match=r"t\.json"):
        load_tagger(tmp_path / "t.json")
    for content in ({}, [{}, {}, []], [{"a": {"NN": "1"}}, {}, ["NN"]], [{}, {"a": 1}, ["NN"]], [1, 2, 3], None):
        (tmp_path / "t.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"t\.json"):
            load_tagger(tmp_path / "t.json")
    (tmp_path / "t.pickle").write_bytes(b"\x80\x02garbage")
    with pytest.raises(UserError, match=r"t\.pickle"):
        load_tagger(tmp_path / "t.pickle")


def test_the_package(tmp_path, monkeypatch):
    pytest.importorskip("nltk")
    wheel = tmp_path / "wheel"
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.writestr("textblob_aptagger/trontagger-0.1.0.pickle", pickle.dumps((WEIGHTS, TAGDICT, set(CLASSES)), 2))
    asked = []
    monkeypatch.setattr(pos, "fetch_package", lambda *what: asked.append(what) or wheel)
    assert load_tagger()(["the", "thing"]) == ["DT", "VBG"]
    assert asked == [("textblob-aptagger", "0.2.0", pos.PACKAGE[2], "wheel")]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("film", ("", "film", "")),
        ("film,", ("", "film", ",")),
        ('"isn\'t,"', ('"', "is", "n't,\"")),
        ("viewer’s", ("", "viewer", "’s")),
        ("n't", ("", "n't", "")),
        ("'s", ("", "'s", "")),
        ("...", ("...", "", "")),
        ("well-made.", ("", "well-made", ".")),
        ("", ("", "", "")),
        ("it's", ("", "it", "'s")),
        ("élan!", ("", "élan", "!")),
    ],
)
def test_affixes(word, parts):
    assert affixes(word) == parts
    assert "".join(parts) == word


def test_table():
    sentences = []
    table = PosTable.build(
        ["the film isn't good.", "a bad film, a fine play !"], lambda words: sentences.append(words) or by_list(words)
    )
    assert sentences == [
        ["the", "film", "is", "n't", "good", "."],
        ["a", "bad", "film", ",", "a", "fine", "play", "!"],
    ]
    assert table.words == {
        "DT": ["a", "the"],
        "NN": ["film", "is", "play"],
        "JJ": ["bad", "fine", "good"],
    }
    assert table.shares["DT"].tolist() == pytest.approx([2 / 3, 1])
    assert table.shares["NN"].tolist() == pytest.approx([0.5, 0.75, 1])
    assert table.tags(["a", "bad", "film,", "a", "fine", "play", "!"]) == ["DT", "JJ", "NN", "DT", "JJ", "NN", ""]
    assert len(sentences) == 2  # known, not tagged again
    assert table.tags(["the", "film!"]) == ["DT", "NN"]


def test_draw_by_frequency_keeps_punctuation():
    table = PosTable.build(["the film isn't good.", "a bad film, a fine play !"], by_list)
    assert [table.draw('"film,', "NN", number) for number in (0, 0.49, 0.5, 0.74, 0.75, 0.999)] == [
        '"film,', '"film,', '"is,', '"is,', '"play,', '"play,'
    ]  # fmt: skip
    assert table.draw("the", "DT", 0.1) == "a"
    assert table.draw("film's", "NN", 0.9) == "play's"
    assert table.draw("!", "", 0.1) == "!"
    assert table.draw("quickly", "RB", 0.1) == "quickly"  # a tag that the training text does not have


def test_empty_text():
    table = PosTable.build(["", "  "], by_list)
    assert table.words == {} and table.tags([]) == []


@pytest.mark.heavy
@pytest.mark.network
def test_the_package_for_real(tmp_path, monkeypatch):
    pytest.importorskip("nltk")
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    tag = load_tagger()
    assert tag(["The", "film", "is", "not", "as", "good", "as", "the", "book", ",", "and", "it", "bored", "me", "."]) == [
        "DT", "NN", "VBZ", "RB", "RB", "JJ", "IN", "DT", "NN", ",", "CC", "PRP", "VBD", "PRP", ".",
    ]  # fmt: skip
    monkeypatch.setattr(registry.subprocess, "run", None)
    assert load_tagger()(["movies"]) == ["NNS"]
