"""Test a bundle's README for the kinds of bundles, without one."""

from __future__ import annotations

import pytest

from tfdistill.export.bundle.readme import readme

MANIFEST = {
    "family": "bert",
    "task": "classification",
    "quantization": "fp32",
    "length": 8,
    "lengths": [8],
    "label_names": ["no", "yes"],
    "output": "logits",
    "mediapipe": False,
    "model_card": {"name": "Reviews", "version": "2", "author": "A. Writer", "license": "MIT", "description": "Films."},
    "operators": {"ADD": 2},
    "delegates": {"gpu": {"takes": {"ADD": 2}, "leaves": {}}, "core_ml": {"takes": {}, "leaves": {"ADD": 2}}},
    "text_in": None,
    "parity": None,
    "versions": {"tfdistill": "1.2.3"},
    "golden": {"texts": 100, "left_out": 0},
}


def text_of(pair: bool = False, lower_case: bool = True, **changes) -> str:
    text = readme({**MANIFEST, **changes}, pair=pair, lower_case=lower_case)
    assert "{{" not in text and "{%" not in text and "\n\n\n" not in text
    return text


def test_what_it_says_of_every_bundle():
    text = text_of()
    for part in ("bert for classification, fp32", "`no`, `yes`.", "1.2.3", "int32 [1, 8]", "`logits`, float32 [1, 2]"):
        assert part in text
    assert "Reviews, version 2. Author: A. Writer. License: MIT.  \nFilms." in text
    assert "| GPU | 2 of 2 | nothing |" in text and "| Core ML | 0 of 2 | 2 ADD |" in text


def test_markup_of_the_user_is_shown_as_it_is():
    """Labels and the card may come from anybody: a viewer shows them, and nothing after them is lost."""
    card = {name: f"| `{name}` <b>x</b> <!-- [y](z) *" for name in MANIFEST["model_card"]}
    text = text_of(label_names=["`c` <script>", "a|b", "\x1b[2J\u202e"], model_card=card)
    assert "`` `c` <script> ``, `a|b`, `\\x1b[2J\\u202e`." in text
    for name in card:
        assert f"\\| \\`{name}\\` \\<b\\>x\\</b\\> \\<!-- \\[y\\](z) \\*" in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"lower_case": True}, "lower-case, strip accents"),
        ({"mediapipe": True, "output": "probabilities"}, "TextClassifier.createFromFile"),
        ({"operators": {"UNIDIRECTIONAL_SEQUENCE_LSTM": 2}}, "no file with an LSTM"),
        ({"text_in": {"rows": 100, "same_ids": 0.91}}, "100 texts in `golden.json` 91 %"),
        ({"text_in": {"rows": 100, "same_ids": 0.91}, "pair": True}, "text_b=np"),
        ({"pair": True}, "the second text, [SEP]"),
        ({"label_names": [f"L{n}" for n in range(10)]}, "`L7` and 2 more"),
        ({"task": "token_classification"}, "Array(8) { FloatArray(2) }"),
        ({"task": "token_classification"}, "float32 [1, 8, 2]"),
        ({"parity": {"rows": 1234, "metric": "f1", "drop": 1, "f1": 0.5, "keras_f1": 0.75}}, "1,234"),
        ({"parity": {"rows": 1234, "metric": "f1", "drop": 1, "f1": 0.5, "keras_f1": 0.75}}, "0.5000 f1"),
        ({"lengths": [6, 8]}, "`length_6` takes [1, 6]"),
        ({"lengths": [6, 8]}, "val lengths = intArrayOf(6, 8)"),
        ({"lengths": [6, 8]}, 'if (length == lengths.last()) "serving_default" else "length_$length"'),
        ({"lengths": [6, 8]}, 'length == lengths.last! ? "serving_default" : "length_\\(length)"'),
        ({"lengths": [6, 8]}, "length === lengths.at(-1) ? 'serving_default' : `length_${length}`;"),
    ],
)
def test_parts_that_some_bundles_have(changes, part):
    assert part in text_of(**changes) and (part not in text_of(lower_case=False))
