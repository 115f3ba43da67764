"""A teacher that reads byte-level BPE, students that read word pieces or the teacher's tokens, and their files."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from other_tokenizers import ALPHABETS, roberta, write
from tiny_recipes import NAMES, TINY, config, data, make

from tfdistill.corpora.writer import CorpusWriter
from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.verify import verify_bundle
from tfdistill.models.families_config import RobertaConfig
from tfdistill.models.load import load, save
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.run_directory import run
from tfdistill.training.settings import parse_settings


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Return a loaded RoBERTa whose tokens are of one or several letters with the space before them."""
    place, keras_seed = tmp_path_factory.mktemp("teacher"), 3
    keras.utils.set_random_seed(keras_seed)
    tokenizer = Tokenizer.from_directory(write(place / "tokens", roberta(["b c d a", *ALPHABETS], size=300)))
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    vocabulary = {"vocab_size": len(tokenizer.vocabulary), "max_position_embeddings": 26, "type_vocab_size": 1}
    model = TextModel(RobertaConfig(**sizes, **vocabulary, initializer_range=0.2), 2, "classification", NAMES)
    model.tokenizer = tokenizer
    return load(save(model, place / "roberta"))


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    model = TextModel(config(layers=2), 2, "classification", NAMES)
    model.tokenizer = Tokenizer.from_directory(TINY)
    return save(model, tmp_path_factory.mktemp("student") / "bert")


@pytest.mark.heavy
def test_saved_models_read_the_same_ids_and_give_the_same_logits(teacher, tmp_path):
    again = load(save(teacher, tmp_path / "again"))
    assert again.tokenizer.fingerprint == teacher.tokenizer.fingerprint and again.family == "roberta"
    texts, seconds = ["a b c", "d"], ["c", "b a"]
    batch = {name: np.asarray(each) for name, each in teacher.tokenizer(texts, seconds, length=20).items()}
    np.testing.assert_allclose(teacher(batch).numpy(), again(batch).numpy(), atol=1e-6)
    assert not (tmp_path / "again" / "vocab.txt").exists()


@pytest.mark.heavy
def test_more_tokens_than_rows_are_refused(teacher, tmp_path):
    place = save(teacher, tmp_path / "again")
    size = len(teacher.tokenizer.vocabulary)
    file = place / "tokenizer_config.json"
    content = json.loads(file.read_text())
    content["added_tokens_decoder"][str(size)] = {"content": "<new>", "special": True}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{size + 1} entries.*{size}"):
        load(place)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_targets", "tinybert", "minilm", "pkd"])
def test_a_bert_student_learns_from_other_tokens(name, teacher, student, tmp_path):
    more = {"tinybert": ["copies=0"], "minilm": ["relations.heads=2", "relations.epochs=1"]}.get(name, [])
    module = find(name)
    chosen = [f"student=hf:{student}", "max_length=12", "batch_size=16", *more]
    made = module.recipe(teacher, data(), parse_settings(module.Settings, chosen))
    run(made, tmp_path / "run", debug=True)
    assert load(tmp_path / "run" / "student").tokenizer.is_wordpiece


@pytest.mark.slow
def test_a_roberta_student_is_exported_with_its_tokenizer(teacher, tmp_path):
    run(make("soft_targets", data(), [], teacher), tmp_path / "run", debug=True)
    model = load(tmp_path / "run" / "student")
    assert model.tokenizer.fingerprint == teacher.tokenizer.fingerprint
    bundle = export_bundle(model, tmp_path / "bundle", quantize="fp32", length=12)
    assert any("golden" in check.name for check in verify_bundle(bundle))
    assert Tokenizer.from_directory(bundle).fingerprint == teacher.tokenizer.fingerprint
    for option in ({"mediapipe": True}, {"text_in": True}):
        with pytest.raises(UserError, match="another kind"):
            export_bundle(model, tmp_path / "no", quantize="fp32", length=12, **option)


@pytest.mark.heavy
def test_plain_text_needs_word_pieces(teacher, tmp_path):
    with pytest.raises(UserError, match="WordPiece"):
        CorpusWriter(tmp_path, teacher.tokenizer)
