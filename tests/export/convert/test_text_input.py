"""Test that the file that takes text reads the ids of the bundle's tokenizer, and gives the file's logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.convert.text_input import run_text_in
from tfdistill.export.verify import verify_bundle
from tfdistill.text.tokenizer import Tokenizer

TINY = Path(__file__).parents[2] / "models" / "tiny_bert"


def with_tokenizer(model, **settings):
    model.tokenizer = Tokenizer(Tokenizer.from_directory(TINY).vocabulary, **settings)
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = with_tokenizer(tiny_bert(outputs=2))
    out = tmp_path_factory.mktemp("text") / "bundle"
    return model, export_bundle(model, out, quantize="fp32", length=10, text_in=True)


@pytest.mark.heavy
def test_text_gives_what_its_ids_give(made):
    model, out = made
    texts = ["a b c", "", "A, b! c", "a b c d e f g h a b c d", "\u00e0 b"]
    logits, ids = run_text_in((out / "model-text.tflite").read_bytes(), texts, None)
    inputs = model.tokenizer(texts, length=10)
    np.testing.assert_array_equal(ids, inputs["token_ids"])
    np.testing.assert_allclose(logits, model(inputs), atol=1e-5)


@pytest.mark.heavy
def test_it_is_not_measured_here(made, tfdistill):
    file = made[1] / "model-text.tflite"
    code, _, err = tfdistill("bench", file)
    assert code == 2 and str(file) in err and err.count("\n") == 1


@pytest.mark.heavy
def test_manifest_and_readme(made):
    _, out = made
    entry = json.loads((out / "manifest.json").read_text())["text_in"]
    assert entry["rows"] == 100 and 0.5 < entry["same_ids"] <= 1.0 and entry["max_abs_difference"] < 1e-4
    assert entry["operators"]["custom:FastBertNormalize"] == 1
    text = (out / "README.md").read_text()
    assert "model-text.tflite" in text and "text_b=np" not in text
    verify_bundle(out)


@pytest.mark.slow
def test_pairs_are_cut_alike(tmp_path):
    model = with_tokenizer(tiny_bilstm(outputs=2, pair=True))
    out = export_bundle(model, tmp_path / "bundle", quantize="dynamic_int8", length=9, text_in=True)
    firsts, seconds = ["a b c d e f g h", "a", "a b c", ""], ["a b c d e f g h a", "a b c d e f g h", "b", "c"]
    _, ids = run_text_in((out / "model-text.tflite").read_bytes(), firsts, seconds)
    np.testing.assert_array_equal(ids, model.tokenizer(firsts, seconds, length=9)["token_ids"])
    assert "text_b=np" in (out / "README.md").read_text()
