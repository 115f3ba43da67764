"""Plain text for pre-training and general distillation: read as a stream, cut into sentences, packed into sequences.

Sources. A text file (UTF-8; gzip is recognised by its content, so `.txt.gz` and dictd's `.dict.dz` work), a directory (all
`.txt` and `.txt.gz` below it, sorted by name), or `demo:plain-text`.

Documents. A blank line ends a document, as in BERT's own pre-training data; the lines of a document are joined, since books
wrap their lines. A file without any blank line in its first thousand lines (or million characters) is a list of texts: each
line is a document.

Sentences. A sentence ends with `.`, `!`, `?` or `…` (and closing quotes or brackets) before white space and a character that
is no small letter; not after an initial, an abbreviation of `ABBREVIATIONS` or one with inner points (`e.g.`). Chinese and
Japanese full stops end one wherever they stand. A sentence of 30 characters or more is kept once in the whole corpus, the
first time, whatever its case and spacing; so no such sentence is both held out and trained on.

Held out. A document is held out when the hash of (seed, its text) says so: the same documents whatever their order, and
still the same ones when text is added.

Sequences. Without next-sentence prediction, sentences are packed one after the other up to the length, across documents with
[SEP] between them (FULL-SENTENCES, Liu et al. 2019, RoBERTa, section 4.2): [CLS] … [SEP] … [SEP]. With it, pairs as in Devlin et
al. 2019, section 3.1: [CLS] a [SEP] b [SEP], where b follows a in half of the pairs and comes from another document in the
others; 10 % of the pairs are made shorter on purpose. A document of one sentence gives no pair, only a second text b.

As a stage's data. `PlainText(source, …).prepare(tokenizer)` gives a `Corpus`; `corpus.examples(…)` gives `TextExamples`, which
is what `Stage(source=…)` takes: it has `len(examples)` and `examples.dataset(batch_size, seed=, epochs=)`, batches in the
form of `Distiller.fit`:

    {"student": {"token_ids", "padding_mask", "segment_ids"[, "masked_positions"]},          (B, L) and (B, K) int32
     "labels": {"masked_labels", "masked_weights"[, "next_sentence"]}}                       absent without masking and pairs

The terms `HardLabels(task="masked_lm")` and `HardLabels(task="next_sentence")` read these labels. The teacher reads the same
input, so it needs the same vocabulary. With `masking=None` the text is left as it is (TinyBERT's general stage); with a
`Masking`, every epoch has other masks (DistilBERT's triple loss, MobileBERT's pre-training distillation). A masked language model
that is given `masked_positions` computes its logits there only, (B, K, V); with `every_position=True` they stand among the
labels instead and the logits are (B, L, V), for losses over all tokens.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import tensorflow as tf
from filelock import FileLock

from tfdistill.data.batching import ready
from tfdistill.data.demo_text import plain_text_directory
from tfdistill.data.masking import Masker, Masking, uniforms
from tfdistill.data.registry import cache_directory, cache_folder
from tfdistill.data.textdata import nearest
from tfdistill.data.tokenize import Tokenizer
from tfdistill.errors import UserError
from tfdistill.files import atomic_directory, atomic_write
from tfdistill.files import sha256 as file_sha256

Part = Literal["train", "held_out"]
PARTS: tuple[Part, ...] = ("train", "held_out")

_ABBREVIATIONS = (
    "mr mrs ms dr prof rev hon gen col capt lt sgt gov sen rep st mt jr sr vs etc cf al viz no vol pp fig ch sec art "
    "jan feb mar apr jun jul aug sep sept oct nov dec inc ltd co corp dept est approx ca"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
_DEMOS: dict[str, Callable[[], Path]] = {"plain-text": plain_text_directory}
_VERSION = 1  # of the stored form; a new one makes every cached corpus anew
_SUFFIXES = (".txt", ".txt.gz")
_LOOK_AHEAD = 1000  # lines
_LONGEST = 1 << 20  # bytes of a line, characters of a document: what is longer is taken in parts
_SHORT = 30  # characters: shorter sentences may repeat
_TOKENIZE_BATCH = 2048  # sentences
_SIDE, _SHORTER, _SHORTER_TO, _IS_RANDOM, _SPLIT, _OTHER, _OTHER_START = range(101, 108)  # streams of random numbers


# --- reading --------------------------------------------------------------------------------------------------------


def text_files(source: str | os.PathLike) -> list[Path]:
    """The files of a source. Raises UserError when there are none, or for an unknown demo text."""
    name = os.fspath(source)
    if name.startswith("demo:"):
        key = name.removeprefix("demo:")
        if key not in _DEMOS:
            raise UserError(f"unknown demo text '{key}'; expected {', '.join(_DEMOS)}{nearest(key, _DEMOS)}")
        path = _DEMOS[key]()
    else:
        path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"no text at '{name}'; expected a .txt or .txt.gz file, a directory of them, or demo:plain-text"
        )
    files = sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES) and file.is_file())
    if not files:
        raise UserError(
            f"{path} has no .txt or .txt.gz files in it; expected plain text: give a file or such a directory"
        )
    return files


def documents(path: Path) -> Iterator[str]:
    """Documents of one file, in order. What is longer than a million characters comes in parts."""
    lines = _lines(path)
    ahead: list[str] = []
    size = 0
    for line in lines:
        ahead.append(line)
        size += len(line)
        if len(ahead) == _LOOK_AHEAD or size > _LONGEST:
            break
    while ahead and not ahead[-1]:  # blank lines at the end of a short file say nothing
        ahead.pop()
    one_a_line = all(ahead)
    parts: list[str] = []
    size = 0
    for source in (iter(ahead), lines):
        for line in source:
            if line:
                parts.append(line)
                size += len(line)
            if parts and (one_a_line or not line or size > _LONGEST):
                yield " ".join(parts)
                parts, size = [], 0
    if parts:
        yield " ".join(parts)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file, UTF-8, plain or gzip, with single spaces between words."""
    number = 0
    try:
        with open(path, "rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzip else open(path, "rb") as stream:
            for line in _raw_lines(stream):
                number += 1
                yield " ".join(line.decode("utf-8-sig" if number == 1 else "utf-8").split())
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise UserError(
            f"{path}, line {number}: byte {wrong:#04x} is not UTF-8; expected UTF-8 text: save the file so"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"cannot read {path}: {error}; expected a whole gzip file, fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected a file that can be read") from error


def _raw_lines(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Lines, those that are too long for memory in parts: cut at a space, or else between two characters."""
    rest = b""
    while chunk := stream.readline(_LONGEST - len(rest)):
        line = rest + chunk
        if line.endswith(b"\n") or len(line) < _LONGEST:
            yield line
            rest = b""
            continue
        cut = line.rfind(b" ") + 1
        if not cut:
            cut = len(line) - 4
            while line[cut] & 0xC0 == 0x80:
                cut -= 1
        yield line[:cut]
        rest = line[cut:]
    if rest:
        yield rest


_END = re.compile("[.!?…]+[\"'”’»)\\]]*\\s+|[。！？]+[”’」』）]*\\s*")
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘]+)\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text by the rule of this module, without white space around them. Nothing of it is lost."""
    found, start = [], 0
    for match in _END.finditer(text):
        after = text[match.end() : match.end() + 2].lstrip("\"'“‘«([")
        if match.group()[0] in ".!?…" and (
            not after or after[0].islower() or _is_abbreviation(text[start : match.start() + 1], match.group())
        ):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    return [sentence for sentence in (*found, text[start:].strip()) if sentence]


def _is_abbreviation(before: str, mark: str) -> bool:
    """Whether the point at the end of `before` belongs to its last word."""
    if mark.rstrip() != ".":
        return False
    word = _LAST_WORD.search(before)
    if word is None:
        return False
    name = word.group(1)
    is_initial = len(name) == 1 and name.isupper() and name != "I"
    return is_initial or "." in name or name.lower() in ABBREVIATIONS


class _Seen:
    """A set of 64-bit numbers that takes some 8 bytes for each: recent ones in a set, the rest in a sorted array."""

    def __init__(self, recent: int = 1 << 20):
        self._recent: set[int] = set()
        self._limit, self._sorted = recent, np.zeros(0, np.uint64)

    def add(self, number: int) -> bool:
        """Add a number; whether it was new."""
        if number in self._recent:
            return False
        place = int(np.searchsorted(self._sorted, np.uint64(number)))
        if place < len(self._sorted) and int(self._sorted[place]) == number:
            return False
        self._recent.add(number)
        if len(self._recent) >= self._limit:
            fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, fresh]))
            self._recent = set()
        return True


