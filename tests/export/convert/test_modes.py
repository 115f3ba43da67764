"""Every family in every mode that the support table promises; what it does not promise is refused by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tfdistill.errors import UserError
from tfdistill.export.bundle.manifest_check import quantizations_of
from tfdistill.export.convert.convert import convert_model, convert_models, padded
from tfdistill.export.convert.modes import AEQ, MODES, SUPPORT, TASKS, TF, tool_for
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import Rows, TFLiteModel
from tfdistill.models.bert import BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.distilbert import DistilBertConfig
from tfdistill.models.heads import TASKS as ALL_TASKS
from tfdistill.models.heads import task_of
from tfdistill.models.mobilebert import MobileBertConfig
from tfdistill.models.text_model import ENCODERS, TextModel

LENGTH = 8
_BERT = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODELS = {
    "bert": (BertConfig(**_BERT), "classification"),
    "pruned_bert": (BertConfig(**_BERT, heads_per_layer=(2, 1), intermediate_sizes=(64, 40)), "classification"),
    "distilbert": (DistilBertConfig(60, 32, 2, 2, 64), "token_classification"),
    "mobilebert": (MobileBertConfig(**_BERT, embedding_size=16, intra_bottleneck_size=16), "classification"),
    "bilstm": (BiLSTMConfig(60, 16, 16, dense_size=16), "classification"),
}
# Share of the largest logit by which a file may differ from Keras: random models are harder than trained ones.
TOLERANCE = {
    "fp32": 1e-4,
    "fp16": 1e-2,
    "dynamic_int8": 5e-2,
    "weight_int8": 5e-2,
    "weight_int4": 5e-1,
    "int8": 6e-2,
    "int8_int16": 5e-2,
}


# Standard deviation of the weights, so that logits are neither all the same nor saturated.
SPREAD = {"mobilebert": 0.15, "bilstm": 0.5}


def _has(family: str, task: str) -> bool:
    try:
        return bool(task_of(task, family))
    except UserError:
        return False


def test_nothing_is_left_open():
    assert set(SUPPORT) == set(ENCODERS) == set(MODELS) and set(TASKS) < set(ALL_TASKS)
    assert all(list(MODES) == sorted(made_by, key=list(MODES).index) for made_by in SUPPORT.values())
    assert set(TOLERANCE) == set(MODES)


@pytest.mark.parametrize(
    "family",
    [family if family in ("bert", "bilstm") else pytest.param(family, marks=pytest.mark.slow) for family in SUPPORT],
)
def test_promised_modes_work(family, tmp_path):
    config, task = MODELS[family]
    model, rng = TextModel(config, 3, task), np.random.default_rng(1)
    for weight in model.weights:
        if "kernel" in weight.path or "embeddings" in weight.path:
            weight.assign(rng.normal(0.0, SPREAD.get(family, 0.1), weight.shape))
        if family == "bert" and weight.path.endswith("output_dense/kernel"):
            # Trained BERTs have a channel like this, for which int8 has no room unless channels are weighed before.
            weight.assign(weight.numpy() * np.where(np.arange(weight.shape[1]) == 3, 30.0, 1.0))
    sizes = rng.integers(2, LENGTH + 1, 40)
    rows = Rows([rng.integers(0, 60, size) for size in sizes])
    modes = [mode for mode in MODES if SUPPORT[family][mode] in (TF, AEQ)]
    files = convert_model(model, tmp_path, name="m", length=LENGTH, modes=modes, calibration=rows)
    expected = of_real_tokens(model(padded(rows, LENGTH, 40)).numpy(), sizes)
    for mode, file in files.items():
        found = of_real_tokens(TFLiteModel(file.path).predict(rows), sizes)
        assert np.abs(found - expected).max() < TOLERANCE[mode] * np.abs(expected).max(), mode
        assert file.parity_random["rows"] == 6 and 0.5 <= file.parity_random["argmax_agreement"] <= 1.0
        assert 0 < file.parity_random["max_abs_difference"] < 1
        # Small products stay in float32, so that two modes look alike in these models.
        alike = ("dynamic_int8", "weight_int8")
        assert mode in (said := quantizations_of(file.path.read_bytes())) and said in (alike, (mode,)), mode
        # Calibrated files are no float files in disguise, and forget one row before the next.
        if MODES[mode].calibrated:
            assert file.operators.get("DEQUANTIZE", 0) > 0
            loaded = TFLiteModel(file.path)
            again = [loaded.row(rows.token_ids[a:b]) for a, b in reversed([*pairwise(rows.offsets)])][::-1]
            np.testing.assert_array_equal(of_real_tokens(np.stack(again), sizes), found)


HEADS = {family: tuple(task for task in TASKS if _has(family, task)) for family in SUPPORT}


@pytest.mark.slow
@pytest.mark.parametrize("family", SUPPORT)
def test_every_head_in_every_promised_mode(family, tmp_path):
    """Each cell of the table with each head: converted, audited, and near Keras."""
    rng = np.random.default_rng(1)
    models = []
    for task in HEADS[family]:
        config = MODELS[family][0]
        if family == "bilstm" and task == "multilabel":
            config = replace(config, num_layers=2)
        model = TextModel(config, {"regression": 1, "next_sentence": None}.get(task, 2), task)
        for weight in model.weights:
            if "kernel" in weight.path or "embeddings" in weight.path:
                weight.assign(rng.normal(0.0, SPREAD.get(family, 0.1), weight.shape))
        models.append((model, task))
    sizes = rng.integers(2, LENGTH + 1, 40)
    rows = Rows([rng.integers(0, 60, size) for size in sizes])
    modes = [mode for mode in MODES if SUPPORT[family][mode] in (TF, AEQ)]
    made = convert_models(models, tmp_path, length=LENGTH, modes=modes, calibration=rows, workers=1)
    for (model, task), files in zip(models, made, strict=True):
        expected = of_real_tokens(model(padded(rows, LENGTH, 40)).numpy(), sizes)
        for mode in modes:
            found = of_real_tokens(TFLiteModel(files[mode].path).predict(rows), sizes)
            assert np.abs(found - expected).max() < 2 * TOLERANCE[mode] * np.abs(expected).max(), (task, mode)


@pytest.mark.parametrize(
    ("mode", "operator"),
    [(mode, made_by) for mode, made_by in SUPPORT["bilstm"].items() if made_by not in (TF, AEQ)],
)
def test_what_is_not_promised_is_refused(mode, operator):
    with pytest.raises(
        UserError, match=f"{mode} is not supported for a bilstm model: .* operator {operator} so; .*fp16"
    ):
        tool_for("bilstm", mode)


def test_training_heads_are_refused(tmp_path):
    model = TextModel(MODELS["bert"][0], task="masked_lm")
    with pytest.raises(UserError, match="'m' is a model for masked_lm; expected one fine-tuned for classification"):
        convert_model(model, tmp_path, name="m", length=LENGTH)


def test_the_document_says_what_the_table_says():
    """docs/export_support.md has one row for each family and mode, and every task."""
    text = (Path(__file__).parents[3] / "docs" / "export_support.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    heading, *body = [row for row in rows if row[0] in ("family", *SUPPORT) and len(row) == 1 + len(MODES)]
    assert heading[1:] == list(MODES)
    said = {row[0]: dict(zip(MODES, row[1:], strict=True)) for row in body}
    shown = {TF: "TensorFlow", AEQ: "AI Edge Quantizer"}
    assert said == {
        family: {mode: shown.get(by, f"no: `{by}`") for mode, by in made_by.items()}
        for family, made_by in SUPPORT.items()
    }
    heading, *body = [row for row in rows if row[0] in ("heads", *SUPPORT) and row[1] in ("yes", "no", TASKS[0])]
    assert heading[1:] == list(TASKS)
    said = {row[0]: tuple(task for task, there in zip(TASKS, row[1:], strict=True) if there == "yes") for row in body}
    assert said == HEADS
