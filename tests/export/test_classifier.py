"""`tfdistill.Classifier`: the same answers from a bundle and from a model, for every task."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_recipes import teacher

import tfdistill as td
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel

PINNED = Path(__file__).parents[1] / "pinned"
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def saved(place: Path, task: str, names: tuple[str, ...] | None = None, outputs: int | None = None) -> Path:
    keras.utils.set_random_seed(2)
    config = BertConfig(vocab_size=37, max_position_embeddings=64, initializer_range=0.5, **SIZES)
    model = TextModel(config, len(names) if names else outputs, task, names)
    model.tokenizer = teacher().tokenizer
    return td.save(model, place)


def test_a_bundle_answers_one_text_or_several():
    classifier = td.Classifier(PINNED / "bundle")
    assert (classifier.task, classifier.label_names) == ("classification", ("no", "yes"))
    alone, both = classifier("good film"), classifier(["good film", "a"])
    assert alone == both[0] and alone["label"] == max(alone["probabilities"], key=alone["probabilities"].get)
    assert alone["score"] == pytest.approx(0.5102504842503435, abs=1e-3)
    assert classifier([]) == []


@pytest.mark.heavy
def test_a_bundle_answers_as_the_model_that_it_was_made_of():
    texts = ["good film", "a a a", "film!"]
    bundle, model = (td.Classifier(PINNED / name)(texts) for name in ("bundle", "student"))
    for ours, theirs in zip(bundle, model, strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=2e-2)


def test_a_text_that_is_cut_is_marked():
    classifier = td.Classifier(PINNED / "bundle")
    answers = classifier(["a " * 500, "a"])
    assert answers[0]["truncated"] and "truncated" not in answers[1]


@pytest.mark.heavy
def test_tags_become_entities(tmp_path):
    names = ("O", "B-X", "I-X")
    classifier = td.Classifier(saved(tmp_path / "m", "token_classification", names))
    text = "a b  c d e f g h"
    for entity in classifier(text)["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"] and entity["entity"] == "X"
        assert 1 / 3 <= entity["score"] <= 1
    with pytest.raises(UserError, match="one text"):
        classifier("a", "b")


@pytest.mark.heavy
def test_questions_are_answered_by_spans(tmp_path):
    classifier = td.Classifier(saved(tmp_path / "m", "question_answering"))
    context = "a b c d e f g h " * 20  # several windows
    answers = classifier(["a b", "c"], context)
    assert len(answers) == 2
    for answer in answers:
        if answer["answer"]:
            assert context[answer["start"] : answer["end"]] == answer["answer"]
        else:
            assert answer["start"] is None
        assert 0 < answer["score"] <= 1
    with pytest.raises(UserError, match="context"):
        classifier("a b")


@pytest.mark.heavy
def test_numbers_pairs_and_several_labels(tmp_path):
    value = td.Classifier(saved(tmp_path / "r", "regression", outputs=1))("a b", "c")
    assert np.isfinite(value["value"])
    several = td.Classifier(saved(tmp_path / "m", "multilabel", ("x", "y", "z")))("a b")
    assert {name for name, share in several["probabilities"].items() if share > 0.5} == set(several["labels"])


@pytest.mark.parametrize(
    ("texts", "texts_b", "name"),
    [("", None, "empty"), (["a", " \n"], None, "text 2"), (["a", 3], None, "int"), (["a", "b"], ["c"], "number")],
    ids=["empty", "white space", "number", "columns"],
)
def test_what_is_no_text_is_refused(texts, texts_b, name):
    with pytest.raises(UserError, match=name):
        td.Classifier(PINNED / "bundle")(texts, texts_b)


def test_damaged_bundles_and_wrong_places_are_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        td.Classifier(tmp_path / "nowhere")
    shutil.copytree(PINNED / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / "labels.txt").write_text("yes\nno\n")
    with pytest.raises(UserError, match=r"labels\.txt"):
        td.Classifier(tmp_path / "bundle")
    (tmp_path / "bundle" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json"):
        td.Classifier(tmp_path / "bundle")


@pytest.mark.heavy
def test_a_model_without_a_head_is_refused(tmp_path):
    place = saved(tmp_path / "m", "masked_lm")
    with pytest.raises(UserError, match=re.compile("fine-tune", re.IGNORECASE)):
        td.Classifier(place)
