"""Reading shards: order, parts of batches, damage."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_corpora import TINY, TOKENIZER, made, write_text

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
