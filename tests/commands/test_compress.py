"""Test `tfdistill compress`: what it prints and refuses. `tests/compress/test_tfmot.py` tests the method."""

from __future__ import annotations

import json

import pytest

from tfdistill.compress import tfmot
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.hf import save_directory
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel


@pytest.fixture(scope="module")
def bilstm(work, tmp_path_factory):
    """Return the directory of a random BiLSTM for the data of `work`."""
    teacher = load(work / "teacher" / "student")
    size = len(teacher.tokenizer.vocabulary)
    model = TextModel(BiLSTMConfig(size, 12, 8, dense_size=10, dropout=0.0), 2, label_names=teacher.label_names)
    model.tokenizer = teacher.tokenizer
    place = tmp_path_factory.mktemp("bilstm") / "model"
    save_directory(model, place, recipe={"max_length": 16})
    return place


@pytest.mark.parametrize("more", [[], ["--clusters", "4", "--sparsity", "0.5"]])
def test_exactly_one_method(tfdistill, tmp_path, more):
    code, _, err = tfdistill("compress", "model", "--data", "data", "--out", tmp_path / "small", *more)
    assert code == 2 and "--clusters" in err and "--sparsity" in err and err.count("\n") == 1


@pytest.mark.heavy
def test_a_transformer_is_refused(work, tfdistill, tmp_path):
    words = ["--data", work / "data", "--out", tmp_path / "small", "--clusters", "4"]
    code, _, err = tfdistill("compress", work / "teacher" / "student", *words)
    assert code == 2 and "bert" in err and err.count("\n") == 1 and not (tmp_path / "small").exists()


@pytest.mark.heavy
def test_a_report_before_and_after(work, bilstm, tfdistill, tmp_path, monkeypatch):
    """The other process is replaced by one that sets every weight to zero."""

    def zeros(student, rows, logits, compression, advance):
        for weight in tfmot.named_weights(student).values():
            weight.assign(weight * 0)

    monkeypatch.setattr(tfmot, "compress", zeros)
    words = ["--data", work / "data", "--out", tmp_path / "small", "--sparsity", "0.9", "--steps", "7"]
    code, printed, err = tfdistill("compress", bilstm, *words)
    assert code == 0, err
    report = json.loads((tmp_path / "small" / "recipe.json").read_text("utf-8"))["compressed"]
    assert report["how"] == {"method": "prune", "sparsity": 0.9, "steps": 7, "learning_rate": 1e-3, "seed": 1}
    assert report["after"]["zipped"] < report["before"]["zipped"] and set(report["after"]["scores"]) == {"dev", "test"}
    assert all(matrix["zero"] == 1 for matrix in report["after"]["matrices"].values())
    assert "100 %" in printed and f"tfdistill export {tmp_path / 'small'}" in printed
