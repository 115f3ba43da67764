"""The recipe static: its student and its table."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_recipes import data, make

from tfdistill.models import presets


def test_the_table_is_the_teachers_token_vectors_by_pca(shallow):
    student = make("static", data(), ["embedding_size=4"], shallow).student
    ids = np.array([[shallow.tokenizer.cls_id, 7, shallow.tokenizer.sep_id]], "int32")
    states = shallow.features({"token_ids": ids, "padding_mask": np.ones_like(ids)}, ("hidden_states",)).hidden_states[
        -1
    ]
    vectors = presets.token_vectors(shallow)
    np.testing.assert_allclose(vectors[7], np.asarray(states)[0].mean(axis=0), atol=1e-5)
    table = student.encoder.embedding.embeddings.numpy()
    np.testing.assert_array_equal(table, presets.reduced_table(vectors, 4))
    assert table.std() == pytest.approx(0.1, abs=0.01)


def test_a_table_at_random_does_not_read_the_teacher(shallow):
    student = make("static", data(), ["embedding_size=100", "table=random"], shallow).student
    assert student.config.embedding_size == 100
    narrow = make("static", data(), ["embedding_size=100"], shallow).student
    assert narrow.config.embedding_size == shallow.width("hidden_states")


def test_pairs_get_a_siamese_student(shallow):
    assert make("static", data(pair=True), [], shallow).student.config.pair
