"""Hold a tokenized corpus in memory, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Encoded:
    """A tokenized corpus in memory, without padding: row i lies at offsets[i]:offsets[i + 1].

    Args:
        token_ids: (total,) int32.
        segment_ids: (total,) int32.
        offsets: (n + 1,) int64.
        words: (total,) int32, the word of each token as `tfdistill.text.alignment` numbers them; None where nobody asked.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    offsets: np.ndarray
    words: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row, (n,) int64."""
        return np.diff(self.offsets)

    def rows(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """The token ids of the rows `indices`, one array each."""
        return [self.token_ids[self.offsets[i] : self.offsets[i + 1]] for i in self._positions(indices)]

    def take(self, indices: Sequence[int] | np.ndarray) -> Encoded:
        """The rows `indices`, in that order, as a corpus of their own."""
        positions = self._positions(indices)
        lengths = self.lengths[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[positions] - offsets[:-1], lengths) + np.arange(offsets[-1])
        words = None if self.words is None else self.words[source]
        return Encoded(self.token_ids[source], self.segment_ids[source], offsets, words)

    @classmethod
    def concatenate(cls, others: Sequence[Encoded]) -> Encoded:
        """All rows of `others`, one corpus after the other."""
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
            raise IndexError(f"row index out of range: {np.asarray(indices).tolist()} of {len(self)} rows")
        return positions
