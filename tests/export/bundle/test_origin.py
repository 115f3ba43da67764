"""Test that a bundle knows the model that it was exported from."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from bundles import read, reseal, reviewer

from tfdistill.export.bundle.origin import MODEL_SHA256, bundle_of, is_model_of
from tfdistill.export.verify import verify_bundle

pytestmark = pytest.mark.heavy


def other_head(model, label_names=("no", "yes")):
    """Return a model of the same sizes, vocabulary and body, whose head is another."""
    other = reviewer(label_names)
    other.set_weights(model.get_weights())
    other.head.kernel.assign(-np.asarray(model.head.kernel))
    return other


def test_the_models_own_bundle(exported):
    model, bundle = exported
    assert is_model_of(model, bundle) is True
    again = reviewer()
    again.set_weights(model.get_weights())
    assert is_model_of(again, bundle) is True


def test_a_model_with_other_weights(exported):
    assert is_model_of(other_head(exported[0]), exported[1]) is False


def test_a_bundle_of_an_older_version(exported, bundle):
    """It verifies, and only sizes, labels and vocabulary can be compared."""
    reseal(bundle, lambda manifest: manifest.pop(MODEL_SHA256))
    verify_bundle(bundle)
    assert is_model_of(exported[0], bundle) is None and is_model_of(other_head(exported[0]), bundle) is None
    assert is_model_of(reviewer(("bad", "good")), bundle) is False
    (bundle / "vocab.txt").write_text("other\n")
    assert is_model_of(exported[0], bundle) is False


@pytest.mark.parametrize("value", [None, 1, [], {}, "x"])
def test_a_hand_made_manifest(exported, bundle, value):
    keys = (MODEL_SHA256, "family", "parameters", "label_names")
    reseal(bundle, lambda manifest: manifest.update(dict.fromkeys(keys, value)))
    assert is_model_of(exported[0], bundle) is False


def test_the_bundle_of_a_file(exported, bundle, tmp_path):
    assert bundle_of(bundle) == bundle_of(bundle / "model.tflite") == bundle
    alone = shutil.copy(bundle / "model.tflite", tmp_path / "alone.tflite")
    assert bundle_of(tmp_path / "alone.tflite") is None and bundle_of(tmp_path) is None
    shutil.copy(alone, bundle / "another.tflite")
    (bundle / "another.tflite").write_bytes(b"another")
    assert bundle_of(bundle / "another.tflite") is None
    assert len(read(bundle / "manifest.json")[MODEL_SHA256]) == 64
