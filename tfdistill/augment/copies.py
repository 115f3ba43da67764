"""Make copies of texts by an augmentation, and drop duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfdistill.data.splits import Split

FIRST, SECOND = 0, 1  # which text of a pair, as part of the random stream's name


@dataclass(frozen=True, eq=False)
class Augmented:
    """Hold new texts. Row r is copy number `copy[r]` of example `source[r]`; both (rows,) int64."""

    texts: list[str]
    texts_b: list[str] | None
    source: np.ndarray
    copy: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Stream:
    """Give the random numbers of one copy of one text, independent of all other copies."""

    seed: int
    index: int
    copy: int
    side: int = FIRST

    def random(self, count: int, use: int = 0) -> np.ndarray:
        """Return `count` numbers in [0, 1), float64; each `use` has a different stream."""
        # Philox is counter-based: another key or another high word of the counter gives an independent stream.
        counter = np.array([0, use, self.side, self.copy], dtype=np.uint64)
        key = np.array([self.seed, self.index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter)).random(count)


def make_copies(
    texts: Sequence[str],
    texts_b: Sequence[str] | None,
    copy: Callable[[str, Stream], str],
    *,
    copies: int,
    seed: int,
    first: int = 0,
    by_turns: bool = False,
) -> Augmented:
    """Copy every text, without duplicates of the texts or of earlier copies.

    Args:
        texts: the first text of each example.
        texts_b: the second text of each pair; None for single texts.
        copy: makes one copy of one text from its random numbers.
        copies: copies of each example.
        seed: the seed of all copies.
        first: the number of the first example, if these are a part of many.
        by_turns: of a pair, change the first text, the second and both in turn, as in Tang et al.
            2019, section 3.3. Otherwise every copy changes both.

    Raises:
        ValueError: an argument is out of range.
    """
    if texts_b is not None and len(texts_b) != len(texts):
        raise ValueError(f"got {len(texts_b)} texts_b; expected {len(texts)}, one for each text")
    if copies < 0:
        raise ValueError(f"got copies={copies}; expected 0 or more")
    if not 0 <= seed < 2**64:
        raise ValueError(f"got seed={seed}; expected 0 to 2**64 - 1")
    seen = {row_key(text, None if texts_b is None else texts_b[i]) for i, text in enumerate(texts)}
    made = Augmented([], None if texts_b is None else [], np.zeros(0, np.int64), np.zeros(0, np.int64))
    rows: list[tuple[int, int]] = []
    for i, text in enumerate(texts):
        for number in range(copies):
            turn = number % 3 if by_turns and texts_b is not None else 2
            new = text if turn == 1 else copy(text, Stream(seed, first + i, number, FIRST))
            new_b = None if texts_b is None else texts_b[i]
            if new_b is not None and turn != 0:
                new_b = copy(new_b, Stream(seed, first + i, number, SECOND))
            key = row_key(new, new_b)
            if key in seen:
                continue
            seen.add(key)
            rows.append((first + i, number))
            made.texts.append(new)
            if made.texts_b is not None and new_b is not None:
                made.texts_b.append(new_b)
    source, number_of = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return replace(made, source=source, copy=number_of)


def row_key(text: str, text_b: str | None = None) -> str:
    """Return the words of an example, which duplicates share. White space does not count."""
    return " ".join(text.split()) + ("" if text_b is None else "\n" + " ".join(text_b.split()))


def augmented_split(split: Split, made: Augmented, first: int = 0) -> Split:
    """Return the copies with the labels and extra texts of their sources.

    Args:
        split: the examples.
        made: their copies.
        first: the number of the first example, as in `make_copies`.
    """
    source = made.source - first
    return Split(
        made.texts,
        made.texts_b,
        None if split.labels is None else split.labels[source],
        tuple([column[i] for i in source] for column in split.texts_extra),
    )
