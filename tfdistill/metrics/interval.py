"""Compute the uncertainty of a share that was counted, such as an accuracy. Imports no TensorFlow."""

from __future__ import annotations

from math import sqrt

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
