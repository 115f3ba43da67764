"""Tasks and their heads: tied word table, masked positions, and tasks a family does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.text_model import TextModel

TINY_BERT = Path(__file__).parent / "tiny_bert"


@pytest.mark.heavy
def test_masked_positions_are_the_same_logits_as_all():
    for model in (
        tiny_bert(outputs=None, task="masked_lm"),
        presets.new(
            "mobilebert", task="masked_lm", vocab_size=50, hidden_size=12, embedding_size=5, num_hidden_layers=1
        ),
    ):
        x = inputs(rows=4)
        positions = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], "int32")
        whole = np.array(model(x))
        assert whole.shape == (4, 8, 50)
        some = model({**x, "masked_positions": positions})
        np.testing.assert_allclose(some, np.take_along_axis(whole, positions[:, :, None], axis=1), atol=1e-6)


def test_masked_lm_head_is_tied_to_the_word_pieces():
    model = tiny_bert(outputs=None, task="masked_lm")
    x = inputs(rows=2)
    before = np.array(model(x))
    table = model.encoder.embedding.embeddings
    unused = next(piece for piece in range(1, 50) if piece not in x["token_ids"])
    table.assign(np.where(np.arange(50)[:, None] == unused, 0.0, table))
    after = np.array(model(x))
    np.testing.assert_allclose(after[..., unused], model.head.bias[unused], atol=1e-6)
    assert np.abs(before[..., unused]).max() > 1e-3
    others = np.arange(50) != unused
    np.testing.assert_allclose(after[..., others], before[..., others], atol=1e-6)


@pytest.mark.parametrize(
    ("family", "task", "outputs", "message"),
    [
        ("bert", "translation", None, "translation"),
        ("distilbert", "next_sentence", None, "next_sentence"),
        ("distilbert", "pretraining", None, "pretraining"),
        ("bilstm", "masked_lm", None, "masked_lm"),
        ("bert", "question_answering", 3, "num_outputs"),
        ("bert", "masked_lm", 7, "30522"),
        ("bert", "classification", 0, "num_outputs"),
    ],
)
def test_tasks_that_cannot_be_are_one_line(family, task, outputs, message):
    name = {"bert": "bert_base", "distilbert": "distilbert", "bilstm": "bilstm"}[family]
    with pytest.raises(UserError, match=message):
        TextModel(presets.PRESETS[name], outputs, task)