def _number(text: str, seed: int = 0) -> int:
    """A 64-bit hash of a text, whatever its case and spacing."""
    content = "".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, salt=seed.to_bytes(8, "little")).digest(), "little")


# --- a tokenized corpus on disk -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainText:
    """Where text comes from and how it is divided; nothing is read before `prepare`.

    Args:
        source: a file, a directory or `demo:plain-text`.
        held_out: share of the documents that is kept from training, to measure on.
        seed: decides which these are.
        megabytes: read only so much text, from the start; None reads all.
    """

    source: str
    held_out: float = 0.02
    seed: int = 0
    megabytes: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"the held-out share is {self.held_out}; expected 0 or more, and less than 1, such as 0.02")
        if self.megabytes is not None and self.megabytes <= 0:
            raise UserError(f"{self.megabytes} MB of text were asked for; expected more than 0")

    def prepare(self, tokenizer: Tokenizer, *, advance: Callable[[int], Any] | None = None) -> Corpus:
        """The tokenized corpus, from the cache if the same text was tokenized in the same way before.

        Memory stays flat: text is read as a stream, and token ids are written to disk as they are made; what stays
        in memory is 8 bytes for each sentence.

        Args:
            advance: told the number of bytes of text (UTF-8) after each batch of sentences.

        Raises:
            UserError: no text, bytes that are not UTF-8, or nothing left to train on.
        """
        files = text_files(self.source)
        settings = [_VERSION, tokenizer.fingerprint, self.held_out, self.seed, self.megabytes, *map(file_sha256, files)]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
        directory = cache_directory() / "corpora" / key
        if not directory.is_dir():
            with FileLock(cache_folder("corpora") / f".{key}.lock"):
                if not directory.is_dir():
                    with atomic_directory(directory) as temporary:
                        _store(self, files, tokenizer, temporary, advance or (lambda _: None))
        return Corpus(directory, tokenizer)


