"""Unlabelled text made from labelled text, for distillation.

`augment_tang`: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks". Words are
masked, then perhaps an n-gram of the text is kept. The paper's third operation, a word of the same part of speech,
needs a table that we do not have yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdistill.data.textdata import Split

_FIRST, _SECOND = 0, 1  # which text of a pair, as part of the random stream's name


@dataclass(frozen=True, eq=False)
class Augmented:
    """New texts. Row r was made from example `source[r]` as its copy number `copy[r]`; both int64 (rows,)."""

    texts: list[str]
    texts_b: list[str] | None
    source: np.ndarray
    copy: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


def augment_tang(
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    *,
    copies: int,
    seed: int,
    p_mask: float = 0.1,
    p_ng: float = 0.25,
    ngram: tuple[int, int] = (1, 5),
    mask: str = "[MASK]",
    pos_table: Mapping[str, object] | None = None,
) -> Augmented:
    """Up to `copies` new texts from each text; 20 for single texts and 10 for pairs in the paper.

    A word is what stands between white space. Each becomes `mask` with probability `p_mask`; then, with probability
    `p_ng`, only n words in a row are kept, n drawn from `ngram` (both ends included). The texts of a pair are changed
    independently. Copy c of example i depends on (seed, i, c) and its own text alone (`tang_copy` makes it again). What
    equals one of the given texts, or an earlier row, is left out; white space does not count.

    Raises ValueError when an argument is out of range, NotImplementedError with a `pos_table`.
    """
    _check(texts, texts_b, copies, seed, p_mask, p_ng, ngram)
    if pos_table is not None:
        raise NotImplementedError(
            "replacement by words of the same part of speech is not built yet; leave pos_table out"
        )
    words = [text.split() for text in texts]
    words_b = None if texts_b is None else [text.split() for text in texts_b]
    # Joined words stand for a text; \n cannot occur in them, so a pair is one string.
    seen = {_key(words[i], None if words_b is None else words_b[i]) for i in range(len(words))}
    new: list[str] = []
    new_b: list[str] = []
    source: list[int] = []
    numbers: list[int] = []
    for i in range(len(words)):
        for copy in range(copies):
            a = _tang(words[i], (seed, i, copy, _FIRST), p_mask, p_ng, ngram, mask)
            b = None if words_b is None else _tang(words_b[i], (seed, i, copy, _SECOND), p_mask, p_ng, ngram, mask)
            key = _key(a, b)
            if key in seen:
                continue
            seen.add(key)
            new.append(" ".join(a))
            if b is not None:
                new_b.append(" ".join(b))
            source.append(i)
            numbers.append(copy)
    return Augmented(
        new, None if texts_b is None else new_b, np.array(source, dtype=np.int64), np.array(numbers, dtype=np.int64)
    )


def tang_copy(
    text: str,
    *,
    seed: int,
    index: int,
    copy: int,
    second: bool = False,
    p_mask: float = 0.1,
    p_ng: float = 0.25,
    ngram: tuple[int, int] = (1, 5),
    mask: str = "[MASK]",
) -> str:
    """Copy `copy` of example `index` alone, as `augment_tang` makes it. `second`: the text is the second of a pair."""
    stream = (seed, index, copy, _SECOND if second else _FIRST)
    return " ".join(_tang(text.split(), stream, p_mask, p_ng, ngram, mask))


def _key(words: list[str], words_b: list[str] | None) -> str:
    return " ".join(words) if words_b is None else " ".join(words) + "\n" + " ".join(words_b)


def _tang(
    words: list[str],
    stream: tuple[int, int, int, int],
    p_mask: float,
    p_ng: float,
    ngram: tuple[int, int],
    mask: str,
) -> list[str]:
    seed, index, copy, side = stream
    # Philox is counter-based: another key, or another high word of the counter, is an independent stream.
    random = np.random.Generator(
        np.random.Philox(
            key=np.array([seed, index], dtype=np.uint64), counter=np.array([0, 0, side, copy], dtype=np.uint64)
        )
    )
    draws = random.random(len(words) + 3)
    # A part-of-speech replacement belongs here: it takes the draws from p_mask to p_mask + p_pos.
    changed = [mask if draw < p_mask else word for word, draw in zip(words, draws, strict=False)]
    keep, length, start = draws[len(words) :]
    if keep < p_ng:
        low, high = ngram
        n = min(low + int(length * (high - low + 1)), len(changed))
        begin = int(start * (len(changed) - n + 1))
        changed = changed[begin : begin + n]
    return changed


def _check(
    texts: Sequence[str],
    texts_b: Sequence[str] | None,
    copies: int,
    seed: int,
    p_mask: float,
    p_ng: float,
    ngram: tuple[int, int],
) -> None:
    if texts_b is not None and len(texts_b) != len(texts):
        raise ValueError(f"got {len(texts_b)} texts_b; expected {len(texts)}, as many as texts")
    if copies < 0:
        raise ValueError(f"got copies={copies}; expected 0 or more")
    if not 0 <= seed < 2**64:
        raise ValueError(f"got seed={seed}; expected 0 to 2**64 - 1")
    if not (0 <= p_mask <= 1 and 0 <= p_ng <= 1):
        raise ValueError(f"got p_mask={p_mask} and p_ng={p_ng}; expected probabilities from 0 to 1")
    if not 1 <= ngram[0] <= ngram[1]:
        raise ValueError(f"got ngram={ngram}; expected (shortest, longest) with 1 <= shortest <= longest")


def augment_split(copies: int, **options: Any) -> Callable[[Split, int], Split]:
    """A function (split, seed) -> the augmented rows of `split`, each with its source's label.

    `options` are those of `augment_tang`.
    """

    def augment(split: Split, seed: int) -> Split:
        made = augment_tang(split.texts, split.texts_b, copies=copies, seed=seed, **options)
        return Split(made.texts, made.texts_b, None if split.labels is None else split.labels[made.source])

    return augment
