"""Test that an export is refused before anything is converted."""

from __future__ import annotations

import pytest
from bundles import PIECES, reviewer
from helpers import tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.export.bundle.request import ExportRequest
from tfdistill.export.tflite.metadata import CARD
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.added_tokens import AddedToken
from tfdistill.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model():
    return reviewer()


def of_task(task: str, outputs: int | None = None, label_names: tuple[str, ...] | None = None) -> TextModel:
    model = TextModel(BertConfig(len(PIECES), 8, 1, 2, 16, max_position_embeddings=16), outputs, task, label_names)
    model.tokenizer = Tokenizer(PIECES)
    return model


def test_defaults_and_normalization(model, tmp_path):
    request = ExportRequest.of(model, str(tmp_path / "b"), length=[16, 8, 8], card={"license": "MIT"})
    assert request.out == tmp_path / "b" and request.report == tmp_path / "b.report.json"
    assert request.quantization == "dynamic_int8" and request.conversion.lengths == (8, 16)
    assert request.label_names == ("no", "yes") and not request.mediapipe and request.max_drop is None
    assert list(request.card) == list(CARD) and request.card["license"] == "MIT"
    assert ExportRequest.of(model, tmp_path / "b", length=8, mediapipe=True).conversion.probabilities


@pytest.mark.heavy
def test_more_classes_than_golden_vectors_can_hold(tmp_path):
    with pytest.raises(UserError, match="600,000"):
        ExportRequest.of(of_task("classification", 600_000), tmp_path / "b", length=8)


@pytest.mark.parametrize(
    ("task", "outputs", "names"),
    [
        ("classification", 2, ("LABEL_0", "LABEL_1")),
        ("regression", 1, ("score",)),
        ("question_answering", None, ("start", "end")),
        ("next_sentence", None, ("next", "other")),
    ],
)
def test_names_of_outputs_without_labels(task, outputs, names, tmp_path):
    assert ExportRequest.of(of_task(task, outputs), tmp_path / "b", length=8).label_names == names


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"length": 4}, "length is 4"),
        ({"length": 17}, "length is 17; expected 1 to 16"),
        ({"length": []}, r"lengths \(\)"),
        ({"quantize": "int3"}, "'int3'"),
        ({"quantize": "weight_int4"}, "'weight_int4'"),
        ({"max_drop": float("nan")}, "max_drop is nan"),
        ({"quantize": "int8", "mediapipe": True}, "int8"),
        ({"length": (8, 16), "mediapipe": True}, "--length"),
        ({"quantize": "int8", "text_in": True}, "--text-in"),
        ({"quantize": "weight_int8", "text_in": True}, "--text-in"),
        ({"card": {"licence": "MIT"}}, "licence"),
        ({"card": {"author": " "}}, "author"),
        ({"card": {"name": "a\nb"}}, "name"),
        ({"card": {"name": "\ud800"}}, "name"),
    ],
)
def test_options_out_of_range(model, options, match, tmp_path):
    with pytest.raises(UserError, match=match) as caught:
        ExportRequest.of(model, tmp_path / "b", **{"length": 8, **options})
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_exported(model, tmp_path):
    with pytest.raises(UserError, match="tokenizer"):
        ExportRequest.of(TextModel(model.config, 2), tmp_path / "b", length=8)
    with pytest.raises(UserError, match="masked_lm"):
        ExportRequest.of(of_task("masked_lm"), tmp_path / "b", length=8)


@pytest.mark.parametrize("task", ["multilabel", "regression", "token_classification"])
def test_mediapipe_only_classifies(task, tmp_path):
    with pytest.raises(UserError, match=rf"{task}.*--mediapipe"):
        ExportRequest.of(of_task(task, 1 if task == "regression" else 2), tmp_path / "b", length=8, mediapipe=True)


def test_mediapipe_takes_uncased_single_texts(tmp_path):
    cased = of_task("classification", 2)
    cased.tokenizer = Tokenizer(PIECES, lower_case=False)
    with pytest.raises(UserError, match="cased"):
        ExportRequest.of(cased, tmp_path / "b", length=8, mediapipe=True)
    pairs = tiny_bilstm(pair=True)
    pairs.tokenizer = Tokenizer(PIECES)
    with pytest.raises(UserError, match="pairs"):
        ExportRequest.of(pairs, tmp_path / "b", length=8, mediapipe=True)


def test_text_in_needs_a_tokenizer_that_tensorflow_text_has(tmp_path):
    other = of_task("classification", 2)
    other.tokenizer = Tokenizer(PIECES, strip_accents=False)
    with pytest.raises(UserError, match="--text-in"):
        ExportRequest.of(other, tmp_path / "b", length=8, text_in=True)


def test_a_directory_of_other_files_is_not_replaced(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("of years")
    with pytest.raises(UserError, match=str(tmp_path)):
        ExportRequest.of(model, tmp_path, length=8)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("option", ["text_in", "mediapipe"])
def test_files_that_take_text_cannot_hold_added_tokens(option, tmp_path):
    own = reviewer()
    own.tokenizer = Tokenizer(PIECES[:-1], added=[AddedToken("[X]", len(PIECES) - 1, special=True, normalized=False)])
    with pytest.raises(UserError, match=r"\[X\]"):
        ExportRequest.of(own, tmp_path / "b", length=8, **{option: True})
