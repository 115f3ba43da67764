"""The file that takes text: it reads the ids of the bundle's tokenizer, and gives the file's logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.convert.text_input import check_text_in, run_text_in
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


def test_text_gives_what_its_ids_give(made):
    model, out = made
    texts = ["a b c", "", "A, b! c", "a b c d e f g h a b c d", "\u00e0 b"]
    logits, ids = run_text_in((out / "model-text.tflite").read_bytes(), texts, None)
    inputs = model.tokenizer(texts, length=10)
    np.testing.assert_array_equal(ids, inputs["token_ids"])
    np.testing.assert_allclose(logits, model(inputs), atol=1e-5)


def test_it_is_not_measured_here(made, tfdistill):
    file = made[1] / "model-text.tflite"
    code, _, err = tfdistill("bench", file)
    assert code == 2 and f"{file} takes text, with TensorFlow Text's operators" in err


def test_the_bundle_says_so(made):
    _, out = made
    said = json.loads((out / "manifest.json").read_text())["text_in"]
    assert said["rows"] == 100 and 0.5 < said["same_ids"] <= 1.0 and said["max_abs_difference"] < 1e-4
    assert said["operators"]["custom:FastBertNormalize"] == 1
    text = (out / "README.md").read_text()
    assert "MediaPipe do not load it" in text and "text_b" not in text
    verify_bundle(out)
    (out / "model-text.tflite").write_bytes((out / "model-text.tflite").read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"model-text\.tflite was changed"):
        verify_bundle(out)


@pytest.mark.slow
def test_pairs_are_cut_alike(tmp_path):
    model = with_tokenizer(tiny_bilstm(outputs=2, pair=True))
    out = export_bundle(model, tmp_path / "bundle", quantize="dynamic_int8", length=9, text_in=True)
    firsts, seconds = ["a b c d e f g h", "a", "a b c", ""], ["a b c d e f g h a", "a b c d e f g h", "b", "c"]
    _, ids = run_text_in((out / "model-text.tflite").read_bytes(), firsts, seconds)
    np.testing.assert_array_equal(ids, model.tokenizer(firsts, seconds, length=9)["token_ids"])
    assert "text_b" in (out / "README.md").read_text()


def test_what_there_is_no_such_file_of():
    model = with_tokenizer(tiny_bert())
    for mode in ("int8", "weight_int8"):
        with pytest.raises(UserError, match=rf"cannot be {mode}; expected fp32"):
            check_text_in(model, mode)
    with pytest.raises(UserError, match="this tokenizer does otherwise"):
        check_text_in(with_tokenizer(tiny_bert(), strip_accents=False), "fp32")
