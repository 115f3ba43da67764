"""The work of `tfdistill corpus`, in steps over parts of the text that know nothing of each other but through files.

    1. hashes    each span of text -> the hash of each of its sentences (of its texts, with `rows`), sorted
    2. repeats   each range of hashes, over all spans -> the sentences that stand somewhere before
    3. shards    each span -> a shard: cleaned, without repeats, tokenized; with `rows` also augmented and labelled by a teacher

What goes through Beam is the number of a part; data goes from step to step in files, so that memory depends on the size of a span
and not of the text, whatever runs the steps. What a step has written whole is not made again. The first of several like
sentences, in the order of the files, is the one that stays: the same shards on one machine and on a hundred.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.augment.tang import augment_tang
from tfdistill.corpora import storage
from tfdistill.corpora.parts import Part
from tfdistill.corpora.plain_text import (
    SHORT,
    SUFFIXES,
    Span,
    clean,
    documents,
    sentences,
    spans,
    text_files,
    text_number,
)
from tfdistill.corpora.shards import MANIFEST
from tfdistill.corpora.writer import CorpusWriter, is_held_out
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.load import load
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import sha256
from tfdistill.system.reproducibility import versions
from tfdistill.text.tokenizer import Tokenizer

STEPS = ("hashes", "repeats", "shards")
_PLAN, _FAILED = "work/plan.json", "work/failed.txt"
_ORDER_BITS = 32  # of a sentence's number in its span
_SPANS_TOGETHER = 16  # as many spans' hashes are held in memory together
_TEXTS_TOGETHER = 2048  # rows that are tokenized, augmented and read by the teacher together


@dataclass(frozen=True)
class Work:
    """All that a step needs to know; goes to the workers as text.

    Args:
        out: directory of the corpus, of a file system that all workers reach.
        tokenizer: directory of the vocabulary.
        spans: what each shard is made of.
        rows: each document is a text by itself, in place of running text.
        max_length: with `rows`, word pieces of a text.
        copies: with `rows`, augmented texts of each text (Tang et al. 2019, without parts of speech).
        teacher: with `rows`, the directory of the model whose logits are written beside the texts.
    """

    out: str
    tokenizer: str
    spans: tuple[Span, ...]
    held_out: float = 0.02
    seed: int = 0
    rows: bool = False
    max_length: int = 64
    copies: int = 0
    teacher: str | None = None
    least_characters: int = 20
    least_letters: float = 0.5

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Work:
        said = json.loads(text)
        spans = tuple(Span(**span) for span in said.pop("spans"))
        return cls(**said, spans=spans)

    @property
    def ranges(self) -> int:
        """Parts of the space of hashes, each compared by itself."""
        return -(-len(self.spans) // _SPANS_TOGETHER)

    def parts(self, step: str) -> int:
        return self.ranges if step == "repeats" else len(self.spans)

    def done(self, step: str, part: int) -> str:
        """The file that is written when a part is whole."""
        return storage.join(self.out, "work", f"{step}-{part:05}.{'json' if step == 'shards' else 'npy'}")


def spans_of(source: str, size: int) -> tuple[Span, ...]:
    """The parts of a text, of some `size` bytes each. Raises UserError where there is no text."""
    if "://" in source:
        inside = [storage.join(where, name) for where, _, names in tf.io.gfile.walk(source) for name in names]
        files = sorted(name for name in inside or [source] if name.endswith(SUFFIXES))
        if not files:
            raise UserError(f"no .txt or .txt.gz files at {source}; expected a file or a directory of them")
    else:
        files = [str(path.absolute()) for path in text_files(source)]
    return tuple(span for file in files for span in spans(file, size))


def begin(work: Work) -> bool:
    """Take a place for the corpus; whether all of it is there already. Raises UserError for a place where another thing is."""
    settings = _settings(work)
    for name in (MANIFEST, _PLAN):
        if storage.exists(storage.join(work.out, name)):
            theirs = _settings_there(work, name)
            other = [key for key in settings if settings[key] != theirs.get(key)]
            if other:
                raise UserError(
                    f"{work.out} has another corpus, with other {', '.join(other)}; expected the same command, or another --out"
                )
            if failure(work) is not None:
                tf.io.gfile.remove(storage.join(work.out, _FAILED))
            return name == MANIFEST
    if not _is_free(work.out):
        raise UserError(f"{work.out} is not empty; expected a new name or a corpus, choose another --out")
    storage.put(storage.join(work.out, _PLAN), json.dumps({"settings": settings}).encode())
    return False


def _is_free(out: str) -> bool:
    """Whether nothing is there but what a process leaves that was killed before it had the plan."""
    if not storage.exists(out):
        return True
    there = {name.rstrip("/") for name in tf.io.gfile.listdir(out)} - {".lock"}
    return not there or (
        there == {"work"}
        and all(name.endswith(storage.PART) for name in tf.io.gfile.listdir(storage.join(out, "work")))
    )


def _settings(work: Work) -> dict[str, Any]:
    """What decides about the content. Of each file also what is in it: one that was edited is another text."""
    said = {key: value for key, value in json.loads(work.as_text()).items() if key not in ("out", "spans", "tokenizer")}
    files = sorted({span.path for span in work.spans})
    teacher = None if work.teacher is None else identity(model_of(work.teacher))
    return {
        **said,
        "vocabulary": _tokenizer(work.tokenizer).fingerprint,
        "teacher": teacher,
        "files": [[name, *_content(name)] for name in files],
        "shards": [len(work.spans), _cuts(work)],
    }


def _cuts(work: Work) -> str:
    """Where the text is cut into shards: steps number sentences by it."""
    said = json.dumps([asdict(span) for span in work.spans])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _content(path: str) -> list[Any]:
    """Bytes and SHA-256 of a file; of other file systems, from which it would be fetched for that, bytes and time of change in ns.

    Raises UserError where it cannot be read.
    """
    try:
        status = tf.io.gfile.stat(path)
        return [status.length, status.mtime_nsec if "://" in path else sha256(path)]
    except storage.FAILURES as error:
        raise UserError(
            f"cannot read {path}: {storage.why(error)}; expected text that stays while a corpus is made of it"
        ) from error


def _settings_there(work: Work, name: str) -> dict[str, Any]:
    """Those of the plan or manifest in the place. Raises UserError for a damaged one."""
    try:
        return dict(json.loads(storage.get(storage.join(work.out, name)))["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{work.out} is damaged ({name}: {error}); delete it and make it again") from error


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """For reading what a step wrote. A damaged file is removed, so that the same command makes it again; UserError says so."""
    try:
        yield
    except (ValueError, EOFError, KeyError, TypeError) as error:
        tf.io.gfile.remove(path)
        raise UserError(
            f"{path} was damaged and is removed; run the same command again, which makes it again"
        ) from error


def is_done(work: Work, step: str, part: int) -> bool:
    return storage.exists(work.done(step, part))


def note_failure(work: Work, message: str) -> None:
    """The first one stays: others may come of it."""
    if failure(work) is None:
        storage.put(storage.join(work.out, _FAILED), message.encode())


def failure(work: Work) -> str | None:
    """What a worker said that could not go on."""
    path = storage.join(work.out, _FAILED)
    return storage.get(path).decode() if storage.exists(path) else None


def finish(work: Work, source: str) -> dict[str, Any]:
    """Write the manifest over all shards and remove what only the steps needed. Raises UserError for a text with nothing in it."""
    path = storage.join(work.out, MANIFEST)
    if storage.exists(path):
        _remove_work(work)
        return dict(json.loads(storage.get(path)))
    totals: Counter[str] = Counter()
    sums: dict[str, str] = {}
    names = [_shard_name(part) for part in range(len(work.spans))]
    for part in range(len(work.spans)):
        with _readable(work.done("shards", part)):
            done = json.loads(storage.get(work.done("shards", part)))
            totals.update({key: value for key, value in done["about"].items() if isinstance(value, int)})
            sums |= done["sha256"]
    if not totals["train_tokens"]:
        raise UserError(
            f"{source} has no text to train on; expected sentences in UTF-8, or lower --least-characters and --least-letters"
        )
    settings = _settings_there(work, _PLAN)
    said = {
        "source": source,
        "settings": settings,
        "vocabulary": settings["vocabulary"],
        "versions": versions(),
        "totals": dict(totals),
        "shards": names,
        "sha256": sums,
    }
    for place in (work.out, *(storage.join(work.out, name) for name in names)):
        storage.sweep(place)
    storage.put(path, (json.dumps(said, indent=1) + "\n").encode())
    _remove_work(work)
    return said


def _remove_work(work: Work) -> None:
    """What only the steps needed. A process that is killed after the manifest leaves it to the next."""
    place = storage.join(work.out, "work")
    if storage.exists(place):
        tf.io.gfile.rmtree(place)


def run_part(said: str, step: str, part: int) -> None:
    """Do one part of a step, if it is not done. `said` is `Work.as_text()`. Raises UserError for text that cannot be read."""
    work = _work(said)
    if not is_done(work, step, part):
        {"hashes": _hashes, "repeats": _repeats, "shards": _shard}[step](work, part)


@lru_cache(maxsize=1)
def _work(said: str) -> Work:
    return Work.from_text(said)


# --- repeated sentences ---------------------------------------------------------------------------------------------


def _pieces(work: Work, part: int) -> Iterator[tuple[str, list[str]]]:
    """(document, its sentences) of a span; with `rows` a document is one."""
    for document in documents(work.spans[part]):
        text = clean(document, work.least_characters, work.least_letters)
        if text:
            yield text, [text] if work.rows else sentences(text)


def _counts(work: Work, sentence: str) -> bool:
    """Whether a sentence may stand in the corpus only once."""
    return work.rows or len(sentence) >= SHORT


def _hashes(work: Work, part: int) -> None:
    """(n, 2) uint64, sorted: hash and number of each sentence that may stand only once; the upper half of a number is the span's."""
    found = array("Q")
    number = part << _ORDER_BITS
    for _, some in _pieces(work, part):
        for sentence in some:
            if _counts(work, sentence):
                found.append(text_number(sentence))
                found.append(number)
            number += 1
    rows = np.frombuffer(found, np.uint64).reshape(-1, 2) if found else np.zeros((0, 2), np.uint64)
    _save(work.done("hashes", part), rows[np.lexsort((rows[:, 1], rows[:, 0]))])


