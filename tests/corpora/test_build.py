"""The steps: shards hold the text of the plain corpus, wherever it is cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_corpora import TOKENIZER, made, write_text

from tfdistill.corpora import build
from tfdistill.corpora import work as work_module
from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.manifest import check
from tfdistill.corpora.plain_text import documents, sentences
from tfdistill.corpora.shards import ShardedCorpus
from tfdistill.corpora.work import STEPS, Work, begin, spans_of
from tfdistill.corpora.workers import make_corpus
from tfdistill.errors import UserError


def stored_sentences(corpus, part: str) -> list[tuple[int, ...]]:
    found = []
    for shard in getattr(corpus, "shards", [corpus]):
        stored = shard.part(part)
        for start, end in zip(stored.sentences[:-1], stored.sentences[1:], strict=True):
            row = stored.ids[start:end].tolist()
            found.append(tuple(row[:-1] if row[-1] == TOKENIZER.sep_id else row))
    return found


@pytest.mark.parametrize("size", [400, 3000, 10**6])
def test_the_shards_are_the_plain_corpus(tmp_path, vocabulary, size):
    text = write_text(tmp_path / "a.txt")
    corpus = ShardedCorpus(made(tmp_path, vocabulary, text, size), TOKENIZER)
    plain = PlainText(str(text), held_out=0.1).prepare(TOKENIZER)
    for part in ("train", "held_out"):
        assert stored_sentences(corpus, part) == stored_sentences(plain, part)
        assert corpus.tokens(part) == plain.tokens(part)
    np.testing.assert_array_equal(corpus.counts, plain.counts)
    assert corpus.about["repeated_sentences"] == plain.about["repeated_sentences"] > 10
    assert (len(corpus.shards) > 20) == (size == 400)
    check(corpus.directory)


@pytest.mark.heavy
def test_sentences_repeated_in_other_files_are_left_out_whatever_the_ranges(tmp_path, vocabulary, monkeypatch):
    (tmp_path / "text").mkdir()
    for name in ("a", "b", "c"):
        write_text(tmp_path / "text" / f"{name}.txt", seed=0 if name == "c" else ord(name))
    monkeypatch.setattr(work_module, "SPANS_TOGETHER", 2)
    corpus = ShardedCorpus(made(tmp_path, vocabulary, tmp_path / "text", 1000), TOKENIZER)
    plain = PlainText(str(tmp_path / "text"), held_out=0.1).prepare(TOKENIZER)
    assert stored_sentences(corpus, "train") == stored_sentences(plain, "train")
    every = [s for file in "abc" for d in documents(tmp_path / "text" / f"{file}.txt") for s in sentences(d)]
    assert corpus.about["repeated_sentences"] == len(every) - len(set(every))


@pytest.mark.parametrize(
    ("step", "content"),
    [("hashes", b""), ("hashes", b"\x93NUMPY\x01"), ("repeats", b""), ("shards", b"{"), ("shards", b"{}")],
)
def test_damaged_work_is_made_again(tmp_path, vocabulary, step, content):
    text = write_text(tmp_path / "a.txt")
    work = Work(str(tmp_path / "corpus"), vocabulary, spans_of(str(text), 1500), held_out=0.1)
    assert not begin(work)
    for each in STEPS:
        for part in range(work.parts(each)):
            build.run_part(work.as_text(), each, part)
    whole = made(tmp_path, vocabulary, text, out="other")
    after = {"hashes": ("repeats", "shards"), "repeats": ("shards",), "shards": ()}[step]
    for each in after:
        for part in range(work.parts(each)):
            Path(work.done(each, part)).unlink()
    Path(work.done(step, 0)).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        make_corpus(work, str(text))
    make_corpus(work, str(text))
    sums = [json.loads((place / "manifest.json").read_text())["sha256"] for place in (tmp_path / "corpus", whole)]
    assert sums[0] == sums[1]