class _Writer:
    """Appends the documents of one part to files: ids one after the other, [SEP] behind each document."""

    def __init__(self, directory: Path, part: str, sep_id: int, dtype: Any):
        self._file = open(directory / f"{part}.ids", "wb")  # noqa: SIM115 (closed by `close`)
        self._directory, self._part, self._sep, self._dtype = directory, part, sep_id, dtype
        self.tokens = 0
        self.sentences = array("q")  # where each starts
        self.documents = array("q")  # its first sentence

    def add(self, rows: list[np.ndarray]) -> None:
        rows = [row for row in rows if len(row)]
        if not rows:
            return
        self.documents.append(len(self.sentences))
        for row in rows:
            self.sentences.append(self.tokens)
            self.tokens += len(row)
        self.tokens += 1
        np.concatenate([*rows, [self._sep]]).astype(self._dtype).tofile(self._file)

    def close(self) -> None:
        self._file.close()
        self.documents.append(len(self.sentences))
        self.sentences.append(self.tokens)
        for name in ("sentences", "documents"):
            np.save(self._directory / f"{self._part}.{name}.npy", np.array(getattr(self, name), np.int64))


def _store(
    text: PlainText, files: list[Path], tokenizer: Tokenizer, directory: Path, advance: Callable[[int], Any]
) -> None:
    dtype = np.dtype("<u2") if len(tokenizer.vocabulary) <= 1 << 16 else np.dtype("<i4")
    writers = {part: _Writer(directory, part, tokenizer.sep_id, dtype) for part in PARTS}
    counts = np.zeros(len(tokenizer.vocabulary), np.int64)
    seen = _Seen()
    totals = {"documents": 0, "sentences": 0, "repeated_sentences": 0, "bytes": 0}
    waiting: list[tuple[Part, list[str]]] = []

    def flush() -> None:
        everything = [sentence for _, found in waiting for sentence in found]
        pieces = tokenizer.tokenize(
            tf.constant([sentence.encode("utf-8", "replace") for sentence in everything], tf.string)
        )
        ids, splits = pieces.flat_values.numpy(), pieces.row_splits.numpy()
        np.add(counts, np.bincount(ids, minlength=len(counts)), out=counts)
        row = 0
        for part, found in waiting:
            writers[part].add([ids[splits[row + n] : splits[row + n + 1]] for n in range(len(found))])
            row += len(found)
        advance(sum(len(sentence.encode("utf-8", "replace")) for sentence in everything))
        waiting.clear()

    limit = float("inf") if text.megabytes is None else text.megabytes * 1e6
    try:
        for document in (document for file in files for document in documents(file)):
            if totals["bytes"] >= limit:
                break
            found = sentences(document)
            totals["documents"] += 1
            totals["sentences"] += len(found)
            totals["bytes"] += len(document.encode("utf-8", "replace"))
            kept = [one for one in found if len(one) < _SHORT or seen.add(_number(one))]
            totals["repeated_sentences"] += len(found) - len(kept)
            is_out = _number(document, text.seed + 1) < text.held_out * 2.0**64
            waiting.append(("held_out" if is_out else "train", kept))
            if sum(len(sentences_) for _, sentences_ in waiting) >= _TOKENIZE_BATCH:
                flush()
        if waiting:
            flush()
    finally:
        for writer in writers.values():
            writer.close()
    if not writers["train"].tokens:
        raise UserError(f"{text.source} has no text to train on; expected sentences in UTF-8, give another file")
    np.save(directory / "counts.npy", counts)
    about = {
        "source": text.source,
        **totals,
        **{f"{part}_tokens": writer.tokens for part, writer in writers.items()},
        "dtype": dtype.str,
    }
    atomic_write(directory / "corpus.json", json.dumps(about, indent=2) + "\n")


