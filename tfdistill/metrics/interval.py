"""Compute the uncertainty of a share that was counted, such as an accuracy. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

_DRAWS = 10_000  # bootstrap samples
_Z = 1.959964  # 95 % of a normal distribution lie within this many standard deviations


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` examples; unlike a standard error, it is right at 0 and 1.

    Args:
        share: within [0, 1], such as the accuracy on a test split.
        count: number of examples, at least 1.

    Example:
        wilson(1.0, 30)  # (0.886, 1.0)
    """
    square = _Z * _Z / count
    middle = (share + square / 2) / (1 + square)
    half = _Z * sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(share: float, count: int) -> str:
    """Return Wilson's interval in words, such as "88.6 to 100.0 %"."""
    low, high = wilson(share, count)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def paired(right: Sequence[bool], other: Sequence[bool]) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two accuracies on the same examples, by paired bootstrap.

    Examples are drawn with replacement (Efron and Tibshirani 1993, chapter 13); only how often one model is right and the
    other wrong matters, so that counts are drawn rather than examples. The draws are the same each time.

    Args:
        right: for each example whether the first model is right.
        other: the same for the other model.

    Example:
        paired([True] * 60 + [False] * 40, [True] * 50 + [False] * 50)  # (0.05, 0.16)
    """
    first, second = np.asarray(right, bool), np.asarray(other, bool)
    counts = np.array([(first & ~second).sum(), (second & ~first).sum(), (first == second).sum()])
    size = len(first)
    drawn = np.random.default_rng(0).multinomial(size, counts / size, size=_DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / size, (0.025, 0.975))
    return float(low), float(high)


def unpaired(share: float, count: int, other: float, others: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of different examples (Newcombe 1998, method 10).

    Args:
        share: the first share, of `count` examples.
        count: number of examples of the first share.
        other: the other share.
        others: number of its examples.
    """
    (low, high), (other_low, other_high) = wilson(share, count), wilson(other, others)
    below = sqrt((share - low) ** 2 + (other_high - other) ** 2)
    above = sqrt((high - share) ** 2 + (other - other_low) ** 2)
    return share - other - below, share - other + above
