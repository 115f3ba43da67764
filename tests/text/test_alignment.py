"""Numbers of the words that two tokenizers share."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from tfdistill.text.alignment import align_words
from tfdistill.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SMALL = Tokenizer([*SPECIAL, "un", "##do", "it", "a", "b", "##b"])
WHOLE = Tokenizer([*SPECIAL, "b", "bb", "undo", "it", "a", "bbb"])


def words(texts, texts_b=None, length=16, other_length=16):
    first, second = (
        SMALL.encode(texts, texts_b, max_length=length),
        WHOLE.encode(texts, texts_b, max_length=other_length),
    )
    return [part.words.tolist() for part in align_words(first, SMALL, second, WHOLE)]


def test_tokens_of_one_word_have_one_number():
    assert words(["undo it"]) == [[0, 1, 1, 2, -1], [0, 1, 2, -1]]
    assert words(["a", "undo"]) == [[0, 1, -1, 0, 1, 1, -1], [0, 1, -1, 0, 1, -1]]
    assert words(["undo"], ["it undo"]) == [[0, 1, 1, -1, 2, 3, 3, -1], [0, 1, -1, 2, 3, -1]]


def test_words_that_one_of_them_was_cut_of_do_not_count():
    assert words(["undo it a"], length=5) == [[0, 1, 1, 2, -1], [0, 1, 2, -1, -1]]
    assert words(["undo it", "a"], ["a", "it"], length=5, other_length=16)[0] == [0, 1, -1, 2, -1, 0, 1, -1, 2, -1]


def test_other_texts_are_refused():
    first, second = SMALL.encode(["a"], max_length=8), WHOLE.encode(["a", "b"], max_length=8)
    with pytest.raises(ValueError, match="1 and 2"):
        align_words(first, SMALL, second, WHOLE)


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    st.lists(st.lists(st.sampled_from(["undo", "it", "a", "bbb", "b", "zzz"]), max_size=6), min_size=1, max_size=4)
)
def test_both_number_the_same_words(texts):
    aligned = align_words(
        (first := SMALL.encode([" ".join(t) for t in texts], max_length=32)), SMALL,
        WHOLE.encode([" ".join(t) for t in texts], max_length=32), WHOLE,
    )  # fmt: skip
    for row, text in enumerate(texts):
        for part in aligned:
            own = part.words[part.offsets[row] : part.offsets[row + 1]].tolist()
            assert own[0] == 0 and own[-1] == -1
            assert list(dict.fromkeys(own[1:-1])) == list(range(1, len(text) + 1)), (text, own)
    assert aligned[0].take([0]).words.tolist() == aligned[0].words[: first.offsets[1]].tolist()