def _repeats(work: Work, part: int) -> None:
    """(n,) uint64, sorted: the numbers of the sentences that stand somewhere before, of one range of hashes."""
    size = (1 << 64) / work.ranges
    low, high = int(part * size), int((part + 1) * size) if part + 1 < work.ranges else 1 << 64
    rows = np.concatenate([_slice(work.done("hashes", n), low, high) for n in range(len(work.spans))])
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    again = np.append(False, rows[1:, 0] == rows[:-1, 0]) if len(rows) else np.zeros(0, bool)
    _save(work.done("repeats", part), np.sort(rows[again, 1]))


def _repeated(work: Work, part: int) -> np.ndarray:
    """Numbers, within the span, of the sentences that are left out."""
    low, high = part << _ORDER_BITS, (part + 1) << _ORDER_BITS
    found = [_slice(work.done("repeats", n), low, high) for n in range(work.ranges)]
    return np.sort(np.concatenate(found)) - np.uint64(low)


def _slice(path: str, low: int, high: int) -> np.ndarray:
    """The rows of a sorted file whose first value is in [low, high). Of a file of this machine only these are read."""
    with _readable(path):
        rows = np.load(io.BytesIO(storage.get(path))) if "://" in path else np.load(path, mmap_mode="r")
    keys = rows if rows.ndim == 1 else rows[:, 0]
    ends = [len(keys) if value >= 1 << 64 else int(np.searchsorted(keys, np.uint64(value))) for value in (low, high)]
    return np.array(rows[ends[0] : ends[1]])


