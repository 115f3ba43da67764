"""A tokenized corpus of plain text on disk, for pre-training and general distillation.

Held out. A document is held out when the hash of (seed, its text) says so: the same documents whatever their order, and
still the same ones when text is added.

How text is read stands in `tfdistill.corpora.plain_text`, what is made of the corpus in `tfdistill.corpora.sequences`.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfdistill.cache.checksums import damage
from tfdistill.corpora.masking import Masker, Masking, require_words
from tfdistill.corpora.plain_text import SHORT, documents, sentences, text_files, text_number
from tfdistill.cache.packages import alone, cache_directory, cache_folder
from tfdistill.corpora.sequences import TextExamples
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.errors import UserError
from tfdistill.system.files import atomic_directory, atomic_write
from tfdistill.system.files import sha256 as file_sha256
from tfdistill.system.console import say

Part = Literal["train", "held_out"]
PARTS: tuple[Part, ...] = ("train", "held_out")

SUMS = "sums.json"  # SHA-256 of the other files of a cached corpus
_VERSION = 1  # of the stored form; a new one makes every cached corpus anew
_TOKENIZE_BATCH = 2048  # sentences


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


@dataclass(frozen=True)
class PlainText:
    """Where text comes from and how it is divided; nothing is read before `prepare`.

    Args:
        source: a file, a directory or `demo:plain-text`.
        held_out: share of the documents that is kept from training, to measure on.
        seed: decides which these are.
        megabytes: read only so much text, from the start; None reads all.
        segmented: words are what stands between white space, as a program cut them that parts Chinese into words. The pieces are
            the same; which of them make a word is stored beside them, for whole-word masking.
    """

    source: str
    held_out: float = 0.02
    seed: int = 0
    megabytes: float | None = None
    segmented: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"the held-out share is {self.held_out}; expected 0 or more, and less than 1, such as 0.02")
        if self.megabytes is not None and self.megabytes <= 0:
            raise UserError(f"{self.megabytes} MB of text were asked for; expected more than 0")

    def prepare(self, tokenizer: Tokenizer, *, advance: Callable[[int], Any] | None = None) -> Corpus:
        """The tokenized corpus, from the cache if the same text was tokenized in the same way before. A damaged one is made again.

        Memory stays flat: text is read as a stream, and token ids are written to disk as they are made; what stays
        in memory is 8 bytes for each sentence.

        Args:
            advance: told the number of bytes of text (UTF-8) after each batch of sentences.

        Raises:
            UserError: no text, bytes that are not UTF-8, or nothing left to train on.
        """
        files = text_files(self.source)
        settings = [_VERSION, tokenizer.fingerprint, self.held_out, self.seed, self.megabytes, *map(file_sha256, files)]
        settings += ["segmented"] if self.segmented else []
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
        directory = cache_directory() / "corpora" / key
        if not directory.is_dir() or _damage(directory):
            place = cache_folder("corpora") / key
            with alone(place, lambda: say(f"another process writes {directory}; waiting until it is done")):
                wrong = (
                    _damage(directory) if directory.is_dir() else ""
                )  # another process may have made it while we waited
                if wrong:
                    say(f"{directory}: {wrong}; the text is tokenized again")
                if wrong or not directory.is_dir():
                    with atomic_directory(directory) as temporary:
                        _store(self, files, tokenizer, temporary, advance or (lambda _: None))
                        sums = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
                        atomic_write(temporary / SUMS, json.dumps(sums, indent=1) + "\n")
        return Corpus(directory, tokenizer)


def _damage(directory: Path) -> str:
    """What is wrong with a cached corpus, or ""."""
    try:
        sums = {str(name): str(value) for name, value in json.loads((directory / SUMS).read_text("utf-8")).items()}
    except FileNotFoundError:
        return "there are no checksums, as older versions left it"
    except (OSError, ValueError, AttributeError) as error:
        return f"{SUMS} is damaged ({error})"
    return damage(directory, sums)


class _PartWriter:
    """Appends the documents of one part to files: ids one after the other, [SEP] behind each document; with `segmented` whether
    a word begins with each of them."""

    def __init__(self, directory: Path, part: str, sep_id: int, dtype: Any, segmented: bool):
        self._file = open(directory / f"{part}.ids", "wb")  # noqa: SIM115 (closed by `close`)
        self._starts_file = open(directory / f"{part}.starts", "wb") if segmented else None  # noqa: SIM115
        self._directory, self._part, self._sep, self._dtype = directory, part, sep_id, dtype
        self.tokens = 0
        self.sentences = array("q")  # where each starts
        self.documents = array("q")  # its first sentence
        self.logits: list[np.ndarray] = []

    def add(self, rows: list[np.ndarray], starts: list[np.ndarray] | None = None) -> None:
        self.documents.append(len(self.sentences))
        for row in rows:
            self.sentences.append(self.tokens)
            self.tokens += len(row)
        self.tokens += 1
        np.concatenate([*rows, [self._sep]]).astype(self._dtype).tofile(self._file)
        if self._starts_file is not None and starts is not None:
            np.concatenate([*starts, [True]]).astype(np.bool_).tofile(self._starts_file)

    def close(self) -> None:
        self._file.close()
        if self._starts_file is not None:
            self._starts_file.close()
        self.documents.append(len(self.sentences))
        self.sentences.append(self.tokens)
        for name in ("sentences", "documents"):
            np.save(self._directory / f"{self._part}.{name}.npy", np.array(getattr(self, name), np.int64))
        if self.logits:
            np.save(self._directory / f"{self._part}.logits.npy", np.concatenate(self.logits))


class CorpusWriter:
    """Writes a corpus into a directory as its text comes along, which is not held in memory.

    Args:
        advance: told the number of bytes of text (UTF-8) that were tokenized.
        segmented: as in `PlainText`.
    """

    def __init__(
        self,
        directory: Path,
        tokenizer: Tokenizer,
        advance: Callable[[int], Any] = lambda _: None,
        segmented: bool = False,
    ):
        self.dtype = np.dtype("<u2") if len(tokenizer.vocabulary) <= 1 << 16 else np.dtype("<i4")
        self.parts = {part: _PartWriter(directory, part, tokenizer.sep_id, self.dtype, segmented) for part in PARTS}
        self._segmented = segmented
        self.totals = {"documents": 0, "sentences": 0, "repeated_sentences": 0, "bytes": 0}
        self._directory, self._tokenizer, self._advance = directory, tokenizer, advance
        self._counts = np.zeros(len(tokenizer.vocabulary), np.int64)
        self._waiting: list[tuple[Part, list[str]]] = []

    def count(self, document: str, sentences: int, repeated: int) -> None:
        """Note what was read."""
        self.totals["documents"] += 1
        self.totals["sentences"] += sentences
        self.totals["repeated_sentences"] += repeated
        self.totals["bytes"] += len(document.encode("utf-8", "replace"))

    def add(self, part: Part, sentences: list[str]) -> None:
        """Write a document, that is its sentences."""
        self._waiting.append((part, sentences))
        if sum(len(waiting) for _, waiting in self._waiting) >= _TOKENIZE_BATCH:
            self._flush()

    def _flush(self) -> None:
        everything = [sentence.encode("utf-8", "replace") for _, found in self._waiting for sentence in found]
        words = [sentence.split() for sentence in everything] if self._segmented else [[each] for each in everything]
        pieces = self._tokenizer.tokenize(tf.constant([word for row in words for word in row], tf.string))
        ids, splits = pieces.flat_values.numpy(), pieces.row_splits.numpy()
        self._counts += np.bincount(ids, minlength=len(self._counts))
        begins = np.zeros(len(ids) + 1, np.bool_)
        begins[splits] = True  # of a word without any piece the next one begins here
        ends = splits[np.cumsum([0, *map(len, words)])]
        row = 0
        for part, found in self._waiting:
            spans = [
                slice(*ends[row + n : row + n + 2]) for n in range(len(found)) if ends[row + n] < ends[row + n + 1]
            ]
            row += len(found)
            if spans:
                self.parts[part].add([ids[span] for span in spans], [begins[span] for span in spans])
        self._advance(sum(map(len, everything)))
        self._waiting.clear()

    def add_texts(self, part: Part, texts: list[str], max_length: int) -> None:
        """Write texts as documents of one sentence each, none left out, cut to `max_length` pieces with [CLS] and [SEP]."""
        encoded = self._tokenizer.encode(texts, max_length=max_length)
        self._counts += np.bincount(encoded.token_ids, minlength=len(self._counts))
        for begin, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
            self.parts[part].add([encoded.token_ids[begin + 1 : end - 1]])

    def add_logits(self, part: Part, logits: np.ndarray) -> None:
        """What a teacher says of the texts that were added last, (texts, C) float32."""
        self.parts[part].logits.append(logits)

    def close(self, **about: Any) -> None:
        """End the files; corpus.json comes last."""
        try:
            if self._waiting:
                self._flush()
        finally:
            for writer in self.parts.values():
                writer.close()
        np.save(self._directory / "counts.npy", self._counts)
        tokens = {f"{part}_tokens": writer.tokens for part, writer in self.parts.items()}
        said = {**about, **self.totals, **tokens, "dtype": self.dtype.str}
        atomic_write(self._directory / "corpus.json", json.dumps(said, indent=2) + "\n")


def _store(
    text: PlainText, files: list[Path], tokenizer: Tokenizer, directory: Path, advance: Callable[[int], Any]
) -> None:
    writer, seen = CorpusWriter(directory, tokenizer, advance, text.segmented), _Seen()
    limit = float("inf") if text.megabytes is None else text.megabytes * 1e6
    try:
        for document in (document for file in files for document in documents(file)):
            if writer.totals["bytes"] >= limit:
                break
            found = sentences(document)
            kept = [one for one in found if len(one) < SHORT or seen.add(text_number(one))]
            writer.count(document, len(found), len(found) - len(kept))
            writer.add("held_out" if is_held_out(document, text.held_out, text.seed) else "train", kept)
    finally:
        writer.close(source=text.source, **({"segmented": True} if text.segmented else {}))
    if not writer.parts["train"].tokens:
        raise UserError(f"{text.source} has no text to train on; expected sentences in UTF-8, give another file")


def is_held_out(document: str, share: float, seed: int) -> bool:
    """Whether a document belongs to the held-out `share`."""
    return text_number(document, seed + 1) < share * 2.0**64


@dataclass(frozen=True)
class _Stored:
    """One part of a corpus: ids (T,), sentences (S + 1,) starts in ids, documents (D + 1,) starts in sentences; starts (T,) bool,
    whether a word begins there, of segmented text."""

    ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    starts: np.ndarray | None = None


def load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """An array of a corpus. Raises UserError where it is missing or damaged."""
    try:
        return np.load(path, mmap_mode=mmap_mode)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path.parent} is damaged ({error}); delete it and try again") from error


class Corpus:
    """A tokenized corpus on disk, memory-mapped. Made by `PlainText.prepare`.

    Attributes:
        tokenizer: whose ids these are.
        about: counts of documents, sentences, repeated sentences, bytes and tokens.
        counts: (V,) how often each piece stands in the text.
        fingerprint: of the text and of how it was read, which the name of its directory in the cache is.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer):
        self.directory, self.tokenizer, self.fingerprint = directory, tokenizer, directory.name
        try:
            self.about: dict[str, Any] = json.loads((directory / "corpus.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{directory} is damaged ({error}); delete it and try again") from error
        self.counts = load_array(directory / "counts.npy")

    def tokens(self, part: Part = "train") -> int:
        """Word pieces in a part, one [SEP] for each document counted."""
        return int(self.about[f"{part}_tokens"])

    def part(self, name: Part) -> _Stored:
        size = self.tokens(name)
        ids, starts = self._mapped(f"{name}.ids", self.about["dtype"], size), None
        if self.about.get("segmented"):
            starts = self._mapped(f"{name}.starts", np.bool_, size)
        sentences_, documents_ = (load_array(self.directory / f"{name}.{w}.npy") for w in ("sentences", "documents"))
        return _Stored(ids, sentences_, documents_, starts)

    def _mapped(self, file: str, dtype: Any, size: int) -> np.ndarray:
        if not size:
            return np.zeros(0, dtype)
        try:
            return np.memmap(self.directory / file, dtype, "r", shape=(size,))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.directory} is damaged ({error}); delete it and try again") from error

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
        counts: np.ndarray | None = None,
    ) -> TextExamples:
        """Sequences of a part, ready for `Distiller.fit`.

        Args:
            length: L, word pieces of a sequence, [CLS] and [SEP] included.
            masking: how to mask; None leaves the text as it is and gives no labels for it.
            next_sentence: make pairs, with labels 0 (b follows a) and 1 (b comes from elsewhere), as in BERT.
            every_position: put `masked_positions` among the labels, so that the model gives logits of all positions.
            limit: at most so many sequences, spread evenly over the part.
            seed: decides where a document is cut into pairs.
            counts: of each piece in the whole text, where this is a part of it.

        Raises:
            UserError: the part is empty, or has no two documents to make pairs from; or whole words are to be masked in Chinese
                text that is not segmented.
        """
        if masking is not None and masking.whole_words and not self.about.get("segmented"):
            require_words(self.tokenizer, self.counts if counts is None else counts)
        masker = None if masking is None else Masker(masking, self.tokenizer, self.counts if counts is None else counts)
        return TextExamples(self, part, length, masker, next_sentence, every_position, limit, seed)
