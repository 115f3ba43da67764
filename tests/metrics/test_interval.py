"""Test Wilson's interval against published values."""

from __future__ import annotations

import pytest

from tfdistill.metrics.interval import interval, paired, unpaired, wilson


@pytest.mark.parametrize(
    ("right", "count", "expected"),
    [  # statsmodels.stats.proportion.proportion_confint(right, count, method="wilson")
        (30, 30, (0.8864829, 1.0)),
        (0, 30, (0.0, 0.1135171)),
        (81, 263, (0.2552784, 0.3661764)),  # Newcombe 1998, table I: 0.2553 to 0.3662
        (15, 148, (0.0624011, 0.1605297)),  # Newcombe 1998: 0.0624 to 0.1605
        (1, 29, (0.0061177, 0.1717630)),  # Newcombe 1998: 0.0061 to 0.1718
    ],
)
def test_values(right, count, expected):
    assert wilson(right / count, count) == pytest.approx(expected, abs=5e-5)


def test_words():
    assert interval(1.0, 30) == "88.6 to 100.0 %"


def test_a_paired_difference_reads_only_the_examples_that_differ():
    low, high = paired([True] * 60 + [False] * 40, [True] * 50 + [False] * 50)
    assert low == pytest.approx(0.05, abs=0.011) and high == pytest.approx(0.16, abs=0.011)
    assert paired([True, False], [True, False]) == (0.0, 0.0)
    # The normal approximation of the same: 0.10 ± 1.96 · sqrt(0.1 · 0.9 / 100).
    assert (high - low) / 2 == pytest.approx(0.0588, abs=0.006)


def test_newcombes_interval_of_two_shares():
    """Newcombe 1998, table II: 56/70 − 48/80 has the interval 0.0524 to 0.3339 by method 10."""
    low, high = unpaired(56 / 70, 70, 48 / 80, 80)
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
