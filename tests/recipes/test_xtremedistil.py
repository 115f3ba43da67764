"""The recipe xtremedistil: its student, stages and options."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tiny_recipes import (
    data,
    make,
    split,
    teacher,
)

from tfdistill import losses
from tfdistill.distill.features import Features
from tfdistill.distill.label_terms import PseudoLabels
from tfdistill.distill.step import Step
from tfdistill.errors import UserError
from tfdistill.recipes import find


def test_pseudo_labels_are_of_rows_without_a_label():
    logits, theirs = (
        tf.constant([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        tf.constant([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]),
    )
    value, count = PseudoLabels()(
        Step(Features(logits=logits), Features(logits=theirs), labels=tf.constant([0, -1, -1]))
    )
    np.testing.assert_allclose(value, [0.0, 1.313262, 0.313262], atol=1e-6)  # log(1 + e) and log(1 + 1/e)
    np.testing.assert_array_equal(count, [0, 1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (data(), "unlabelled"),
        (data(task="multilabel"), "multilabel"),
        (data(task="regression"), "regression"),
    ],
)
def test_pseudo_labels_need_classes_and_unlabelled_text(text, message, shallow):
    with pytest.raises(UserError, match=message):
        make("xtremedistil", text, ["joint=true", "joint.pseudo_labels=1"], shallow)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("task", "settings", "loss"),
    [
        ("classification", [], "half_squared_log_odds"),
        ("classification", ["logit_target=logits"], "half_squared_distance"),
        ("multilabel", [], "half_squared_distance"),
        ("regression", [], "half_squared_distance"),
    ],
)
def test_xtremedistil_learns_the_papers_logits_or_the_authors(task, settings, loss):
    stages = make("xtremedistil", data(task=task), settings, teacher(task, layers=1)).stages
    assert [term.name for stage in stages if stage.name.startswith("logits") for term in stage.terms] == [loss] * 3


@pytest.mark.parametrize("task", ["token_classification", "question_answering"])
def test_xtremedistil_says_that_it_needs_texts_with_classes(task, shallow):
    text = SimpleNamespace(task=task, name="X", is_pair=False)
    with pytest.raises(UserError, match=task):
        find("xtremedistil").recipe(shallow, text)


def test_xtremedistil_options(shallow):
    recipe = make("xtremedistil", data(), ["representation=mse", "layer=1"], shallow)
    (term,) = recipe.stages[0].terms
    assert (term.loss, term.layers) == (losses.representation_mse, ((1, 1),))
    (term,) = make("xtremedistil", data(), [], shallow).stages[0].terms
    assert (term.loss, term.layers) == (losses.representation_kl, ((1, 2),))


@pytest.mark.heavy
def test_xtremedistil_stages():
    recipe = make("xtremedistil", data(), [])
    assert [stage.name for stage in recipe.stages] == [
        "representation",
        *(f"{kind}, {part} and above" for kind in ("logits", "labels") for part in ("head", "layer_1", "embeddings")),
    ]
    assert recipe.student.config.pooling == "max" and recipe.stages[0].monitor == "loss"
    more = replace(split(16, 7), labels=None)
    joint = make("xtremedistil", data(unlabelled=more), ["joint=true", "joint.pseudo_labels=1"])
    assert [term.name for term in joint.stages[0].terms] == [
        "hard_labels",
        "soft_kl",
        "representation",
        "pseudo_labels",
    ]
