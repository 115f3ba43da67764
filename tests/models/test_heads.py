"""Tasks and their heads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert, tiny_bilstm
from safetensors.numpy import load_file, save_file

from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY_BERT = Path(__file__).parent / "tiny_bert"


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
        ("bert", "translation", None, "unknown"),
        ("distilbert", "next_sentence", None, "no head for 'next_sentence'"),
        ("distilbert", "pretraining", None, "no head"),
        ("bilstm", "masked_lm", None, "no head"),
        ("bert", "question_answering", 3, "expected 2"),
        ("bert", "masked_lm", 7, "expected 30522"),
        ("bert", "classification", 0, "at least 1"),
    ],
)
def test_tasks_that_cannot_be_are_one_line(family, task, outputs, message):
    name = {"bert": "bert_base", "distilbert": "distilbert", "bilstm": "bilstm"}[family]
    with pytest.raises(UserError, match=message):
        TextModel(presets.PRESETS[name], outputs, task)


def test_siamese_models_answer_for_texts_not_tokens():
    with pytest.raises(UserError, match="siamese"):
        presets.new("bilstm", task="token_classification", pair=True, vocab_size=20)
    assert (tiny_bilstm(pair=True).num_layers, tiny_bilstm().num_layers) == (0, 1)


def saved(task, tmp_path, **kwargs):
    model = tiny_bert(task=task, **kwargs)
    model.tokenizer = Tokenizer.from_directory(TINY_BERT)
    return model, save_directory(model, tmp_path / task)


def test_a_pretrained_directory_gives_its_encoder_and_the_heads_asked_for(tmp_path):
    model, directory = saved("pretraining", tmp_path, outputs=None)
    x = inputs()
    said = model.features(x, ("logits", "nsp_logits", "pooled"))
    np.testing.assert_array_equal(load_directory(directory, task="masked_lm")(x), said.logits)
    np.testing.assert_allclose(load_directory(directory, task="next_sentence")(x), said.nsp_logits, atol=1e-5)
    classifier = load_directory(directory, task="classification", num_outputs=4)
    np.testing.assert_allclose(classifier.features(x, ("pooled",)).pooled, said.pooled, atol=1e-5)
    assert classifier(x).shape == (22, 4)
    with pytest.raises(UserError, match="expected 50"):
        load_directory(directory, num_outputs=4)


def test_another_task_gets_a_new_head_on_the_same_encoder(tmp_path):
    tagger, directory = saved("token_classification", tmp_path)
    again = load_directory(directory, task="classification", num_outputs=3)
    assert not np.allclose(again.head.kernel, tagger.head.kernel)
    np.testing.assert_array_equal(again.encoder.blocks[0].query.kernel, tagger.encoder.blocks[0].query.kernel)


def test_names_of_conversions_from_tensorflow_are_known(tmp_path):
    model, directory = saved("masked_lm", tmp_path, outputs=None)
    old = {}
    for name, value in load_file(directory / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[name] = value
    save_file(old, directory / "model.safetensors")
    np.testing.assert_array_equal(load_directory(directory)(inputs()), model(inputs()))


def test_untied_heads_are_refused(tmp_path):
    _, directory = saved("masked_lm", tmp_path, outputs=None)
    raw = json.loads((directory / "config.json").read_text("utf-8"))
    (directory / "config.json").write_text(json.dumps({**raw, "tie_word_embeddings": False}), "utf-8")
    with pytest.raises(UserError, match="tie_word_embeddings"):
        load_directory(directory)
