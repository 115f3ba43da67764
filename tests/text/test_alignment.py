"""Token losses between models that read different pieces: word by word."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tfdistill import losses
from tfdistill.data.batching import Examples, dataset
from tfdistill.distill.features import Features
from tfdistill.distill.match import Match
from tfdistill.distill.step import Step
from tfdistill.text.alignment import align_words
from tfdistill.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PIECES = Tokenizer([*SPECIAL, "un", "##do", "it", "a", "b", "##b"])
WHOLE = Tokenizer([*SPECIAL, "b", "bb", "undo", "it", "a", "bbb"])


def words(texts, texts_b=None, length=16, other_length=16):
    first, second = (
        PIECES.encode(texts, texts_b, max_length=length),
        WHOLE.encode(texts, texts_b, max_length=other_length),
    )
    return [part.words.tolist() for part in align_words(first, PIECES, second, WHOLE)]


def test_pieces_of_one_word_have_one_number():
    assert words(["undo it"]) == [[0, 1, 1, 2, -1], [0, 1, 2, -1]]
    assert words(["a", "undo"]) == [[0, 1, -1, 0, 1, 1, -1], [0, 1, -1, 0, 1, -1]]
    assert words(["undo"], ["it undo"]) == [[0, 1, 1, -1, 2, 3, 3, -1], [0, 1, -1, 2, 3, -1]]


def test_words_that_one_of_them_was_cut_of_do_not_count():
    assert words(["undo it a"], length=5) == [[0, 1, 1, 2, -1], [0, 1, 2, -1, -1]]
    assert words(["undo it", "a"], ["a", "it"], length=5, other_length=16)[0] == [0, 1, -1, 2, -1, 0, 1, -1, 2, -1]


def test_other_texts_are_refused():
    first, second = PIECES.encode(["a"], max_length=8), WHOLE.encode(["a", "b"], max_length=8)
    with pytest.raises(ValueError, match="1 and 2"):
        align_words(first, PIECES, second, WHOLE)


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    st.lists(st.lists(st.sampled_from(["undo", "it", "a", "bbb", "b", "zzz"]), max_size=6), min_size=1, max_size=4)
)
def test_both_number_the_same_words(texts):
    found = align_words(
        (first := PIECES.encode([" ".join(t) for t in texts], max_length=32)), PIECES,
        WHOLE.encode([" ".join(t) for t in texts], max_length=32), WHOLE,
    )  # fmt: skip
    for row, text in enumerate(texts):
        for part in found:
            own = part.words[part.offsets[row] : part.offsets[row + 1]].tolist()
            assert own[0] == 0 and own[-1] == -1
            assert list(dict.fromkeys(own[1:-1])) == list(range(1, len(text) + 1)), (text, own)
    assert found[0].take([0]).words.tolist() == found[0].words[: first.offsets[1]].tolist()


def test_one_piece_a_word_is_token_by_token_without_sep():
    texts = ["it a", "a b b it a"]
    encoded = PIECES.encode(texts, max_length=8)
    batch = next(iter(dataset(Examples(*_parts(align_words(encoded, PIECES, encoded, PIECES))), 2, shuffle=False)))
    states = tf.random.normal((2, *batch["student"]["token_ids"].shape[1:2], 3), seed=1)
    other = tf.random.normal(states.shape, seed=2)
    match = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1),))
    aligned = match(
        Step(
            Features(hidden_states=(states,), words=batch["student"]["words"]),
            Features(hidden_states=(other,), words=batch["teacher"]["words"]),
        )
    )
    real = batch["student"]["padding_mask"] * tf.cast(batch["student"]["token_ids"] != PIECES.sep_id, tf.int32)
    plain = match(Step(Features(hidden_states=(states,), mask=real), Features(hidden_states=(other,))))
    np.testing.assert_allclose(aligned, plain, rtol=1e-6)


def _parts(pair):
    return pair[0], None, pair[1]
