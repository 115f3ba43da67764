"""Reading shards: order, parts of batches, damage."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_corpora import TINY, TOKENIZER, made, save_vocabulary, write_text

from tfdistill.cache import checksums as checked
from tfdistill.corpora.manifest import check
from tfdistill.corpora.masking import Masking
from tfdistill.corpora.shards import ShardedCorpus, read_text
from tfdistill.errors import UserError
from tfdistill.system.files import sha256
from tfdistill.text.tokenizer import Tokenizer


@pytest.mark.heavy
def test_every_sequence_comes_once_an_epoch_and_workers_share_the_batches(tmp_path, vocabulary):
    corpus = read_text(f"corpus:{made(tmp_path, vocabulary, write_text(tmp_path / 'a.txt'), 500)}", TOKENIZER)
    plain = corpus.examples(length=24)
    rows = {tuple(row) for row in plain.batch(np.arange(len(plain)))["student"]["token_ids"].tolist()}
    orders = [plain.rows_at(np.arange(len(plain)), seed=1, epoch=epoch) for epoch in range(2)]
    assert len(corpus.shards) > 16 and all(sorted(order) == list(range(len(plain))) for order in orders)
    assert (orders[0] != orders[1]).any()
    batches = list(plain.dataset(6, seed=1, epochs=2).as_numpy_iterator())
    seen = Counter(tuple(row) for batch in batches for row in batch["student"]["token_ids"].tolist())
    assert set(seen) == rows
    masked = corpus.examples(length=24, masking=Masking(), limit=40)
    whole = list(masked.dataset(6, seed=1, epochs=2).as_numpy_iterator())
    parts = [list(masked.dataset(6, seed=1, epochs=2, first_step=3, worker=(n, 2)).as_numpy_iterator()) for n in (0, 1)]
    for batch, *shared in zip(whole[3:], *parts, strict=True):
        for group, values in batch.items():
            for name, value in values.items():
                np.testing.assert_array_equal(value, np.concatenate([part[group][name] for part in shared]))
    with pytest.raises(UserError, match="vocabulary"):
        read_text(f"corpus:{corpus.directory}", Tokenizer.from_directory(TINY))
    with pytest.raises(UserError, match="megabytes"):
        read_text(f"corpus:{corpus.directory}", TOKENIZER, megabytes=1)


def test_a_damaged_shard_is_found(tmp_path, vocabulary):
    corpus = made(tmp_path, vocabulary, write_text(tmp_path / "a.txt"))
    ids = corpus / "shard-00002" / "train.ids"
    ids.write_bytes(ids.read_bytes()[:-2] + b"\x07\x00")
    with pytest.raises(UserError, match="damaged"):
        check(corpus)
    with pytest.raises(UserError, match=r"damaged"):
        made(tmp_path, vocabulary, tmp_path / "a.txt")  # the same command looks
    shutil.rmtree(corpus / "shard-00002")
    with pytest.raises(UserError, match="shard-00002"):
        ShardedCorpus(corpus, TOKENIZER)


def test_where_nothing_can_be_noted_all_is_compared_each_time(tmp_path, vocabulary, monkeypatch):
    corpus = made(tmp_path, vocabulary, write_text(tmp_path / "a.txt", 9))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    read: list[Path] = []
    monkeypatch.setattr(checked, "sha256", lambda path: read.append(path) or sha256(path))
    counts = [len(read) for _ in range(2) if ShardedCorpus(corpus, TOKENIZER)]
    assert 0 < 2 * counts[0] == counts[1]

    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checked, "sha256", broken)
    with pytest.raises(UserError, match="Input/output error"):
        ShardedCorpus(corpus, TOKENIZER)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 3}', "\x00"])
def test_a_damaged_manifest_is_one_line(tmp_path, vocabulary, content):
    corpus = made(tmp_path, vocabulary, write_text(tmp_path / "a.txt", 5))
    (corpus / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="manifest"):
        read_text(f"corpus:{corpus}", TOKENIZER)
    with pytest.raises(UserError, match="damaged"):
        made(tmp_path, vocabulary, tmp_path / "a.txt")


def sealed(corpus: Path) -> None:
    """Give the manifest the checksums of all files as they are."""
    path = corpus / "manifest.json"
    content = json.loads(path.read_text("utf-8"))
    content["sha256"] = {name: sha256(corpus / name) for name in content["sha256"] if (corpus / name).is_file()}
    path.write_text(json.dumps(content), "utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("corpus")
    return made(place, save_vocabulary(place / "vocabulary"), write_text(place / "a.txt", 12))


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.mark.parametrize(
    "changed",
    [
        {"shards": [1]},
        {"shards": {}},
        {"shards": []},
        {"shards": ["shard-00000", "shard-00000"]},
        {"shards": ["../../../../etc"]},
        {"shards": ["/etc"]},
        {"shards": [".."]},
        {"sha256": [1]},
        {"sha256": {}},
        {"sha256": {"shard-00000/train.ids": 1}},
        {"sha256": {"../x": "0" * 64}},
        {"totals": {}},
        {"totals": {"train_tokens": -1, "held_out_tokens": 0}},
        {"totals": {"train_tokens": "9", "held_out_tokens": 0}},
        {"totals": {"train_tokens": True, "held_out_tokens": 0}},
        {"settings": []},
        {"source": None},
        {"vocabulary": 3},
        {"versions": "1"},
    ],
    ids=str,
)
def test_types_and_ranges_of_the_manifest_are_checked(copied, changed):
    path = copied / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changed}), "utf-8")
    with pytest.raises(UserError, match=r"manifest\.json|another vocabulary") as caught:
        ShardedCorpus(copied, TOKENIZER)
    assert "\n" not in str(caught.value) and "elete" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a": ' * 100_000, b'{"shards": 1, "shards": 2}', b"\xff", b'{"a": NaN}']
)
def test_malformed_manifests_are_one_line(copied, content):
    (copied / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json") as caught:
        ShardedCorpus(copied, TOKENIZER)
    assert "\n" not in str(caught.value)


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})


def change_corpus_json(**changed: object):
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changed}), "utf-8")

    return change


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("counts.npy", huge),
        ("counts.npy", lambda path: np.save(path, np.zeros(3, np.int64))),
        ("counts.npy", lambda path: np.save(path, np.array([{}], object), allow_pickle=True)),
        ("counts.npy", lambda path: path.write_bytes(b"")),
        ("train.ids", lambda path: path.write_bytes(path.read_bytes()[:-2])),
        ("train.ids", lambda path: path.write_bytes(b"\xff" * path.stat().st_size)),
        ("train.ids", pipe),
        ("corpus.json", pipe),
        ("corpus.json", change_corpus_json(train_tokens=10**15)),
        ("corpus.json", change_corpus_json(train_tokens=-4)),
        ("corpus.json", change_corpus_json(train_tokens="9")),
        ("corpus.json", change_corpus_json(dtype="O")),
        ("corpus.json", change_corpus_json(dtype=["<u2"])),
        ("corpus.json", change_corpus_json(source=3)),
    ],
)  # fmt: skip
def test_a_corpus_whose_files_do_not_fit_is_refused_when_it_opens(copied, name, change):
    change(copied / "shard-00000" / name)
    sealed(copied)
    with pytest.raises(UserError) as caught:
        ShardedCorpus(copied, TOKENIZER)
    assert "shard-00000" in str(caught.value) and "\n" not in str(caught.value)


def test_places_of_sentences_that_do_not_fit_are_refused(copied):
    path = copied / "shard-00000" / "train.sentences.npy"
    np.save(path, np.load(path)[::-1])
    sealed(copied)
    with pytest.raises(UserError, match="shard-00000"):
        ShardedCorpus(copied, TOKENIZER).examples(length=24)
