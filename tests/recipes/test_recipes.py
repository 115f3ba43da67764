"""Every recipe runs in a few steps and its student exports."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_recipes import (
    NAMES,
    SMALL,
    data,
    make,
    teacher,
)

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.recipes import find, names
from tfdistill.training.run_directory import run

# soft_targets is run in the same way by tests/test_cli.py, bilstm by the quickstart's test; the others take half a minute each.
RUN_BY_SLOW = (
    "soft_targets",
    "bilstm",
    "privileged",
    "pkd",
    "mobilebert",
    "xtremedistil",
    "layerdrop",
    "head_pruning",
    "neuron_pruning",
    "quantization_aware",
    "minilm",
    "distilbert",
    "static",
)


LIKE_BERT = {
    "vocab_size": 37,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 26,
}
FAMILIES = {
    "distilbert": DistilBertConfig(37, 16, 2, 2, 32, max_position_embeddings=24),
    "roberta": RobertaConfig(**LIKE_BERT, type_vocab_size=1),
    "electra": ElectraConfig(**LIKE_BERT, embedding_size=8),
    "albert": AlbertConfig(**LIKE_BERT, embedding_size=8),
    "pruned_bert": BertConfig(
        37,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        heads_per_layer=(2, 1),
        intermediate_sizes=(32, 20),
    ),
    "bilstm": BiLSTMConfig(37, 8, 6, dense_size=7),
}


CUTS = ("layerdrop", "head_pruning", "neuron_pruning")


REFUSED = {
    **{(name, "bilstm"): "bilstm" for name in names() if name not in ("bilstm", "static", "dualtrain_sharedproj")},
    **{(name, "mobilebert"): "mobilebert|MobileBERT" for name in CUTS},
    **{(name, "albert"): "albert" for name in CUTS},
    ("mobilebert", "pruned_bert"): "pruned_bert",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name != "dualtrain_sharedproj"])
def test_every_recipe_takes_every_family_or_says_why_not(name, ib_bert):
    settings = ["copies=0"] if "copies" in find(name).Settings.model_fields else []
    for family in ("mobilebert", *FAMILIES):
        asked = ib_bert if family == "mobilebert" else TextModel(FAMILIES[family], 2, "classification", NAMES)
        asked.tokenizer = ib_bert.tokenizer
        if (name, family) in REFUSED:
            with pytest.raises(UserError, match=REFUSED[name, family]):
                make(name, data(), settings, asked)
        else:
            assert make(name, data(), settings, asked).student.count_params() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, "soft_targets") for family in ("roberta", "electra", "albert")),
        *(("roberta", name) for name in ("pkd", "tinybert", "minilm", "head_pruning")),
    ],
)
def test_relatives_of_bert_are_teachers_and_students(family, name, shallow, tmp_path):
    model = TextModel(FAMILIES[family], 2, "classification", NAMES)
    model.tokenizer = shallow.tokenizer
    settings = ["copies=0"] if "copies" in find(name).Settings.model_fields else []
    run(make(name, data(), settings, model), tmp_path / "run", debug=True)
    student = load(tmp_path / "run" / "student")
    assert student.family == ("pruned_bert" if name == "head_pruning" else family)
    bundle = export_bundle(student, tmp_path / "bundle", quantize="fp32", length=12)
    assert (bundle / "model.tflite").stat().st_size > 1000


def test_weight_decay_is_berts_unless_it_is_set(shallow):
    """0.01 with AdamW, as in BERT, PKD and TinyBERT; none with Adam or Adadelta, none in DistilBERT's general stage."""
    decays = {
        name: make_optimizer(name, WarmupLinear(1.0, 0, 1)).decay
        for name in ("adamw", "lamb", "adam", "sgd", "adadelta")
    }
    assert decays == {"adamw": 0.01, "lamb": 0.01, "adam": 0.0, "sgd": 0.0, "adadelta": 0.0}
    for settings, decay in (([], None), (["weight_decay=0.1"], 0.1)):
        assert [stage.weight_decay for stage in make("tinybert", data(), settings, shallow).stages] == [decay] * 2


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in RUN_BY_SLOW else name for name in SMALL],
)
def test_debug_run_then_export(name, tmp_path):
    shallow = teacher(layers=4 if name in ("soft_targets", "pkd") else 2)
    result = run(make(name, data(), [], shallow), tmp_path / "run", debug=True, gradient_norms=True)
    done = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert done["state"] == "done" and set(done["scores"]) == {"dev", "test"}
    for stage in done["stages"]:
        norms = done["gradient_norms"][stage["name"]]
        weights = {term["name"]: term["weight"] for term in stage["terms"]}
        assert set(norms) == set(weights)
        assert all(np.isfinite(norm) and (norm > 0) == (weights[term] > 0) for term, norm in norms.items()), norms
    bundle = export_bundle(load(tmp_path / "run" / "student"), tmp_path / "bundle", quantize="fp32", length=12)
    assert (bundle / "model.tflite").stat().st_size > 1000
    assert result.rows >= 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("soft_targets", "multilabel"),
        pytest.param("soft_targets", "regression", marks=pytest.mark.slow),
        pytest.param("privileged", "multilabel", marks=pytest.mark.slow),
        pytest.param("tinybert", "regression", marks=pytest.mark.slow),
    ],
)
def test_other_heads(name, task, tmp_path):
    recipe = make(name, data(task=task), [])
    result = run(recipe, tmp_path / "run", debug=True)
    first = next(iter(result.scores["dev"]))
    assert first == {"multilabel": "micro_f1", "regression": "spearman"}[task]


@pytest.mark.parametrize(("name", "settings"), [("pkd", []), ("xtremedistil", ["joint=true"])])
@pytest.mark.slow
def test_pairs(name, settings, tmp_path):
    run(make(name, data(pair=True), settings), tmp_path / "run", debug=True)
    assert load(tmp_path / "run" / "student") is not None


def test_layers_of_a_student_that_has_its_own_are_refused():
    with pytest.raises(UserError, match="student=minilm_l6_384"):
        make("soft_targets", data(), ["student=minilm_l6_384", "num_layers=2"])
