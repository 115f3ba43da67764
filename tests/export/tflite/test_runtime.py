"""Test running files, and refusing damaged files and rows that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from tfdistill.errors import UserError
from tfdistill.export.convert.convert import convert_model
from tfdistill.export.tflite.operators import check_operators, operators
from tfdistill.export.tflite.parity import check_logits, parity
from tfdistill.export.tflite.runtime import Rows, TFLiteModel
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    model = TextModel(BertConfig(60, 16, 1, 2, 32, max_position_embeddings=16), 2)
    for number, weight in enumerate(model.weights):  # layers that begin alike would be merged into one operator
        if "kernel" in weight.path:
            weight.assign(np.random.default_rng(number).normal(0, 0.3, weight.shape))
    made = convert_model(model, tmp_path_factory.mktemp("runtime"), name="m", length=8, modes=["fp32"])
    return made["fp32"].path


@pytest.mark.slow
def test_workers_give_the_same(file):
    rows = Rows([[2, n, 3] for n in range(41)])
    counts = []
    one = TFLiteModel(file).predict(rows, workers=1)
    two = TFLiteModel(file).predict(rows, workers=2, progress=counts.append)
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert counts == [32, 9]


@pytest.mark.heavy
def test_no_rows_give_no_logits(file):
    assert TFLiteModel(file).predict(Rows([])).shape == (0, 2)


@pytest.mark.heavy
def test_long_rows_are_counted(file):
    with pytest.raises(UserError, match=r"2 of 3.* 8 .*11"):
        TFLiteModel(file).predict(Rows([[1] * 9, [1] * 8, [1] * 11]))


@pytest.mark.heavy
def test_ids_outside_the_vocabulary(file):
    with pytest.raises(UserError, match="vocabulary"):
        TFLiteModel(file).predict(Rows([[1, 60]]))


@pytest.mark.heavy
def test_missing_and_damaged_files(file, tmp_path):
    with pytest.raises(UserError, match=r"x\.tflite"):
        TFLiteModel(tmp_path / "x.tflite")
    with pytest.raises(UserError, match="directory"):
        TFLiteModel(tmp_path)
    damaged = tmp_path / "damaged.tflite"
    content = file.read_bytes()
    for part in (b"", b"<html>", content[:200], content[: len(content) // 2], content[:-2000]):
        damaged.write_bytes(part)
        with pytest.raises(UserError, match="damaged"):
            TFLiteModel(damaged)


@pytest.mark.heavy
def test_operators(file):
    counts = operators(file.read_bytes())
    assert counts["FULLY_CONNECTED"] == 8 and counts["GATHER"] == 2
    check_operators(counts)
    with pytest.raises(UserError, match="FlexErf, Own"):
        check_operators({"ADD": 1, "custom:FlexErf": 2, "custom:Own": 1})
    with pytest.raises(UserError, match="is damaged"):
        operators(file.read_bytes()[:100])


def test_parity():
    a, b = np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[0.5, 1.0], [0.0, 0.25]])
    assert parity(a, b) == {"max_abs_difference": 2.0, "argmax_agreement": 0.5}
    assert parity(a, a) == {"max_abs_difference": 0.0, "argmax_agreement": 1.0}
    assert parity(a[:1], a[:1])["argmax_agreement"] == 1.0
    for one, other, message in (
        (a, b[:1], r"\(2, 2\) and \(1, 2\)"),
        (a[:0], b[:0], "N > 0"),
        (a, a * np.nan, "2 of 2"),
        (a, a * 0, "all 2 "),
        (a * 0 + 1, a, "Keras"),
    ):
        with pytest.raises(UserError, match=message):
            parity(one, other)
    check_logits(np.ones((1, 2)))
