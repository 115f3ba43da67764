"""Do one part of a step of `tfdistill corpus`.

    1. hashes    each span of text -> the hash of each sentence (of each example, with `rows`), sorted
    2. repeats   each range of hashes, over all spans -> the sentences that occurred before
    3. shards    each span -> a shard: cleaned, without repeats, tokenized; with `rows` also augmented
                 and labelled by a teacher

Steps share data only through files, so that memory depends on the size of a span, not of the text.
A part that is complete is not made again. The first of equal sentences, in the order of the files,
stays, so that the shards do not depend on the number of machines.
"""

from __future__ import annotations

import hashlib
import io
import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tfdistill.augment.tang import augment_tang
from tfdistill.corpora import storage
from tfdistill.corpora.parts import Part
from tfdistill.corpora.plain_text import SHORT, clean, documents, sentences, text_number
from tfdistill.corpora.work import Work, readable, shard_name, teacher_of, tokenizer_of
from tfdistill.corpora.writer import CorpusWriter, is_held_out
from tfdistill.models.predict import predict_logits
from tfdistill.system.leftovers import temporary_directory

_ORDER_BITS = 32  # of a sentence's number in its span
_TEXTS_TOGETHER = 2048  # Examples that are tokenized, augmented and labelled together.


def run_part(work_text: str, step: str, part: int) -> None:
    """Do one part of a step, unless it is done.

    Args:
        work_text: `Work.as_text()`.
        step: one of `STEPS`.
        part: the number of the part.

    Raises:
        UserError: the text or a file of an earlier step cannot be read.
    """
    work = Work.from_text(work_text)
    if not work.is_done(step, part):
        {"hashes": _hashes, "repeats": _repeats, "shards": _shard}[step](work, part)


# --- repeated sentences ---------------------------------------------------------------------------------------------


def _documents(work: Work, part: int) -> Iterator[tuple[str, list[str]]]:
    """Yield each document of a span with its sentences; with `rows` a document is one sentence."""
    for document in documents(work.spans[part]):
        text = clean(document, work.least_characters, work.least_letters)
        if text:
            yield text, [text] if work.rows else sentences(text)


def _hashes(work: Work, part: int) -> None:
    """Write (n, 2) uint64, sorted: hash and number of each sentence that must not repeat."""
    values = array("Q")
    number = part << _ORDER_BITS
    for _, some in _documents(work, part):
        for sentence in some:
            if work.rows or len(sentence) >= SHORT:
                values.append(text_number(sentence))
                values.append(number)
            number += 1
    rows = np.frombuffer(values, np.uint64).reshape(-1, 2) if values else np.zeros((0, 2), np.uint64)
    _save(work.done("hashes", part), rows[np.lexsort((rows[:, 1], rows[:, 0]))])


def _repeats(work: Work, part: int) -> None:
    """Write (n,) uint64, sorted: the numbers of repeated sentences, for one range of hashes."""
    size = (1 << 64) / work.ranges
    low, high = int(part * size), int((part + 1) * size) if part + 1 < work.ranges else 1 << 64
    rows = np.concatenate([_slice(work.done("hashes", n), low, high) for n in range(len(work.spans))])
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    again = np.append(False, rows[1:, 0] == rows[:-1, 0]) if len(rows) else np.zeros(0, bool)
    _save(work.done("repeats", part), np.sort(rows[again, 1]))


def _repeated(work: Work, part: int) -> set[int]:
    """Return the numbers, within the span, of the repeated sentences."""
    low, high = part << _ORDER_BITS, (part + 1) << _ORDER_BITS
    numbers = np.concatenate([_slice(work.done("repeats", n), low, high) for n in range(work.ranges)])
    return set((numbers - np.uint64(low)).tolist())


def _slice(path: str, low: int, high: int) -> np.ndarray:
    """Return the rows of a sorted file whose first value is in [low, high)."""
    with readable(path):
        rows = np.load(io.BytesIO(storage.get(path))) if "://" in path else np.load(path, mmap_mode="r")
    keys = rows if rows.ndim == 1 else rows[:, 0]
    ends = [len(keys) if value >= 1 << 64 else int(np.searchsorted(keys, np.uint64(value))) for value in (low, high)]
    return np.array(rows[ends[0] : ends[1]])


def _save(path: str, values: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, values)
    storage.put(path, stream.getvalue())


# --- shards ---------------------------------------------------------------------------------------------------------


def _shard(work: Work, part: int) -> None:
    repeated = _repeated(work, part)
    with temporary_directory("corpus") as place:
        writer = CorpusWriter(Path(place), tokenizer_of(work.tokenizer))
        kept = _kept(work, part, repeated, writer)
        if work.rows:
            _write_examples(work, part, kept, writer)
        else:
            for name, some in kept:
                writer.add(name, some)
        writer.close(source=work.spans[part].path)
        sums, about = {}, b""
        for file in sorted(Path(place).iterdir()):
            path, content = f"{shard_name(part)}/{file.name}", file.read_bytes()
            storage.put(storage.join(work.out, path), content)
            sums[path] = hashlib.sha256(content).hexdigest()
            about = content if file.name == "corpus.json" else about
    # This file is last, so that its shard is complete. The manifest needs only this file, not the shard.
    storage.put(work.done("shards", part), json.dumps({"about": json.loads(about), "sha256": sums}).encode())


def _kept(work: Work, part: int, repeated: set[int], writer: CorpusWriter) -> Iterator[tuple[Part, list[str]]]:
    """Yield each document as its sentences that do not repeat."""
    number = 0
    for document, some in _documents(work, part):
        kept = [sentence for place, sentence in enumerate(some, number) if place not in repeated]
        number += len(some)
        writer.count(document, len(some), len(some) - len(kept))
        yield "held_out" if is_held_out(document, work.held_out, work.seed) else "train", kept


def _write_examples(work: Work, part: int, kept: Iterable[tuple[Part, list[str]]], writer: CorpusWriter) -> None:
    """Write examples, augmented copies of the training examples, and the teacher's logits of all."""
    waiting: dict[Part, list[str]] = {"train": [], "held_out": []}
    first = part << _ORDER_BITS

    def flush(name: Part) -> None:
        nonlocal first
        some = waiting[name]
        if name == "train" and work.copies:
            new = augment_tang(some, copies=work.copies, seed=work.seed, first=first).texts
            first += len(some)
            some = [*some, *new]
        writer.add_texts(name, some, work.max_length)
        if work.teacher is not None:
            teacher = teacher_of(work.teacher)
            encoded = teacher.tokenizer.encode(some, max_length=work.max_length)
            writer.add_logits(name, predict_logits(teacher, encoded))
        waiting[name] = []

    for name, some in kept:
        waiting[name] += some
        if len(waiting[name]) >= _TEXTS_TOGETHER:
            flush(name)
    for name in waiting:
        if waiting[name]:
            flush(name)