def _save(path: str, values: np.ndarray) -> None:
    """Whole or not at all."""
    stream = io.BytesIO()
    np.save(stream, values)
    storage.put(path, stream.getvalue())


# --- shards ---------------------------------------------------------------------------------------------------------


def _shard(work: Work, part: int) -> None:
    gone = _repeated(work, part)
    with tempfile.TemporaryDirectory() as place:
        writer = CorpusWriter(Path(place), _tokenizer(work.tokenizer))
        kept = _kept(work, part, gone, writer)
        if work.rows:
            _write_texts(work, part, kept, writer)
        else:
            for name, found in kept:
                writer.add(name, found)
        writer.close(source=work.spans[part].path)
        sums, about = {}, b""
        for file in sorted(Path(place).iterdir()):
            path, content = f"{_shard_name(part)}/{file.name}", file.read_bytes()
            storage.put(storage.join(work.out, path), content)
            sums[path] = hashlib.sha256(content).hexdigest()
            about = content if file.name == "corpus.json" else about
    # Last, so that a shard of which it speaks is whole; nobody has to read the shards again for the manifest.
    storage.put(work.done("shards", part), json.dumps({"about": json.loads(about), "sha256": sums}).encode())


def _shard_name(part: int) -> str:
    return f"shard-{part:05}"


def _kept(work: Work, part: int, gone: np.ndarray, writer: CorpusWriter) -> Iterator[tuple[Part, list[str]]]:
    """The documents of a span, each as the sentences that are left of it."""
    repeated = set(gone.tolist())
    number = 0
    for document, found in _pieces(work, part):
        kept = [sentence for place, sentence in enumerate(found, number) if place not in repeated]
        number += len(found)
        writer.count(document, len(found), len(found) - len(kept))
        yield "held_out" if is_held_out(document, work.held_out, work.seed) else "train", kept


def _write_texts(work: Work, part: int, kept: Iterable[tuple[Part, list[str]]], writer: CorpusWriter) -> None:
    """Texts one by one, their augmented copies behind them (of the training texts only), and what the teacher says of each."""
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
            teacher = model_of(work.teacher)
            rows = teacher.tokenizer.encode(some, max_length=work.max_length)
            writer.add_logits(name, predict_logits(teacher, rows))
        waiting[name] = []

    for name, found in kept:
        waiting[name] += found
        if len(waiting[name]) >= _TEXTS_TOGETHER:
            flush(name)
    for name in waiting:
        if waiting[name]:
            flush(name)


@lru_cache(maxsize=1)
def _tokenizer(directory: str) -> Tokenizer:
    with storage.here(directory) as path:
        return Tokenizer.from_directory(path)


@lru_cache(maxsize=1)
def model_of(directory: str) -> TextModel:
    """The teacher. Raises UserError for one that does not sort or score texts."""
    with storage.here(directory) as path:
        teacher = load(path)
    if teacher.task not in ("classification", "regression", "multilabel"):
        raise UserError(
            f"{directory} is a {teacher.task} model; expected a teacher that was fine-tuned to sort or score texts"
        )
    return teacher
