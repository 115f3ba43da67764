"""Texts that are longer than a model reads are counted where they are encoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.cut_texts import cut_line, shortest_length
from tfdistill.data.question_data import QuestionData, QuestionSplit
from tfdistill.data.splits import Split
from tfdistill.data.squad import Question
from tfdistill.data.tagged_data import TaggedData, TaggedSplit
from tfdistill.data.text_data import TextData
from tfdistill.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b"])


def words(count: int) -> str:
    return " ".join(["a"] * count)


def test_encoding_counts_the_tokens_before_cutting():
    encoded = TOKENIZER.encode([words(3), words(4), words(9), ""], max_length=6)
    assert encoded.lengths.tolist() == [5, 6, 6, 2]
    assert encoded.uncut.tolist() == [5, 6, 11, 2]
    assert encoded.cut.tolist() == [False, False, True, False]
    assert encoded.take([2, 0]).cut.tolist() == [True, False]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=8), st.integers(5, 20))
def test_pairs_are_counted_like_texts(sizes, length):
    first, second = [words(a) for a, _ in sizes], [words(b) for _, b in sizes]
    encoded = TOKENIZER.encode(first, second, max_length=length)
    assert encoded.uncut.tolist() == [a + b + 3 for a, b in sizes]
    assert encoded.cut.tolist() == [a + b + 3 > length for a, b in sizes]


def test_tags_of_words_that_were_cut_are_counted():
    data = TaggedData("tags", {"dev": TaggedSplit([["a"] * 3, ["a"] * 8], [["O"] * 3, ["O"] * 8])}, ("O", "B-X"))
    rows = data.encode(data.splits["dev"], TOKENIZER, 6)
    assert rows.encoded.uncut.tolist() == [5, 10]
    assert "50.0 % of the rows (1 of 2)" in rows.cut_line(6)


def test_only_long_questions_are_cut():
    def question(number: int, size: int) -> Question:
        return Question(str(number), words(size), words(60), ())

    data = QuestionData("squad", {"dev": QuestionSplit([question(0, 3), question(1, 30)])})
    rows = data.encode(data.splits["dev"], TOKENIZER, 32)
    assert "(1 of 2)" in rows.cut_line(32) and "max_question_length" in rows.cut_line(32)
    short = data.encode(data.splits["dev"].take([0]), TOKENIZER, 32)
    assert len(short.encoded) > 1 and short.cut_line(32) is None  # several windows, nothing lost


@pytest.mark.parametrize(
    ("uncut", "longest", "expected"),
    [
        (np.arange(1, 101), None, 96),  # 97 to 100 are longer: 4 %
        (np.arange(1, 21), None, 24),  # one of twenty would be 5 %
        (np.full(10, 30), None, 32),
        (np.full(10, 600), 512, 512),
        (np.zeros(0, np.int64), None, 8),
    ],
)
def test_the_proposed_length_cuts_fewer_than_five_percent(uncut, longest, expected):
    assert shortest_length(uncut, longest) == expected
    if longest is None and len(uncut):
        assert np.mean(uncut > expected) < 0.05


def test_the_line_has_share_length_and_proposal():
    data = TextData("texts", {"dev": Split([words(4)] * 63 + [words(28)] * 37)}, ("no", "yes"))
    rows = data.encode(data.splits["dev"], TOKENIZER, 8)
    line = rows.cut_line(8, option="--set max_length=")
    assert "37.0 %" in line and "8 tokens" in line and "--set max_length=32" in line
    assert "--length 16" in rows.cut_line(8, option="--length", longest=16)
    assert "--" not in rows.cut_line(8)
    assert cut_line(TOKENIZER.encode([words(6)], max_length=8), 8) is None
