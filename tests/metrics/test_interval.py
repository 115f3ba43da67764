"""Test Wilson's interval against published values."""

from __future__ import annotations

import pytest

from tfdistill.metrics.interval import interval, wilson


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
