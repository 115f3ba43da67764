"""Write the parts of a corpus as text is tokenized."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.corpora.parts import PARTS, Part
from tfdistill.corpora.plain_text import SHORT, documents, sentences, text_number
from tfdistill.errors import UserError
from tfdistill.system.files import atomic_write
from tfdistill.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tfdistill.corpora.documents import PlainText

_TOKENIZE_BATCH = 2048  # sentences


class _PartWriter:
    """Append the documents of one part to files: ids, and with `segmented` whether each begins a word."""

    def __init__(self, directory: Path, part: str, sep_id: int, dtype: Any, segmented: bool):
        self._file = open(directory / f"{part}.ids", "wb")  # noqa: SIM115 (closed by `close`)
        self._starts_file = open(directory / f"{part}.starts", "wb") if segmented else None  # noqa: SIM115
        self._directory, self._part, self._sep, self._dtype = directory, part, sep_id, dtype
        self.tokens = 0
        self.sentences = array("q")  # the first token of each
        self.documents = array("q")  # the first sentence of each
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
    """Write a corpus into a directory; its text is not kept in memory.

    Args:
        directory: an empty directory.
        tokenizer: the tokenizer.
        advance: called with the number of bytes of text (UTF-8) that were tokenized.
        segmented: whether words are separated by spaces, as in segmented Chinese text.
    """

    def __init__(
        self,
        directory: Path,
        tokenizer: Tokenizer,
        advance: Callable[[int], Any] = lambda _: None,
        segmented: bool = False,
    ):
        tokenizer.require_wordpiece("Plain text is read")
        self.dtype = np.dtype("<u2") if len(tokenizer.vocabulary) <= 1 << 16 else np.dtype("<i4")
        self.parts = {part: _PartWriter(directory, part, tokenizer.sep_id, self.dtype, segmented) for part in PARTS}
        self._segmented = segmented
        self.totals = {"documents": 0, "sentences": 0, "repeated_sentences": 0, "bytes": 0}
        self._directory, self._tokenizer, self._advance = directory, tokenizer, advance
        self._counts = np.zeros(len(tokenizer.vocabulary), np.int64)
        self._waiting: list[tuple[Part, list[str]]] = []

    def count(self, document: str, sentences: int, repeated: int) -> None:
        """Count a document that was read, its sentences and its repeated sentences."""
        self.totals["documents"] += 1
        self.totals["sentences"] += sentences
        self.totals["repeated_sentences"] += repeated
        self.totals["bytes"] += len(document.encode("utf-8", "replace"))

    def add(self, part: Part, sentences: list[str]) -> None:
        """Write the sentences of a document."""
        self._waiting.append((part, sentences))
        if sum(len(waiting) for _, waiting in self._waiting) >= _TOKENIZE_BATCH:
            self._flush()

    def _flush(self) -> None:
        everything = [sentence.encode("utf-8", "replace") for _, some in self._waiting for sentence in some]
        # Only ASCII white space parts the words of a segmented text.
        words = [
            [word.decode() for word in each.split()] if self._segmented else [each.decode()] for each in everything
        ]
        tokens = self._tokenizer.token_ids(chain.from_iterable(words))
        ids, splits = tokens.token_ids, tokens.offsets
        self._counts += np.bincount(ids, minlength=len(self._counts))
        begins = np.zeros(len(ids) + 1, np.bool_)
        begins[splits] = True  # A word without tokens has the start of the next one.
        ends = splits[np.cumsum([0, *map(len, words)])]
        row = 0
        for part, some in self._waiting:
            spans = [slice(*ends[row + n : row + n + 2]) for n in range(len(some)) if ends[row + n] < ends[row + n + 1]]
            row += len(some)
            if spans:
                self.parts[part].add([ids[span] for span in spans], [begins[span] for span in spans])
        self._advance(sum(map(len, everything)))
        self._waiting.clear()

    def add_texts(self, part: Part, texts: list[str], max_length: int) -> None:
        """Write each text as a document of one sentence, cut to `max_length` with [CLS] and [SEP]."""
        encoded = self._tokenizer.encode(texts, max_length=max_length)
        for name, count in (("examples", len(encoded)), ("cut_examples", int(encoded.cut.sum()))):
            self.totals[name] = self.totals.get(name, 0) + count
        self._counts += np.bincount(encoded.token_ids, minlength=len(self._counts))
        for begin, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
            self.parts[part].add([encoded.token_ids[begin + 1 : end - 1]])

    def add_logits(self, part: Part, logits: np.ndarray) -> None:
        """Write the teacher's logits (n, C) float32 of the n texts that were added last."""
        self.parts[part].logits.append(logits)

    def close(self, **about: Any) -> None:
        """Finish the files; corpus.json is the last one, and holds `about` and the counts."""
        try:
            if self._waiting:
                self._flush()
        finally:
            for writer in self.parts.values():
                writer.close()
        np.save(self._directory / "counts.npy", self._counts)
        tokens = {f"{part}_tokens": writer.tokens for part, writer in self.parts.items()}
        content = {**about, **self.totals, **tokens, "dtype": self.dtype.str}
        atomic_write(self._directory / "corpus.json", json.dumps(content, indent=2) + "\n")


def store(
    text: PlainText, files: list[Path], tokenizer: Tokenizer, directory: Path, advance: Callable[[int], Any]
) -> None:
    """Tokenize a text into `directory`. Raises UserError if no text is left to train on."""
    writer, seen = CorpusWriter(directory, tokenizer, advance, text.segmented), Seen()
    limit = float("inf") if text.megabytes is None else text.megabytes * 1e6
    try:
        for document in (document for file in files for document in documents(file)):
            if writer.totals["bytes"] >= limit:
                break
            every = sentences(document)
            kept = [one for one in every if len(one) < SHORT or seen.add(text_number(one))]
            writer.count(document, len(every), len(every) - len(kept))
            writer.add("held_out" if is_held_out(document, text.held_out, text.seed) else "train", kept)
    finally:
        writer.close(source=text.source, **({"segmented": True} if text.segmented else {}))
    if not writer.parts["train"].tokens:
        raise UserError(f"{text.source} has no text to train on. Give a file with sentences in UTF-8.")


class Seen:
    """Hold a set of 64-bit numbers in about 8 bytes each: recent ones in a set, the others in an array."""

    def __init__(self, recent: int = 1 << 20):
        self._recent: set[int] = set()
        self._limit, self._sorted = recent, np.zeros(0, np.uint64)

    def add(self, number: int) -> bool:
        """Add a number, and return whether it is new."""
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


def is_held_out(document: str, share: float, seed: int) -> bool:
    """Return whether a document belongs to the held-out `share`."""
    return text_number(document, seed + 1) < share * 2.0**64
