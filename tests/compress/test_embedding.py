"""Factorisation of the word table."""

import numpy as np
import pytest
from helpers import tiny_bert

from tfdistill.compress.embedding import factorise_embedding
from tfdistill.errors import UserError
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.text.tokenizer import Tokenizer

pytestmark = pytest.mark.heavy

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(45))]
TEXTS = ["w1 w2", "w3 w44 w5"]


def model_of(task="classification", outputs=3):
    model = tiny_bert(outputs=outputs, task=task)
    model.tokenizer = Tokenizer(VOCABULARY)
    return model


def test_a_table_of_low_rank_loses_nothing(tmp_path):
    model, rng = model_of(), np.random.default_rng(0)
    table = rng.normal(size=(len(VOCABULARY), 3)) @ rng.normal(size=(3, 8)) + rng.normal(size=8)
    model.encoder.embeddings.word.embeddings.assign(table)
    small, lost = factorise_embedding(model, 3)
    assert lost < 1e-5
    assert small.encoder.embeddings.word.embeddings.shape == (len(VOCABULARY), 3)
    inputs = model.tokenizer(TEXTS, length=8)
    np.testing.assert_allclose(small(inputs), model(inputs), atol=1e-4)
    small.tokenizer = model.tokenizer
    again = load_directory(save_directory(small, tmp_path / "small"))
    np.testing.assert_array_equal(again(inputs), small(inputs))
    assert again.config.embedding_size == 3


def test_the_loss_is_that_of_the_best_approximation():
    model = model_of()
    table = model.encoder.embeddings.word.embeddings.numpy().astype("float64")
    values = np.linalg.svd(table - table.mean(axis=0), compute_uv=False)
    _, lost = factorise_embedding(model, 5)
    assert lost == pytest.approx(np.sqrt((values[5:] ** 2).sum() / (values**2).sum()), rel=1e-5)


def test_what_cannot_be_factorised_is_one_line():
    model = model_of()
    for size in (0, 8):
        with pytest.raises(UserError, match=r"1\.\.7"):
            factorise_embedding(model, size)
    with pytest.raises(UserError, match="already"):
        factorise_embedding(factorise_embedding(model, 4)[0], 2)
    with pytest.raises(UserError, match="masked_lm"):
        factorise_embedding(model_of("masked_lm", None), 4)
