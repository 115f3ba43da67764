"""RoBERTa, ELECTRA and ALBERT: what differs from BERT. `test_vectors.py` compares them with transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_families import FAMILIES, NAMES, WORDS

from tfdistill.compress.structured import compact, everything, zero
from tfdistill.errors import UserError
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.limits import most_tokens
from tfdistill.models.presets import student_from_layers
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

pytestmark = pytest.mark.heavy

NEW = ("roberta", "electra", "albert")
BATCH = {
    "token_ids": np.array([[2, 7, 9, 3, 0], [2, 30, 1, 8, 3]], "int32"),
    "padding_mask": np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], "int32"),
    "segment_ids": np.zeros((2, 5), "int32"),
}


def model_of(family: str, task: str = "classification") -> TextModel:
    outputs, names = (3, NAMES) if task == "classification" else (None, None)
    model = TextModel(FAMILIES[family](), outputs, task, names)
    model.tokenizer = Tokenizer(WORDS)
    return model


def written(model: TextModel, directory: Path, **changes: object) -> Path:
    """A directory of the model, with some fields of config.json changed."""
    save_directory(model, directory)
    config = json.loads((directory / "config.json").read_text("utf-8"))
    (directory / "config.json").write_text(json.dumps(config | changes), "utf-8")
    return directory


def test_positions_of_roberta_count_tokens_from_behind_the_padding():
    model = model_of("roberta")
    table = np.zeros(model.encoder.embeddings.position.embeddings.shape, "float32")
    table[:, 0] = np.arange(len(table))
    embeddings = model.encoder.embeddings
    for part in (embeddings.word, embeddings.token_type):
        part.embeddings.assign(np.zeros(part.embeddings.shape, "float32"))
    embeddings.position.embeddings.assign(table)
    embeddings.norm = lambda total: total
    rows = np.array(model.features(BATCH, ["embeddings"]).embeddings)[:, :, 0]
    # The id 1 is padding, and 0 is not, as padding_idx of transformers' RobertaEmbeddings.
    np.testing.assert_array_equal(rows, [[2, 3, 4, 5, 6], [2, 3, 1, 4, 5]])


def test_roberta_reads_two_tokens_less_than_it_has_positions():
    config = FAMILIES["roberta"]()
    assert most_tokens(config) == config.max_position_embeddings - 2
    model = model_of("roberta")
    ids = np.full((1, config.max_position_embeddings - 1), 7, "int32")
    with pytest.raises(UserError, match=str(most_tokens(config))):
        model.check_inputs({"token_ids": ids, "padding_mask": np.ones_like(ids)})


def test_layers_of_albert_share_weights():
    model = TextModel(AlbertConfig(**SMALL, num_hidden_layers=5, num_hidden_groups=2, inner_group_num=2), 3)
    assert model.config.layer_weights == (0, 1, 0, 1, 0, 1, 2, 3, 2, 3)
    assert model.num_layers == 10 and len({id(block) for block in model.encoder.blocks}) == 4
    short = student_from_layers(model, layers=[1, 3, 7, 9])
    assert short.config.layer_weights == (0, 0, 1, 1)
    for block, number in zip(short.encoder.blocks, (1, 3, 7, 9), strict=True):
        np.testing.assert_array_equal(block.query.kernel, model.encoder.blocks[number - 1].query.kernel)
    with pytest.raises(UserError, match="layers"):
        student_from_layers(model, layers=[1, 2, 3])  # the weights 0, 1, 0


SMALL = {
    "vocab_size": 50,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "embedding_size": 5,
}


@pytest.mark.parametrize("family", NEW)
def test_directories_have_the_names_of_transformers(family, tmp_path):
    head, base = {
        "roberta": ("classifier.out_proj.weight", "roberta.encoder.layer.0.attention.self.query.weight"),
        "electra": ("classifier.out_proj.weight", "electra.embeddings_project.bias"),
        "albert": (
            "classifier.weight",
            "albert.encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.weight",
        ),
    }[family]
    place = written(model_of(family), tmp_path / "model")
    names = load_file(place / "model.safetensors")
    assert head in names and base in names
    config = json.loads((place / "config.json").read_text("utf-8"))
    assert config["model_type"] == family
    assert config["architectures"] == [f"{family.title()}ForSequenceClassification"]
    assert config["id2label"] == {str(number): name for number, name in enumerate(NAMES)}


@pytest.mark.parametrize(("kind", "start"), [("xlm-roberta", "XLMRoberta"), ("camembert", "Camembert")])
def test_relatives_of_roberta_keep_their_type(kind, start, tmp_path):
    place = written(model_of("roberta"), tmp_path / "model", model_type=kind)
    again = save_directory(load_directory(place), tmp_path / "again")
    config = json.loads((again / "config.json").read_text("utf-8"))
    assert (config["model_type"], config["pad_token_id"]) == (kind, 1)
    assert config["architectures"] == [f"{start}ForSequenceClassification"]


def test_a_discriminator_has_no_head_and_albert_s_pretraining_a_masked_lm(tmp_path, capsys):
    model = model_of("electra")
    place = written(model, tmp_path / "electra", architectures=["ElectraForPreTraining"])
    tensors = load_file(place / "model.safetensors")
    tensors = {name: value for name, value in tensors.items() if not name.startswith("classifier")}
    tensors["discriminator_predictions.dense.weight"] = np.zeros((8, 8), "float32")
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(UserError, match="head"):
        load_directory(place, new_head=False)
    again = load_directory(place, num_outputs=4)
    assert (again.task, again.num_outputs) == ("classification", 4)
    lines = capsys.readouterr().err
    assert "random" in lines and "discriminator_predictions" not in lines
    place = written(model_of("albert", "masked_lm"), tmp_path / "albert", architectures=["AlbertForPreTraining"])
    assert load_directory(place, new_head=False).task == "masked_lm"


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("roberta", "pad_token_id", -1),
        ("roberta", "pad_token_id", None),
        ("roberta", "pad_token_id", 15),
        ("roberta", "type_vocab_size", 0),
        ("roberta", "max_position_embeddings", 18),
        ("electra", "embedding_size", 6),
        ("electra", "hidden_act", "swish"),
        ("albert", "embedding_size", 6),
        ("albert", "num_hidden_groups", 3),
        ("albert", "inner_group_num", 2),
        ("albert", "num_hidden_layers", 10**9),
        ("albert", "classifier_dropout_prob", 2),
        ("albert", "vocab_size", 51),
    ],
)
def test_wrong_fields_are_named_in_one_line(family, field, value, tmp_path):
    place = written(model_of(family), tmp_path / "model", **{field: value})
    with pytest.raises(UserError) as error:
        load_directory(place)
    assert field in str(error.value) or "albert_layers.1" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["deberta-v2", "t5", "gpt2", "modernbert"])
def test_other_architectures_are_refused_with_what_works(kind, tmp_path):
    place = written(model_of("roberta"), tmp_path / "model", model_type=kind)
    with pytest.raises(UserError) as error:
        load_directory(place)
    assert all(part in str(error.value) for part in (kind, "albert", "xlm-roberta", "--teacher answers:FILE"))


def test_the_family_is_seen_from_the_tensors(tmp_path):
    for family in NEW:
        place = written(model_of(family), tmp_path / family)
        config = json.loads((place / "config.json").read_text("utf-8"))
        config.pop("model_type")
        (place / "config.json").write_text(json.dumps(config), "utf-8")
        assert load_directory(place).family == family


@pytest.mark.parametrize("family", ["roberta", "electra"])
def test_pruned_models_compute_the_same(family, tmp_path):
    model = model_of(family)
    kept = everything(model)
    first = kept.layers[0][1]
    fewer = type(first)(first.heads[:1], first.query_key[:1], first.value[:1], first.intermediate[:7])
    zero(model, type(kept)(((1, fewer), *kept.layers[1:]), kept.hidden, kept.pooler))
    small = compact(model)
    assert small.family == "pruned_bert" and small.count_params() < model.count_params()
    again = load_directory(save_directory(small, tmp_path / "small"))
    np.testing.assert_allclose(again(BATCH), model(BATCH), atol=1e-5)
    with pytest.raises(UserError, match="albert"):
        everything(model_of("albert"))


def test_configs_in_python_are_checked():
    for wrong in (
        lambda: RobertaConfig(model_type="bert"),
        lambda: ElectraConfig(hidden_size=10, num_attention_heads=3),
        lambda: AlbertConfig(num_hidden_layers=1, num_hidden_groups=2),
        lambda: AlbertConfig(inner_group_num=0),
    ):
        with pytest.raises(UserError):
            wrong()
