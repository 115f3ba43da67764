"""Model directories: heads, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill.errors import UserError
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.text.tokenizer import Tokenizer

TINY_BERT = Path(__file__).parent / "tiny_bert"


CONFIG = json.loads((TINY_BERT / "config.json").read_text("utf-8"))

WEIGHTS = (TINY_BERT / "model.safetensors").read_bytes()


def _copy(tmp_path, **changed):
    for file in (TINY_BERT).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, content in changed.items():
        path = tmp_path / name.replace("__", ".")
        path.unlink() if content is None else path.write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config__json": None}, "config.json"),
        ({"model__safetensors": None}, "model.safetensors"),
        ({"vocab__txt": None}, "vocab.txt"),
        ({"config__json": b"{"}, "config.json"),
        ({"config__json": b"[]"}, "config.json"),
        ({"config__json": b'{"model_type": "gpt2"}'}, "gpt2"),
        ({"config__json": json.dumps({**CONFIG, "num_hidden_layers": 4}).encode()}, "num_hidden_layers.*4.*3"),
        ({"config__json": json.dumps({**CONFIG, "intermediate_size": 37}).encode()}, "intermediate"),
        ({"config__json": json.dumps({**CONFIG, "num_attention_heads": 3}).encode()}, "hidden_size"),
        ({"config__json": json.dumps({**CONFIG, "hidden_act": "swish"}).encode()}, "swish"),
        ({"model__safetensors": WEIGHTS[:-100]}, "model.safetensors"),
        ({"model__safetensors": b""}, "model.safetensors"),
    ],
)
def test_damaged_directories_are_one_line(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        load_directory(_copy(tmp_path, **changed))


def test_fields_of_pruned_models_are_not_read_or_written_for_a_plain_bert(tmp_path):
    odd = {**CONFIG, "embedding_size": 3, "heads_per_layer": None}
    model = load_directory(_copy(tmp_path, config__json=json.dumps(odd).encode()))
    assert model.config.is_plain and model.family == "bert"
    written = json.loads((save_directory(model, tmp_path / "again") / "config.json").read_text("utf-8"))
    assert written["model_type"] == "bert" and not {"embedding_size", "layerdrop", "pooler_act"} & written.keys()


def test_missing_directory(tmp_path):
    with pytest.raises(UserError, match="nothing"):
        load_directory(tmp_path / "nothing")


@pytest.mark.heavy
def test_another_number_of_classes_gets_a_new_head():
    model = load_directory(TINY_BERT, num_outputs=5)
    assert model.num_outputs == 5
    assert load_directory(TINY_BERT).num_outputs == 3


def saved(task, tmp_path, **kwargs):
    model = tiny_bert(task=task, **kwargs)
    model.tokenizer = Tokenizer.from_directory(TINY_BERT)
    return model, save_directory(model, tmp_path / task)


@pytest.mark.heavy
def test_a_pretrained_directory_gives_its_encoder_and_the_heads_asked_for(tmp_path):
    model, directory = saved("pretraining", tmp_path, outputs=None)
    x = inputs()
    said = model.features(x, ("logits", "nsp_logits", "pooled"))
    np.testing.assert_array_equal(load_directory(directory, task="masked_lm")(x), said.logits)
    np.testing.assert_allclose(load_directory(directory, task="next_sentence")(x), said.nsp_logits, atol=1e-5)
    classifier = load_directory(directory, task="classification", num_outputs=4)
    np.testing.assert_allclose(classifier.features(x, ("pooled",)).pooled, said.pooled, atol=1e-5)
    assert classifier(x).shape == (22, 4)
    with pytest.raises(UserError, match="50"):
        load_directory(directory, num_outputs=4)


@pytest.mark.heavy
def test_another_task_gets_a_new_head_on_the_same_encoder(tmp_path):
    tagger, directory = saved("token_classification", tmp_path)
    again = load_directory(directory, task="classification", num_outputs=3)
    assert not np.allclose(again.head.kernel, tagger.head.kernel)
    np.testing.assert_array_equal(again.encoder.blocks[0].query.kernel, tagger.encoder.blocks[0].query.kernel)


def test_untied_heads_are_refused(tmp_path):
    _, directory = saved("masked_lm", tmp_path, outputs=None)
    raw = json.loads((directory / "config.json").read_text("utf-8"))
    (directory / "config.json").write_text(json.dumps({**raw, "tie_word_embeddings": False}), "utf-8")
    with pytest.raises(UserError, match="tie_word_embeddings"):
        load_directory(directory)
