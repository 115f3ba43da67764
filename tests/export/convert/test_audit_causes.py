"""Test that a file with useless logits is refused with the cause, by a name that the user knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfdistill.errors import UserError
from tfdistill.export.convert import convert
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.models.hf import load_directory

PINNED = Path(__file__).parents[2] / "pinned"


@pytest.fixture(scope="module")
def model():
    return load_directory(PINNED / "student")


@pytest.mark.parametrize(
    ("mode", "family", "cause"),
    [
        ("int8", "bert", "Train longer, or choose dynamic_int8"),
        ("int8", "bilstm", "docs/export_support.md"),
        ("int8_int16", "bert", "dynamic_int8"),
        ("dynamic_int8", "bert", "fp16"),
        ("fp16", "bert", "65,504"),
    ],
)
def test_quantization_is_named(model, monkeypatch, mode, family, cause):
    file = PINNED / "bundle" / "model.tflite"
    lengths, outputs = TFLiteModel(file).lengths, model.num_outputs
    value = np.nan if mode == "fp16" else 1.0
    monkeypatch.setattr(TFLiteModel, "predict", lambda self, rows, workers: np.full((6, outputs), value, np.float32))
    monkeypatch.setattr(convert, "operators", lambda *_: {"UNIDIRECTIONAL_SEQUENCE_LSTM": 1})
    monkeypatch.setattr(model, "family", family)
    monkeypatch.setattr(convert, "parameters_of", lambda _: 1)
    monkeypatch.setattr(convert, "_probe", lambda *_: (None, None))
    with pytest.raises(UserError) as caught:
        convert.audit(file, model, lengths, mode, f"the {mode} file")
    message = str(caught.value)
    assert f"the {mode} file" in message and cause in message and "damaged" not in message and ".tflite" not in message


def test_a_model_without_finite_weights(model, monkeypatch):
    file = PINNED / "bundle" / "model.tflite"
    lengths, outputs = TFLiteModel(file).lengths, model.num_outputs
    monkeypatch.setattr(TFLiteModel, "predict", lambda self, rows, workers: np.full((6, outputs), np.nan, np.float32))
    monkeypatch.setattr(convert, "_probe", lambda *_: (None, None))
    model.head.bias.assign(np.full(model.head.bias.shape, np.inf))
    with pytest.raises(UserError, match="weights that are not finite"):
        convert.audit(file, model, lengths, "int8", "the int8 file")
