"""Read a corpus in shards, which `tfdistill corpus` writes, as one corpus.

The order depends on (seed, epoch) alone. The examples of a few shards are mixed with one another;
these groups and their order change every epoch. So only the order of a group is in memory, for a
corpus of any size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.corpora.corpus import DTYPES, Corpus
from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.manifest import Manifest, check
from tfdistill.corpora.parts import Part
from tfdistill.corpora.plain_text import text_files
from tfdistill.corpora.sequences import Batch, CorpusExamples, TextExamples
from tfdistill.errors import UserError
from tfdistill.system.files import read_json
from tfdistill.text.tokenizer import Tokenizer

PREFIX = "corpus:"
_BLOCK = 1 << 22  # ids that are compared at a time
_TOGETHER = 8  # Shards whose examples are mixed with one another.


class ShardedCorpus:
    """Open a corpus that `tfdistill corpus` wrote.

    Args:
        directory: the corpus.
        tokenizer: the tokenizer of the model that will read it.

    Attributes:
        about: the source and the counts of `Corpus.about`, summed over the shards.
        fingerprint: of all files.

    Raises:
        UserError: the directory is not a corpus, a file is missing or damaged, or the corpus was made with
            another vocabulary.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer):
        self.directory, self.tokenizer = directory, tokenizer
        self.manifest = Manifest.read(directory)
        if self.manifest.vocabulary != tokenizer.fingerprint:
            raise UserError(
                f"{directory} was made with another vocabulary than the model's. "
                "Make it with the model's directory for `tfdistill corpus --tokenizer`."
            )
        check(directory, again=False, inspect=self._ids_outside)
        self.shards = [Corpus(directory / name, tokenizer) for name in self.manifest.shards]
        self.about: dict[str, Any] = {"source": self.manifest.source, **self.manifest.totals}
        files = json.dumps(self.manifest.sha256, sort_keys=True)
        self.fingerprint = hashlib.sha256(files.encode()).hexdigest()[:20]

    def _ids_outside(self, path: Path) -> str:
        """Return what is wrong with the token ids of a file, if it holds some; called when a file is read for the first time."""
        if path.suffix != ".ids" or not path.stat().st_size:
            return ""
        dtype = read_json(path.parent / "corpus.json", "").get("dtype")
        if dtype not in DTYPES:
            return "has another type of ids than a corpus"
        width = np.dtype(dtype).itemsize
        ids = np.memmap(path, dtype, "r", shape=(path.stat().st_size // width,))
        blocks = (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
        if any(block.min() < 0 or block.max() >= len(self.tokenizer.vocabulary) for block in blocks):
            return f"has ids outside the vocabulary of {len(self.tokenizer.vocabulary)} tokens"
        return ""

    @cached_property
    def counts(self) -> np.ndarray:
        """The count of each token in the text, (V,)."""
        return np.sum([shard.counts for shard in self.shards], axis=0)

    def tokens(self, part: Part = "train") -> int:
        """Return the number of tokens of a part, including one [SEP] for each document."""
        return int(self.about[f"{part}_tokens"])

    def examples(
        self,
        part: Part = "train",
        *,
        limit: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> TextExamples:
        """Cut a part into sequences, like `Corpus.examples`. `limit` takes those of the first shards."""
        some: list[CorpusExamples] = []
        for number, shard in enumerate(self.shards):
            left = None if limit is None else limit - sum(map(len, some))
            if shard.tokens(part) and left != 0:
                some.append(shard.examples(part, limit=left, seed=seed + number, counts=self.counts, **options))
        if not some:
            raise UserError(f"part '{part}' of {self.directory} is empty. Make the corpus from more text.")
        return ShardedExamples(some, f"{self.fingerprint} {part}")


class ShardedExamples(TextExamples):
    """Make batches from the sequences of all shards; each shard has its own seed for masks."""

    def __init__(self, shards: list[CorpusExamples], fingerprint: str):
        self.shards, self.fingerprint = shards, fingerprint
        self.length, self.masker, self.next_sentence = shards[0].length, shards[0].masker, shards[0].next_sentence
        self._starts = np.cumsum([0, *map(len, shards)])
        self._mixed = lru_cache(maxsize=4)(self._mix)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows_at(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        sizes = np.diff(self._starts)
        ends = np.cumsum([sizes[group].sum() for group in groups_of(len(self.shards), seed, epoch)])
        rows = np.empty(len(places), np.int64)
        which = np.searchsorted(ends, places, side="right")
        for number in np.unique(which):
            start = int(ends[number - 1]) if number else 0
            rows[which == number] = self._mixed(int(number), seed, epoch)[places[which == number] - start]
        return rows

    def _mix(self, number: int, seed: int, epoch: int) -> np.ndarray:
        group = groups_of(len(self.shards), seed, epoch)[number]
        rows = np.concatenate([np.arange(self._starts[n], self._starts[n + 1]) for n in group])
        return np.random.default_rng([seed, epoch, number]).permutation(rows)

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Batch:
        rows = np.asarray(rows, np.int64)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        whole: Batch = {}
        for number in np.unique(which):
            mine = which == number
            own = rows[mine] - self._starts[number]
            part = self.shards[number].batch(own, seed=seed + 7919 * int(number), epoch=epoch)
            for group, values in part.items():
                for name, value in values.items():
                    empty = np.empty((len(rows), *value.shape[1:]), value.dtype)
                    whole.setdefault(group, {}).setdefault(name, empty)[mine] = value
        return whole


def groups_of(count: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the numbers of the shards that are mixed with one another, in the order of an epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return [order[start : start + _TOGETHER] for start in range(0, count, _TOGETHER)]


def read_text(
    text: str,
    tokenizer: Tokenizer,
    *,
    held_out: float = 0.02,
    megabytes: float | None = None,
    segmented: bool = False,
    advance: Callable[[int], object] | None = None,
) -> Corpus | ShardedCorpus:
    """Return the tokenized corpus of plain text, or of "corpus:DIR".

    Args:
        text: a source of `PlainText`, or "corpus:" and the directory of a corpus.
        tokenizer: the tokenizer.
        held_out: share of the documents that is held out.
        megabytes: read only this much text.
        segmented: whether words are separated by spaces, as in segmented Chinese text.
        advance: gets the number of bytes read.

    Raises:
        UserError: like `PlainText` and `ShardedCorpus`, and if `megabytes` or `segmented` is set for a
            corpus, which is cut and tokenized already.
    """
    if not text.startswith(PREFIX):
        plain = PlainText(text, held_out=held_out, megabytes=megabytes, segmented=segmented)
        return plain.prepare(tokenizer, advance=advance)
    if segmented:
        raise UserError(f"`segmented` is set for {text}, which does not store its words. Give the plain text itself.")
    if megabytes is not None:
        raise UserError(f"`megabytes` is {megabytes:g} for {text}, which is read completely. Leave it out.")
    return ShardedCorpus(Path(text.removeprefix(PREFIX)).expanduser(), tokenizer)


def require_text(text: str) -> None:
    """Raise UserError if there is no text, before long work begins."""
    if text.startswith(PREFIX):
        Manifest.read(Path(text.removeprefix(PREFIX)).expanduser())
    else:
        text_files(text)
