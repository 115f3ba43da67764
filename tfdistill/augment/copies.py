"""Copies of texts that an augmentation makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfdistill.data.splits import Split

FIRST, SECOND = 0, 1  # which text of a pair, as part of the random stream's name


@dataclass(frozen=True, eq=False)
class Augmented:
    """New texts. Row r was made from example `source[r]` as its copy number `copy[r]`; both int64 (rows,)."""

    texts: list[str]
    texts_b: list[str] | None
    source: np.ndarray
    copy: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Stream:
    """The random numbers of one copy of one text: the same ones whatever else is made."""

    seed: int
    index: int
    copy: int
    side: int = FIRST

    def random(self, count: int, use: int = 0) -> np.ndarray:
        """`count` numbers in [0, 1), float64; of each `use` others."""
        # Philox is counter-based: another key, or another high word of the counter, is an independent stream.
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
    """`copy` of every text, `copies` times, less what equals one of the texts or an earlier row.

    `by_turns`: of the copies of a pair the first changes its first text, the next the second one, the next both, and so on, as in Tang
    et al. 2019, section 3.3; else all change both.

    Raises ValueError when an argument is out of range.
    """
    if texts_b is not None and len(texts_b) != len(texts):
        raise ValueError(f"got {len(texts_b)} texts_b; expected {len(texts)}, as many as texts")
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
    """What two rows that count as equal have in common: the words. \\n cannot occur in them, so a pair is one string."""
    return " ".join(text.split()) + ("" if text_b is None else "\n" + " ".join(text_b.split()))


def augmented_split(split: Split, made: Augmented, first: int = 0) -> Split:
    """Rows made from `split`, each with its source's label and extra texts. `first` as in `augment_tang`."""
    source = made.source - first
    return Split(
        made.texts,
        made.texts_b,
        None if split.labels is None else split.labels[source],
        tuple([column[i] for i in source] for column in split.texts_extra),
    )
