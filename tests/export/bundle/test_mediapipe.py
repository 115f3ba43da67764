"""Test that MediaPipe's TextClassifier gives the Keras model's probabilities from a bundle's file."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from bundles import read

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import BundleData, export_bundle
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.export.verify import verify_bundle
from tfdistill.models import presets
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"0123456789", *".,!?'-", "film"]
PIECES += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
TEXTS = [
    "A good film!",
    "not bad, isn't it?",
    "",
    "x",
    "  FILM   film ",
    "a " * 40,
    "films 1999 - the-best.",
    "tab\there",
]
LENGTH = 24


def model_of(family: str, task: str = "classification") -> TextModel:
    sizes = {
        "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
        "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
        "mobilebert": {
            "hidden_size": 16,
            "intra_bottleneck_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "embedding_size": 8,
        },
    }
    names = ("bad", "so so", "good")
    if family == "bilstm":
        model = TextModel(BiLSTMConfig(len(PIECES), embedding_size=8, lstm_size=6, dense_size=7), 3, task, names)
    else:
        preset = {"bert": "tinybert_4l_312"}.get(family, family)
        model = presets.new(
            preset, vocab_size=len(PIECES), num_outputs=3, task=task, label_names=names, **sizes[family]
        )
    rng = np.random.default_rng(5)
    for weight in model.weights:  # of a size that tells texts apart
        if "seed" not in weight.path and weight.ndim > 1:
            weight.assign(rng.normal(0, 0.2 if family == "mobilebert" else 0.5, weight.shape))
    model.tokenizer = Tokenizer(PIECES)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "quantize"),
    [
        ("bert", "fp32"),
        pytest.param("bert", "dynamic_int8", marks=pytest.mark.slow),
        pytest.param("distilbert", "fp32", marks=pytest.mark.slow),
        ("mobilebert", "fp32"),
        ("bilstm", "dynamic_int8"),
    ],
)
def test_mediapipe_gives_kerass_probabilities(family, quantize, tmp_path):
    text = pytest.importorskip("mediapipe.tasks.python").text
    model = model_of(family)
    bundle = export_bundle(model, tmp_path / "bundle", quantize=quantize, length=LENGTH, mediapipe=True)
    verify_bundle(bundle)
    # LiteRT's JavaScript refuses a fused LSTM.
    assert ("loads no file with an LSTM" in (bundle / "README.md").read_text()) == (family == "bilstm")
    rows = model.tokenizer.encode(TEXTS, max_length=LENGTH)
    batch = model.tokenizer(TEXTS, length=LENGTH)
    logits = np.asarray(model({key: np.asarray(value) for key, value in batch.items()}))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert len({tuple(row) for row in expected.round(3)}) > 4
    file = np.exp(TFLiteModel(bundle / "model.tflite").predict(rows))
    np.testing.assert_allclose(file, expected, atol=1e-5 if quantize == "fp32" else 0.1)
    names = (bundle / "labels.txt").read_text().split("\n")[:-1]
    with text.TextClassifier.create_from_model_path(str(bundle / "model.tflite")) as classifier:
        for each, probabilities in zip(TEXTS, file, strict=True):
            (classified,) = classifier.classify(each).classifications
            scores = {category.category_name: category.score for category in classified.categories}
            np.testing.assert_allclose([scores[name] for name in names], probabilities, atol=1e-4, err_msg=each)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("mediapipe") / "bundle"
    return export_bundle(model_of("bert"), out, length=LENGTH, mediapipe=True)


@pytest.mark.heavy
def test_the_manifest_and_the_readme(made):
    manifest = read(made / "manifest.json")
    assert manifest["mediapipe"] and manifest["output"] == "probabilities"
    assert "TextClassifier.createFromFile" in (made / "README.md").read_text()


@pytest.mark.heavy
def test_the_files_within_have_no_date(made):
    with zipfile.ZipFile(made / "model.tflite") as files:
        assert {info.date_time for info in files.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert files.read("labels.txt") == b"bad\nso so\ngood\n"


def test_a_bert_for_pairs_is_known_by_its_data(tmp_path):
    model = model_of("bert")
    rows = model.tokenizer.encode(["a film"], ["good"], max_length=LENGTH)
    data = BundleData(dev=(rows, np.zeros((1, 3)), None))
    with pytest.raises(UserError, match="pairs"):
        export_bundle(model, tmp_path / "bundle", data, length=LENGTH, mediapipe=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_files_for_other_clients_are_refused_by_mediapipe(task, tmp_path):
    """They hold logits, which TextClassifier would take for probabilities: it must not find a tokenizer in them."""
    text = pytest.importorskip("mediapipe.tasks.python").text
    bundle = export_bundle(model_of("bert", task=task), tmp_path / "bundle", quantize="fp32", length=LENGTH)
    with pytest.raises((RuntimeError, ValueError)):
        text.TextClassifier.create_from_model_path(str(bundle / "model.tflite"))
