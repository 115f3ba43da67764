"""Run the Python code of bundles' READMEs, in the bundle's directory, as an app developer would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import PIECES, reviewer

import tfdistill as td
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.models.bert import BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

pytestmark = pytest.mark.heavy


def model_of(
    task: str, names: tuple[str, ...] | None = None, outputs: int | None = None, config: Any = None
) -> TextModel:
    config = config or BertConfig(len(PIECES), 16, 1, 2, 32, max_position_embeddings=16, initializer_range=0.5)
    model = TextModel(config, len(names) if names else outputs, task, names)
    model.tokenizer = Tokenizer(PIECES)
    return model


def run_code(bundle: Path, monkeypatch) -> dict[str, Any]:
    """Run the complete client and the golden test of a README; return the names that they define."""
    text = (bundle / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index("## Python, complete") :], re.DOTALL)
    monkeypatch.chdir(bundle)
    names: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(compile(block, "README.md", "exec"), names)
    assert len(names["golden"]["vectors"]) >= 50
    return names


def test_classes(tmp_path, monkeypatch):
    bundle = export_bundle(reviewer(), tmp_path / "b", length=10, quantize="fp32")
    names = run_code(bundle, monkeypatch)
    answer = td.Classifier(bundle)("a good film, not!")
    assert names["classify"]("a good film, not!") == (answer["label"], pytest.approx(answer["score"], abs=1e-5))


@pytest.mark.slow
def test_classes_of_a_file_for_mediapipe(tmp_path, monkeypatch):
    bundle = export_bundle(reviewer(), tmp_path / "b", length=10, quantize="fp32", mediapipe=True)
    names = run_code(bundle, monkeypatch)
    answer = td.Classifier(bundle)("a good film")
    assert names["classify"]("a good film") == (answer["label"], pytest.approx(answer["score"], abs=1e-5))


@pytest.mark.slow
def test_pairs_of_a_siamese_file(tmp_path, monkeypatch):
    model = model_of("classification", ("x", "y"), config=BiLSTMConfig(len(PIECES), 8, 8, dense_size=8, pair=True))
    bundle = export_bundle(model, tmp_path / "b", length=16, quantize="fp32")
    names = run_code(bundle, monkeypatch)
    answer = td.Classifier(bundle)("a good film", "it is not")
    assert names["classify"]("a good film", "it is not")[0] == answer["label"]


@pytest.mark.slow
def test_several_labels_and_numbers(tmp_path, monkeypatch):
    bundle = export_bundle(model_of("multilabel", ("x", "y", "z")), tmp_path / "m", length=10, quantize="fp32")
    labels = run_code(bundle, monkeypatch)["classify"]("a good film")
    assert set(labels) == set(td.Classifier(bundle)("a good film")["labels"])
    bundle = export_bundle(model_of("regression", outputs=1), tmp_path / "r", length=10, quantize="fp32")
    value = run_code(bundle, monkeypatch)["value"]("a good film")
    assert value == pytest.approx(td.Classifier(bundle)("a good film")["value"], abs=1e-5)


@pytest.mark.slow
def test_tags_and_answers(tmp_path, monkeypatch):
    bundle = export_bundle(
        model_of("token_classification", ("O", "B-X", "I-X")), tmp_path / "t", length=12, quantize="fp32"
    )
    tags = run_code(bundle, monkeypatch)["tags"]("a good film, not it")
    assert [word for word, _ in tags] == ["a", "good", "film", ",", "not", "it"]
    entities = td.Classifier(bundle)("a good film, not it")["entities"]
    assert bool(entities) == any(tag != "O" for _, tag in tags)
    bundle = export_bundle(model_of("question_answering"), tmp_path / "q", length=16, quantize="fp32")
    answer = run_code(bundle, monkeypatch)["answer"]("it?", "a good film, not it")
    assert answer and answer in "a good film, not it"
    assert np.isfinite(td.Classifier(bundle)("it?", "a good film, not it")["score"])
