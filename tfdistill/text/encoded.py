"""Hold tokenized texts in memory, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TEXT_SHIFT = 24  # bits of a word's number in `Encoded.places`


@dataclass(frozen=True)
class Encoded:
    """Hold tokenized examples: example i has the tokens offsets[i]:offsets[i + 1].

    Args:
        token_ids: (total,) int32.
        segment_ids: (total,) int32.
        offsets: (n + 1,) int64.
        words: (total,) int32, the word of each token, from `tfdistill.text.alignment`; or None.
        uncut: (n,) int64, the number of tokens of each example before it was cut; None if that is not known.
        places: (total,) int32, text number << TEXT_SHIFT | word + 1 of each token, −1 outside of words; None if the token
            ids show it, as those of BERT do.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    offsets: np.ndarray
    words: np.ndarray | None = None
    uncut: np.ndarray | None = None
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, (n,) int64."""
        return np.diff(self.offsets)

    @property
    def cut(self) -> np.ndarray:
        """Whether the end of each example was cut, (n,) bool."""
        return np.zeros(len(self), bool) if self.uncut is None else self.uncut > self.lengths

    def rows(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the token ids of the examples `indices`, one array each."""
        return [self.token_ids[self.offsets[i] : self.offsets[i + 1]] for i in self._positions(indices)]

    def take(self, indices: Sequence[int] | np.ndarray) -> Encoded:
        """Return the examples `indices`, in that order."""
        positions = self._positions(indices)
        lengths = self.lengths[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[positions] - offsets[:-1], lengths) + np.arange(offsets[-1])
        words = None if self.words is None else self.words[source]
        uncut = None if self.uncut is None else self.uncut[positions]
        places = None if self.places is None else self.places[source]
        return Encoded(self.token_ids[source], self.segment_ids[source], offsets, words, uncut, places)

    @classmethod
    def concatenate(cls, others: Sequence[Encoded]) -> Encoded:
        """Return the examples of all `others`, one after the other, without `words`, `uncut` and `places`."""
        lengths = np.concatenate([np.zeros(0, np.int64), *(other.lengths for other in others)])
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(other.token_ids for other in others)]),
            np.concatenate([np.zeros(0, np.int32), *(other.segment_ids for other in others)]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )

    def _positions(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        positions = np.asarray(indices, np.int64).reshape(-1)
        positions = np.where(positions < 0, positions + len(self), positions)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"example out of range: {np.asarray(indices).tolist()} of {len(self)} examples")
        return positions


@dataclass(frozen=True)
class Tokens:
    """Hold the tokens of texts without [CLS] and [SEP], and where each comes from.

    Args:
        ids: (total,) int32. Text i has the tokens offsets[i]:offsets[i + 1].
        starts: (total,) int32, the first character of each token in its text.
        ends: (total,) int32, the character after the last one of each token.
        words: (total,) int32, the number of the word in its text, from 0.
        offsets: (n + 1,) int64.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, number: int) -> Tokens:
        """Return the tokens of one text."""
        part = slice(self.offsets[number], self.offsets[number + 1])
        size = np.array([0, part.stop - part.start], np.int64)
        return Tokens(self.ids[part], self.starts[part], self.ends[part], self.words[part], size)