@dataclass(frozen=True)
class _Stored:
    """One part of a corpus: ids (T,), sentences (S + 1,) starts in ids, documents (D + 1,) starts in sentences."""

    ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray


class Corpus:
    """A tokenized corpus on disk, memory-mapped. Made by `PlainText.prepare`.

    Attributes:
        tokenizer: whose ids these are.
        about: counts of documents, sentences, repeated sentences, bytes and tokens.
        counts: (V,) how often each piece stands in the text.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer):
        self.directory, self.tokenizer = directory, tokenizer
        try:
            self.about: dict[str, Any] = json.loads((directory / "corpus.json").read_text("utf-8"))
            self.counts: np.ndarray = np.load(directory / "counts.npy")
        except (OSError, ValueError) as error:
            raise UserError(f"{directory} is damaged ({error}); delete it and try again") from error

    def tokens(self, part: Part = "train") -> int:
        """Word pieces in a part, one [SEP] for each document counted."""
        return int(self.about[f"{part}_tokens"])

    def part(self, name: Part) -> _Stored:
        size = self.tokens(name)
        ids: np.ndarray = np.zeros(0, self.about["dtype"])
        if size:
            try:
                ids = np.memmap(self.directory / f"{name}.ids", self.about["dtype"], "r", shape=(size,))
            except (OSError, ValueError) as error:
                raise UserError(f"{self.directory} is damaged ({error}); delete it and try again") from error
        sentences_, documents_ = (np.load(self.directory / f"{name}.{what}.npy") for what in ("sentences", "documents"))
        return _Stored(ids, sentences_, documents_)

    def examples(
        self,
        part: Part = "train",
        *,
        length: int = 128,
        masking: Masking | None = None,
        next_sentence: bool = False,
        every_position: bool = False,
        limit: int | None = None,
        seed: int = 0,
    ) -> TextExamples:
        """Sequences of a part, ready for `Distiller.fit`.

        Args:
            length: L, word pieces of a sequence, [CLS] and [SEP] included.
            masking: how to mask; None leaves the text as it is and gives no labels for it.
            next_sentence: make pairs, with labels 0 (b follows a) and 1 (b comes from elsewhere), as in BERT.
            every_position: put `masked_positions` among the labels, so that the model gives logits of all positions.
            limit: at most so many sequences, spread evenly over the part.
            seed: decides where a document is cut into pairs.

        Raises:
            UserError: the part is empty, or has no two documents to make pairs from.
        """
        masker = None if masking is None else Masker(masking, self.tokenizer, self.counts)
        return TextExamples(self, part, length, masker, next_sentence, every_position, limit, seed)


# --- sequences ------------------------------------------------------------------------------------------------------


class TextExamples:
    """Sequences of one length from a corpus, made batch by batch. See `Corpus.examples`.

    A batch depends on (row numbers, seed, epoch) alone.
    """

    def __init__(
        self,
        corpus: Corpus,
        part: Part,
        length: int,
        masker: Masker | None,
        next_sentence: bool,
        every_position: bool,
        limit: int | None,
        seed: int,
    ):
        least = 8 if next_sentence else 4
        if length < least:
            raise UserError(f"the length is {length}; expected at least {least} word pieces")
        self.length, self.masker, self.next_sentence = length, masker, next_sentence
        self._every_position = every_position
        self._stored, self._tokenizer, self._seed = corpus.part(part), corpus.tokenizer, seed
        source = corpus.about["source"]
        if not len(self._stored.ids):
            raise UserError(
                f"nothing of {source} is in its part '{part}'; expected some text there: give more, or change the held-out share"
            )
        if next_sentence:
            self._first, self._last, self._document = self._chunks()
            if len(self._stored.documents) < 3 or not len(self._first):
                raise UserError(
                    f"{source} has no two documents of two sentences in its part '{part}', which next-sentence prediction needs; "
                    "part documents by blank lines, give more text, or train without next sentences"
                )
        else:
            self._first, self._last = self._packed()
        if limit is not None and limit < len(self._first):
            kept = np.linspace(0, len(self._first) - 1, limit).astype(np.int64)
            self._first, self._last = self._first[kept], self._last[kept]
            if next_sentence:
                self._document = self._document[kept]

    def __len__(self) -> int:
        return len(self._first)

    # Where each row begins and ends.

    def _packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Token positions (n,), (n,): whole sentences while they fit, a longer one in parts."""
        ends, room = self._stored.sentences[1:], self.length - 2
        first, last = array("q"), array("q")
        start, total, sep = 0, int(ends[-1]), self._tokenizer.sep_id
        ids = self._stored.ids
        while start < total:
            if ids[start] == sep:
                start += 1
                continue
            place = int(np.searchsorted(ends, start + room, side="right")) - 1
            end = int(ends[place]) if place >= 0 and ends[place] > start else min(start + room, total)
            first.append(start)
            last.append(end - 1 if ids[end - 1] == sep else end)
            start = end
        return np.array(first, np.int64), np.array(last, np.int64)

    def _chunks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sentence numbers (n,), (n,) and document (n,) of the text of each pair: two sentences or more of one document."""
        starts = self._stored.sentences
        first, last, document = array("q"), array("q"), array("q")
        room = self.length - 3
        numbers = np.arange(len(starts))
        shorter, to = (uniforms(self._seed, 0, stream, numbers)[:, 0] for stream in (_SHORTER, _SHORTER_TO))
        for number, (begin, end) in enumerate(
            zip(self._stored.documents[:-1], self._stored.documents[1:], strict=True)
        ):
            sentence = int(begin)
            while end - sentence >= 2:
                target = 2 + int(to[sentence] * (room - 1)) if shorter[sentence] < 0.1 else room
                stop = int(np.searchsorted(starts, starts[sentence] + target))
                stop = min(max(stop, sentence + 2), int(end))
                if end - stop == 1:  # a last sentence alone makes no pair
                    stop = int(end)
                first.append(sentence)
                last.append(stop)
                document.append(number)
                sentence = stop
        return tuple(np.array(values, np.int64) for values in (first, last, document))  # type: ignore[return-value]

    # Rows.

    def _span(self, first: int, last: int) -> np.ndarray:
        """The ids of the sentences first..last - 1, without the document's [SEP]."""
        ids = self._stored.ids[self._stored.sentences[first] : self._stored.sentences[last]]
        return ids[:-1] if len(ids) and ids[-1] == self._tokenizer.sep_id else ids

    def _pair(self, row: int, drawn: dict[int, float]) -> tuple[np.ndarray, np.ndarray, int]:
        """The two texts of a pair and its label, cut so that they fit: a loses its beginning and b its end."""
        first, last, own = int(self._first[row]), int(self._last[row]), int(self._document[row])
        middle = first + 1 + int(drawn[_SPLIT] * (last - first - 1))
        a, is_random = self._span(first, middle), drawn[_IS_RANDOM] < 0.5
        if is_random:
            limits = self._stored.documents
            other = (own + 1 + int(drawn[_OTHER] * (len(limits) - 2))) % (len(limits) - 1)
            start = int(limits[other] + int(drawn[_OTHER_START] * (limits[other + 1] - limits[other])))
            b = self._span(start, int(limits[other + 1]))[: self.length]
        else:
            b = self._span(middle, last)
        room = self.length - 3
        keep_b = min(len(b), max(room - len(a), room // 2))
        keep_a = min(len(a), room - keep_b)
        return a[len(a) - keep_a :], b[:keep_b], int(is_random)

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """One batch as NumPy arrays, in the form that this module's docstring shows."""
        rows = np.asarray(rows, np.int64)
        tokenizer, shape = self._tokenizer, (len(rows), self.length)
        ids, segments = np.full(shape, tokenizer.pad_id, np.int32), np.zeros(shape, np.int32)
        sizes = np.zeros(len(rows), np.int64)
        is_random = np.zeros(len(rows), np.int32)
        ids[:, 0] = tokenizer.cls_id
        streams = (_IS_RANDOM, _SPLIT, _OTHER, _OTHER_START)
        drawn = {stream: uniforms(seed, epoch, stream, rows)[:, 0] for stream in streams} if self.next_sentence else {}
        for number, row in enumerate(rows):
            if self.next_sentence:
                a, b, is_random[number] = self._pair(
                    int(row), {key: float(value[number]) for key, value in drawn.items()}
                )
                text = np.concatenate([a, [tokenizer.sep_id], b, [tokenizer.sep_id]])
                segments[number, len(a) + 2 : len(text) + 1] = 1
            else:
                text = np.append(self._stored.ids[self._first[row] : self._last[row]], tokenizer.sep_id)
            ids[number, 1 : len(text) + 1] = text
            sizes[number] = len(text) + 1
        padding_mask = (np.arange(self.length) < sizes[:, None]).astype(np.int32)
        student = {"token_ids": ids, "padding_mask": padding_mask, "segment_ids": segments}
        labels: dict[str, np.ndarray] = {"next_sentence": is_random} if self.next_sentence else {}
        if self.masker is not None:
            masked = self.masker(ids, padding_mask, rows, seed=seed, epoch=epoch)
            student["token_ids"] = masked["token_ids"]
            (labels if self._every_position else student)["masked_positions"] = masked["masked_positions"]
            labels |= {name: masked[name] for name in ("masked_labels", "masked_weights")}
        return {"student": student, "labels": labels} if labels else {"student": student}

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        epochs: int = 1,
        first_epoch: int = 0,
        first_step: int = 0,
        shuffle: bool = True,
    ) -> tf.data.Dataset:
        """Batches of `epochs` epochs; `first_step` leaves out as many from the start, to go on where a run stopped.

        Every batch has `batch_size` rows: an epoch that does not end with a batch ends within one. Without `shuffle` the rows
        come in order, once, with the masks of `first_epoch`, and the last batch may be smaller.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; expected at least 1")
        count = len(self)
        steps = -(-count * (epochs if shuffle else 1) // batch_size)

        @lru_cache(maxsize=4)
        def order(epoch: int) -> np.ndarray:
            return np.argsort(uniforms(seed, epoch, _SIDE, np.zeros(1), count)[0], kind="stable")

        template = self.batch(np.zeros(1, np.int64))
        names = [(group, name) for group, values in template.items() for name in values]

        def make(step: np.ndarray) -> list[np.ndarray]:
            places = np.arange(int(step) * batch_size, (int(step) + 1) * batch_size)
            if not shuffle:
                made = self.batch(places[places < count], seed=seed, epoch=first_epoch)
                return [made[group][name] for group, name in names]
            epochs_ = first_epoch + places // count
            parts = [
                self.batch(order(int(epoch))[places[epochs_ == epoch] % count], seed=seed, epoch=int(epoch))
                for epoch in np.unique(epochs_)
            ]
            return [np.concatenate([part[group][name] for part in parts]) for group, name in names]

        def batch(step: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
            kinds = [tf.as_dtype(template[group][name].dtype) for group, name in names]
            made: dict[str, dict[str, tf.Tensor]] = {group: {} for group in template}
            for (group, name), value in zip(names, tf.numpy_function(make, [step], kinds), strict=True):
                value.set_shape((batch_size if shuffle else None, *template[group][name].shape[1:]))
                made[group][name] = value
            return made

        data = tf.data.Dataset.range(first_step, steps)
        return ready(data.map(batch, num_parallel_calls=2, deterministic=True))
