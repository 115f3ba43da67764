"""Test that golden vectors are replayed: ids by the bundle's vocabulary, logits by its file."""

from __future__ import annotations

import json

import pytest
from bundles import PIECES, read

from tfdistill.errors import UserError
from tfdistill.export.bundle.golden_check import check_golden
from tfdistill.export.tflite.runtime import TFLiteModel

pytestmark = pytest.mark.heavy


def check(bundle):
    return check_golden(bundle, TFLiteModel(bundle / "model.tflite"))


def test_an_intact_bundle_passes(bundle):
    assert "100 texts" in check(bundle).detail


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda golden: golden["vectors"][0].update(logits=[9.0, 9.0]), "differs"),
        (lambda golden: golden["vectors"][0].update(logits=[float("nan"), 0.0]), "nan"),
        (lambda golden: golden["vectors"][0].update(logits=[0.0]), "malformed"),
        (lambda golden: golden["vectors"][0].update(logits=[0.0] * 4), "shape"),
        (lambda golden: golden["vectors"][0].update(logits=[2**2000, 0]), "malformed"),
        (lambda golden: golden["vectors"][0].update(token_ids=["x"]), "malformed"),
        (lambda golden: golden["vectors"][0].update(token_ids=None), "malformed"),
        (lambda golden: golden["vectors"][0].pop("token_ids"), "malformed"),
        (lambda golden: golden.update(vectors=3), "malformed"),
        (lambda golden: golden.update(vectors=[]), "no vectors"),
        (lambda golden: golden.update(vectors=[3]), "malformed"),
        (lambda golden: golden["vectors"][0].update(token_ids=[15], segment_ids=[0]), "ids outside the vocabulary"),
        (lambda golden: golden["vectors"][0].update(token_ids=[-1], segment_ids=[0]), "ids outside the vocabulary"),
        (lambda golden: golden["vectors"][0].update(token_ids=[2**70], segment_ids=[0]), "ids outside the vocabulary"),
        (lambda golden: golden["vectors"][0].update(segment_ids=[0]), "segment ids"),
        (lambda golden: golden["vectors"][0].update(token_ids=[2] * 11, segment_ids=[0] * 11), "ids that differ"),
        (lambda golden: golden["vectors"][0].update(text="good"), "1 of 100 texts, such as 'good'"),
        (lambda golden: golden["vectors"][0].update(text=3), "malformed"),
        (lambda golden: golden["vectors"][0].update(text="\ud800"), "malformed"),
        (lambda golden: golden["vectors"][0].update(text="x" * (2**20 + 1)), "1048577"),
        (lambda golden: golden["vectors"][0].pop("text"), "malformed"),
        (lambda golden: golden["vectors"][0].update(text_b=""), "malformed"),
        (lambda golden: golden.update(length=11), "11"),
        (lambda golden: golden.pop("length"), "None"),
        (lambda golden: golden.update(tolerance="wide"), "malformed"),
        (lambda golden: golden.update(tolerance=float("inf")), "inf"),
        (lambda golden: golden.update(tolerance=float("nan")), "nan"),
        (lambda golden: golden.update(tolerance=-1), "-1"),
    ],
)
def test_vectors_that_do_not_fit(bundle, change, match):
    golden = read(bundle / "golden.json")
    change(golden)
    (bundle / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(UserError, match=match) as caught:
        check(bundle)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_unknown_keys_are_ignored(bundle):
    golden = read(bundle / "golden.json")
    golden["note"] = golden["vectors"][0]["note"] = "x"
    (bundle / "golden.json").write_text(json.dumps(golden))
    check(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda pieces: [*pieces[:5], *reversed(pieces[5:])],
        lambda pieces: [*pieces[:6], "movie", *pieces[7:]],
        lambda pieces: [*pieces[:-1], pieces[-2]],
        lambda pieces: ["[NONE]", *pieces[1:]],
        lambda pieces: pieces[:3],
        lambda pieces: [],
    ],
)
def test_another_vocabulary(bundle, change):
    (bundle / "vocab.txt").write_text("".join(f"{piece}\n" for piece in change(PIECES)))
    with pytest.raises(UserError, match="vocab"):
        check(bundle)


@pytest.mark.parametrize("change", [{"do_lower_case": False}, {"do_lower_case": None}, {"strip_accents": 1}])
def test_settings_of_another_tokenizer(bundle, change):
    settings = read(bundle / "tokenizer_config.json")
    (bundle / "tokenizer_config.json").write_text(json.dumps(settings | change))
    with pytest.raises(UserError):
        check(bundle)
