"""Corpora in many shards, as `tfdistill corpus` writes them: read as one, in an order that depends on (seed, epoch) alone.

A shard is a directory like that of a `Corpus`. Rows of some shards are mixed among themselves, these groups and what each
holds change from epoch to epoch; so what is needed of the order is in memory, whatever the size of the corpus. With several
workers each reads only its own rows of every batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.cache.checksums import damage
from tfdistill.corpora.corpus import Corpus
from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.parts import Part
from tfdistill.corpora.plain_text import text_files
from tfdistill.corpora.sequences import TextExamples
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

MANIFEST = "manifest.json"
KEYS = ("source", "settings", "vocabulary", "totals", "shards", "sha256")
PREFIX = "corpus:"
_TOGETHER = 8  # shards whose rows are mixed with one another


class ShardedCorpus:
    """A corpus that `tfdistill corpus` wrote.

    Attributes: as `Corpus`; `about` sums the shards up and has the manifest's settings, `fingerprint` is of all files.

    Raises:
        UserError: the directory is none, a file of it is missing or damaged, or it was made with another vocabulary than that of
            `tokenizer`.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer):
        self.directory, self.tokenizer = directory, tokenizer
        self.manifest = read_manifest(directory)
        if self.manifest["vocabulary"] != tokenizer.fingerprint:
            raise UserError(
                f"{directory} was made with another vocabulary than the model's; expected the same: "
                "tfdistill corpus … --tokenizer with the model's directory"
            )
        check(directory, again=False)
        self.shards = [Corpus(directory / name, tokenizer) for name in self.manifest["shards"]]
        self.about: dict[str, Any] = {"source": self.manifest["source"], **self.manifest["totals"]}
        files = json.dumps(self.manifest["sha256"], sort_keys=True)
        self.fingerprint = hashlib.sha256(files.encode()).hexdigest()[:20]

    @cached_property
    def counts(self) -> np.ndarray:
        return np.sum([shard.counts for shard in self.shards], axis=0)

    def tokens(self, part: Part = "train") -> int:
        return int(self.about[f"{part}_tokens"])

    def examples(
        self,
        part: Part = "train",
        *,
        limit: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> TextExamples:
        """As `Corpus.examples`, with the same options. With `limit` the sequences are those of the first shards."""
        some: list[TextExamples] = []
        for number, shard in enumerate(self.shards):
            left = None if limit is None else limit - sum(map(len, some))
            if shard.tokens(part) and left != 0:
                some.append(shard.examples(part, limit=left, seed=seed + number, counts=self.counts, **options))
        if not some:
            raise UserError(
                f"nothing of {self.directory} is in its part '{part}'; expected some text there: make it with more"
            )
        return ShardedExamples(some, f"{self.fingerprint} {part}")


class ShardedExamples(TextExamples):
    """The sequences of all shards, numbered through. Those of shard n are masked by a seed of their own."""

    def __init__(self, shards: list[TextExamples], fingerprint: str):
        self.shards, self.fingerprint = shards, fingerprint
        self.length, self.masker, self.next_sentence = shards[0].length, shards[0].masker, shards[0].next_sentence
        self._starts = np.cumsum([0, *map(len, shards)])
        self._mixed = lru_cache(maxsize=4)(self._mix)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows_at(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        sizes = np.diff(self._starts)
        groups = _groups(len(self.shards), seed, epoch)
        ends = np.cumsum([sizes[group].sum() for group in groups])
        rows = np.empty(len(places), np.int64)
        which = np.searchsorted(ends, places, side="right")
        for number in np.unique(which):
            start = int(ends[number - 1]) if number else 0
            rows[which == number] = self._mixed(int(number), seed, epoch)[places[which == number] - start]
        return rows

    def _mix(self, number: int, seed: int, epoch: int) -> np.ndarray:
        group = _groups(len(self.shards), seed, epoch)[number]
        rows = np.concatenate([np.arange(self._starts[n], self._starts[n + 1]) for n in group])
        return np.random.default_rng([seed, epoch, number]).permutation(rows)

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> dict[str, dict[str, np.ndarray]]:
        rows = np.asarray(rows, np.int64)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        made: dict[str, dict[str, np.ndarray]] = {}
        for number in np.unique(which):
            mine = which == number
            part = self.shards[number].batch(
                rows[mine] - self._starts[number], seed=seed + 7919 * int(number), epoch=epoch
            )
            for group, values in part.items():
                for name, value in values.items():
                    whole = made.setdefault(group, {}).setdefault(
                        name, np.empty((len(rows), *value.shape[1:]), value.dtype)
                    )
                    whole[mine] = value
        return made


def _groups(count: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Numbers of the shards that are mixed with one another, in the order in which they are read."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return [order[start : start + _TOGETHER] for start in range(0, count, _TOGETHER)]


def read_text(
    text: str,
    tokenizer: Tokenizer,
    *,
    held_out: float = 0.02,
    megabytes: float | None = None,
    segmented: bool = False,
    advance: Callable[[int], Any] | None = None,
) -> Corpus | ShardedCorpus:
    """The tokenized corpus of what `PlainText` reads, or of "corpus:DIR".

    Raises UserError as these do, and for `megabytes` or `segmented` of a corpus, which is cut and tokenized already.
    """
    if not text.startswith(PREFIX):
        plain = PlainText(text, held_out=held_out, megabytes=megabytes, segmented=segmented)
        return plain.prepare(tokenizer, advance=advance)
    if segmented:
        raise UserError(
            f"segmented is set for {text}, which does not say what its words are; expected the plain text itself"
        )
    if megabytes is not None:
        raise UserError(f"megabytes is {megabytes:g} for {text}, which is read whole; leave it out")
    return ShardedCorpus(Path(text.removeprefix(PREFIX)).expanduser(), tokenizer)


def require_text(text: str) -> None:
    """Raises UserError where there is no text, before anything long is begun."""
    if text.startswith(PREFIX):
        read_manifest(Path(text.removeprefix(PREFIX)).expanduser())
    else:
        text_files(text)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Raises UserError for a directory that is no corpus."""
    try:
        said = dict(json.loads((directory / MANIFEST).read_text("utf-8")))
        if missing := [key for key in KEYS if key not in said]:
            raise ValueError(f"{MANIFEST} has no {', '.join(missing)}")
        return said
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{directory} is no corpus ({error}); expected a directory that tfdistill corpus wrote"
        ) from error


def check(directory: Path, *, again: bool = True) -> None:
    """Raises UserError for the first file that is missing or is not the one that was written; `again` as in `damage`."""
    wrong = damage(directory, read_manifest(directory)["sha256"], again=again)
    if wrong:
        raise UserError(
            f"{directory / wrong}; delete {directory} and make it again, by the same tfdistill corpus command"
        )
