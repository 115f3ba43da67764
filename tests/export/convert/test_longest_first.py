"""Cutting a pair of texts inside a graph."""

from __future__ import annotations

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdistill.export.convert.text_graph import longest_first

pytestmark = pytest.mark.heavy


def reference_truncation(first: int, second: int, room: int) -> tuple[int, int]:
    """What is kept of a pair. Written from the description of `longest_first` in the Rust library."""
    if first + second <= room:
        return first, second
    if first > second:
        return reference_truncation(second, first, room)[::-1]
    kept = first
    other = kept if kept > room else max(kept, room - kept)
    if kept + other > room:
        kept = room // 2
        other = room - kept
    return kept, other


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=20), st.integers(2, 45))
def test_longest_first(lengths, room):
    first, second = (tf.constant(column, tf.int64) for column in zip(*lengths, strict=True))
    kept = longest_first(first, second, room)
    expected = [reference_truncation(*pair, room) for pair in lengths]
    assert list(zip(*(part.numpy().tolist() for part in kept), strict=True)) == expected
