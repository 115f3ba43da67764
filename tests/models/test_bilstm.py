"""The BiLSTM: states, pooling, and the siamese variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.bilstm import reverse_by_length

TINY_BERT = Path(__file__).parent / "tiny_bert"


def test_bilstm_reads_last_states_of_both_directions():
    model = tiny_bilstm()
    x = inputs(rows=4)
    encoder = model.encoder
    for row in range(4):
        length = x["padding_mask"][row].sum()
        ids = x["token_ids"][row : row + 1, :length]
        ahead = encoder.forward[0](encoder.embedding(ids))[:, -1]
        back = encoder.backward[0](encoder.embedding(ids[:, ::-1]))[:, -1]
        pooled = encoder.dense(np.concatenate([ahead, back], axis=-1))
        np.testing.assert_allclose(model.head(pooled), model({k: v[row : row + 1] for k, v in x.items()}), atol=1e-6)


def test_reverse_by_length():
    found = reverse_by_length(np.array([[1, 2, 3, 0], [4, 5, 6, 7]]), np.array([3, 4]))
    np.testing.assert_array_equal(found, [[3, 2, 1, 0], [7, 6, 5, 4]])


def test_max_pooling_sees_real_positions_only():
    model = presets.new("bilstm", vocab_size=50, embedding_size=4, lstm_size=3, dense_size=0, pooling="max")
    x = inputs(rows=5)
    said = model.features(x, ("pooled", "hidden_states"))
    for row, length in enumerate(x["padding_mask"].sum(axis=1)):
        expected = np.array(said.hidden_states[0])[row, :length].max(axis=0)
        np.testing.assert_allclose(said.pooled[row], expected, atol=1e-6)
    assert (model.width("pooled"), model.width("hidden_states")) == (6, 6)


def test_bilstm_states_stand_in_reading_order():
    model = presets.new("bilstm", vocab_size=50, embedding_size=4, lstm_size=3)
    x = inputs(rows=3)
    states = np.array(model.features(x, ("hidden_states",)).hidden_states[0])
    for row, length in enumerate(x["padding_mask"].sum(axis=1)):
        ids = x["token_ids"][row : row + 1, :length]
        ahead = np.array(model.encoder.forward[0](model.encoder.embedding(ids)))[0]
        back = np.array(model.encoder.backward[0](model.encoder.embedding(ids[:, ::-1])))[0, ::-1]
        np.testing.assert_allclose(states[row, :length], np.concatenate([ahead, back], axis=-1), atol=1e-6)


def test_siamese_models_answer_for_texts_not_tokens():
    with pytest.raises(UserError, match="siamese"):
        presets.new("bilstm", task="token_classification", pair=True, vocab_size=20)
    assert (tiny_bilstm(pair=True).num_layers, tiny_bilstm().num_layers) == (0, 1)
