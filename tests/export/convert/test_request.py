"""Test that conversions are refused before anything is converted."""

from __future__ import annotations

import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.export.convert.convert import convert_model
from tfdistill.export.convert.request import ConversionRequest
from tfdistill.export.tflite.runtime import Rows


@pytest.fixture(scope="module")
def model():
    return tiny_bert()


@pytest.fixture(scope="module")
def tagger():
    return tiny_bert(task="token_classification")


def test_normalization(model):
    request = ConversionRequest.of([(model, "x")], length=[8, 4, 8], modes=["int8", "fp32", "int8"])
    assert request.lengths == (4, 8) and request.longest == 8
    assert request.modes == ("int8", "fp32") and request.calibrated == ["int8"]
    assert ConversionRequest.of([(model, "x")], length=8, modes="fp16").modes == ("fp16",)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"modes": ["dynamic_int"]}, "'dynamic_int8'"),
        ({"modes": ["int4"]}, "'int4'"),
        ({"modes": []}, "modes"),
        ({"length": []}, "lengths"),
        ({"length": 17}, "length is 17; expected 1 to 16"),
        ({"length": 0}, "length is 0"),
        ({"probabilities": True}, "token_classification"),
    ],
)
def test_options_out_of_range(model, tagger, change, match):
    with pytest.raises(UserError, match=match):
        ConversionRequest.of([(model, "x"), (tagger, "y")], **{"length": 8, **change})


@pytest.mark.parametrize("names", [["../x"], [""], ["x", "x"]])
def test_names_that_are_not_file_names(model, names):
    with pytest.raises(UserError, match=f"'{names[0]}'"):
        ConversionRequest.of([(model, name) for name in names])


def test_models_for_training_only():
    with pytest.raises(UserError, match=r"'x'.*masked_lm"):
        ConversionRequest.of([(tiny_bert(outputs=None, task="masked_lm"), "x")], length=8)


def test_the_int8_of_a_bilstm_has_one_length():
    with pytest.raises(UserError, match=r"int8.*bilstm.*4, 8"):
        ConversionRequest.of([(tiny_bilstm(), "x")], length=[8, 4], modes=["int8"])


@pytest.mark.parametrize("calibration", [None, Rows([])])
def test_calibration_data_is_needed(model, calibration, tmp_path):
    with pytest.raises(UserError, match=r"int8.*--data"):
        convert_model(model, tmp_path, name="x", length=8, modes=["int8"], calibration=calibration)
    assert list(tmp_path.iterdir()) == []
