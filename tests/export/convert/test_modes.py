"""Test every family in every mode that the support table promises; other modes are refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tfdistill.errors import UserError
from tfdistill.export.convert.convert import convert_model, convert_models, padded
from tfdistill.export.convert.modes import AEQ, EXPORTED_HEADS, MODES, SUPPORT, TF, tool_for
from tfdistill.export.tflite.operators import read_operators
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import Rows, TFLiteModel
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.static_config import StaticConfig
from tfdistill.models.tasks import HEADS, task_of
from tfdistill.models.text_model import ENCODERS, TextModel

LENGTH = 8
_BERT = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODELS = {
    "bert": (BertConfig(**_BERT), "classification"),
    "pruned_bert": (BertConfig(**_BERT, heads_per_layer=(2, 1), intermediate_sizes=(64, 40)), "classification"),
    "distilbert": (DistilBertConfig(60, 32, 2, 2, 64), "token_classification"),
    "roberta": (RobertaConfig(**_BERT), "classification"),
    "electra": (ElectraConfig(**_BERT, embedding_size=16), "classification"),
    "albert": (AlbertConfig(**_BERT, embedding_size=16), "classification"),
    "mobilebert": (MobileBertConfig(**_BERT, embedding_size=16, intra_bottleneck_size=16), "classification"),
    "bilstm": (BiLSTMConfig(60, 16, 16, dense_size=16), "classification"),
    "static": (StaticConfig(60, 32, 1, 32, 1, 32), "classification"),
}
# Share of the largest logit by which a file may differ from Keras: random models are harder than trained ones.
TOLERANCE = {
    "fp32": 1e-4,
    "fp16": 1e-2,
    "dynamic_int8": 5e-2,
    "weight_int8": 5e-2,
    "int8": 6e-2,
    "int8_int16": 5e-2,
}


# Standard deviation of the weights, so that logits are neither all the same nor saturated.
SPREAD = {"mobilebert": 0.15, "bilstm": 0.5, "static": 0.3}


def _has(family: str, task: str) -> bool:
    try:
        return bool(task_of(task, family))
    except UserError:
        return False


def test_nothing_is_left_open():
    assert set(SUPPORT) == set(ENCODERS) == set(MODELS) and set(EXPORTED_HEADS) < set(HEADS)
    assert all(list(MODES) == sorted(made_by, key=list(MODES).index) for made_by in SUPPORT.values())
    assert set(TOLERANCE) == set(MODES)


@pytest.mark.slow
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
        logits = of_real_tokens(TFLiteModel(file.path).predict(rows), sizes)
        assert np.abs(logits - expected).max() < TOLERANCE[mode] * np.abs(expected).max(), mode
        assert file.parity_random["rows"] == 6 and 0.5 <= file.parity_random["argmax_agreement"] <= 1.0
        assert 0 < file.parity_random["max_abs_difference"] < 1
        assert mode in quantizations_of(file.path.read_bytes()), mode
        # Calibrated files are not float files in disguise, and forget one row before the next.
        if MODES[mode].calibrated:
            assert file.operators.get("DEQUANTIZE", 0) > 0
            loaded = TFLiteModel(file.path)
            again = [loaded.row(rows.token_ids[a:b]) for a, b in reversed([*pairwise(rows.offsets)])][::-1]
            np.testing.assert_array_equal(of_real_tokens(np.stack(again), sizes), logits)


def quantizations_of(content: bytes) -> tuple[str, ...]:
    """Return the modes that the types of a file's tensors allow.

    The converter leaves products of few weights in float32, so that dynamic_int8 and weight_int8 of a tiny model look alike.
    """
    operators = read_operators(content)
    names = ("FULLY_CONNECTED", "BATCH_MATMUL", "UNIDIRECTIONAL_SEQUENCE_LSTM")
    products = [each for each in operators if each.name in names]
    activations = {each.inputs[0].type for each in products}
    weights = {each.inputs[1].type for each in products if each.inputs[1].constant}
    held = {tensor.type for each in operators for tensor in each.inputs if tensor.constant and len(tensor.shape) > 1}
    unpacked = {each.inputs[0].type for each in operators if each.name == "DEQUANTIZE" and each.inputs[0].constant}
    for kind, mode in (("INT16", "int8_int16"), ("INT8", "int8")):
        if kind in activations:
            return (mode,)
    if "INT8" not in held:
        return ("fp16",) if "FLOAT16" in held else ("fp32",)
    if "INT8" in weights:
        return ("dynamic_int8",)
    return ("weight_int8",) if "INT8" in unpacked else ("dynamic_int8", "weight_int8")


HEADS_OF = {family: tuple(task for task in EXPORTED_HEADS if _has(family, task)) for family in SUPPORT}


@pytest.mark.slow
@pytest.mark.parametrize("family", SUPPORT)
def test_every_head_in_every_promised_mode(family, tmp_path):
    """Each cell of the table with each head: converted, audited, and near Keras."""
    rng = np.random.default_rng(1)
    models = []
    for task in HEADS_OF[family]:
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
            logits = of_real_tokens(TFLiteModel(files[mode].path).predict(rows), sizes)
            assert np.abs(logits - expected).max() < 2 * TOLERANCE[mode] * np.abs(expected).max(), (task, mode)


@pytest.mark.parametrize(
    ("mode", "operator"),
    [(mode, made_by) for mode, made_by in SUPPORT["bilstm"].items() if made_by not in (TF, AEQ)],
)
def test_what_is_not_promised_is_refused(mode, operator):
    with pytest.raises(UserError, match=f"{mode}.*bilstm.*{operator}.*fp16"):
        tool_for("bilstm", mode)


def test_the_document_says_what_the_table_says():
    """docs/export_support.md has one row for each family and mode, and every task."""
    text = (Path(__file__).parents[3] / "docs" / "export_support.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    heading, *body = [row for row in rows if row[0] in ("family", *SUPPORT) and row[1] not in ("yes", "no")]
    assert heading[1:] == list(MODES)
    table = {row[0]: dict(zip(MODES, row[1:], strict=True)) for row in body}
    shown = {TF: "TensorFlow", AEQ: "AI Edge Quantizer"}
    assert table == {
        family: {mode: shown.get(by, f"no: `{by}`") for mode, by in made_by.items()}
        for family, made_by in SUPPORT.items()
    }
    heading, *body = [
        row for row in rows if row[0] in ("heads", *SUPPORT) and row[1] in ("yes", "no", EXPORTED_HEADS[0])
    ]
    assert heading[1:] == list(EXPORTED_HEADS)
    heads = {
        row[0]: tuple(task for task, there in zip(EXPORTED_HEADS, row[1:], strict=True) if there == "yes")
        for row in body
    }
    assert heads == HEADS_OF
