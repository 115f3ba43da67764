"""Features of words, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfdistill import losses
from tfdistill.data.batching import Examples, dataset
from tfdistill.distill.features import Features
from tfdistill.distill.match import Match
from tfdistill.distill.step import Step
from tfdistill.errors import UserError
from tfdistill.text.alignment import align_words
from tfdistill.text.tokenizer import Tokenizer


def test_a_words_state_is_the_mean_of_its_pieces():
    student = Features(
        hidden_states=(tf.constant([[[1.0], [2.0], [4.0], [6.0], [9.0], [9.0]]]),), words=[[0, 1, 1, 2, -1, -1]]
    )
    teacher = Features(hidden_states=(tf.constant([[[1.5], [3.0], [4.0], [9.0]]]),), words=[[0, 1, 2, -1]])
    step = Step(student, teacher)
    # [CLS] 1 and 1.5, "undo" (2 + 4) / 2 and 3, "it" 6 and 4; no [SEP], no padding.
    sums, counts = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1),))(step)
    np.testing.assert_allclose((sums, counts), [[0.25 + 0 + 4], [3]])


def test_a_words_attention_is_the_mean_over_its_pieces():
    scores = np.array([[0, 2, 4], [1, 3, 5], [7, 9, 11]], "float32")  # [CLS], un, ##do
    student = Features(attention_scores=(tf.constant(scores[None, None]),), words=[[0, 1, 1]])
    teacher = Features(attention_scores=(tf.constant([[[[1.0, 3.0], [4.0, 7.0]]]]),), words=[[0, 1]])
    sums, counts = Match(losses.attention_mse, on="attention_scores", layers=((1, 1),))(Step(student, teacher))
    # 0 and 1, (2 + 4) / 2 and 3, (1 + 7) / 2 and 4, (3 + 5 + 9 + 11) / 4 and 7; then no pair but these.
    np.testing.assert_allclose((sums, counts), [[1.0], [4]])


def test_labelled_tokens_cannot_be_compared_word_by_word():
    features = Features(hidden_states=(tf.zeros((1, 2, 3)),), words=[[0, 1]])
    match = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1),), where="labelled")
    with pytest.raises(UserError, match="different tokens"):
        match(Step(features, features, labels=tf.zeros((1, 2), tf.int32)))


def test_one_token_a_word_is_token_by_token_without_sep():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "it", "a", "b"])
    texts = ["it a", "a b b it a"]
    encoded = tokenizer.encode(texts, max_length=8)
    first, second = align_words(encoded, tokenizer, encoded, tokenizer)
    batch = next(iter(dataset(Examples(first, None, second), 2, shuffle=False)))
    states = tf.random.normal((2, *batch["student"]["token_ids"].shape[1:2], 3), seed=1)
    other = tf.random.normal(states.shape, seed=2)
    match = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1),))
    aligned = match(
        Step(
            Features(hidden_states=(states,), words=batch["student"]["words"]),
            Features(hidden_states=(other,), words=batch["teacher"]["words"]),
        )
    )
    real = batch["student"]["padding_mask"] * tf.cast(batch["student"]["token_ids"] != tokenizer.sep_id, tf.int32)
    plain = match(Step(Features(hidden_states=(states,), mask=real), Features(hidden_states=(other,))))
    np.testing.assert_allclose(aligned, plain, rtol=1e-6)
