"""The baseline on labels, and the search for a learning rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_recipes import (
    data,
    make,
    split,
    teacher,
)

from tfdistill.recipes import find
from tfdistill.training import callbacks, evaluation, runner, search
from tfdistill.training.baseline import on_labels_alone
from tfdistill.training.runner import train
from tfdistill.training.search import search_learning_rate
from tfdistill.training.settings import parse_settings
from tfdistill.training.trainer import Trainer


@pytest.mark.slow
@pytest.mark.parametrize(("scores", "kept"), [((0.9, 0.1, 0.5), 0.9), ((0.1, 0.9, 0.5), 0.9), ((0.1, 0.2, 0.5), 0.5)])
def test_a_stage_that_only_makes_the_student_worse_changes_nothing(monkeypatch, scores, kept):
    recipe = make("soft_targets", data(36), [])
    stage = replace(recipe.stages[0], start_counts=True, evaluations=2, patience=1)
    start, given = recipe.student.get_weights(), iter(scores)
    for module in (callbacks, evaluation):
        monkeypatch.setattr(module, "dev_scores", lambda *_: {"accuracy": next(given)})
    result = train(replace(recipe, stages=(stage,)), seed=1, max_steps=2, score_test=False)
    assert result.scores == {"dev": {"accuracy": kept}}
    same = [np.array_equal(a, b) for a, b in zip(start, recipe.student.get_weights(), strict=True)]
    assert all(same) == (scores[0] == kept) and not list(given)  # what the start gave is not what patience waits for


@pytest.mark.slow
def test_the_baseline_takes_as_many_steps_on_labels():
    more = replace(split(32, 7), labels=None)
    recipe = make("tinybert", data(unlabelled=more), ["transformer.epochs=3", "epochs=1", "copies=0"])
    baseline = on_labels_alone(recipe)
    assert baseline.teacher is None and len(baseline.stages) == 1
    distilled, alone = (train(r, seed=0).curve for r in (recipe, baseline))
    last_of_stage = {entry["stage"]: entry["step"] for entry in distilled}
    assert alone[-1]["step"] == sum(last_of_stage.values())


@pytest.mark.slow
def test_the_search_leaves_the_student_as_it_was_and_its_trainer_changes_nothing():
    made = find("soft_targets").recipe(
        teacher(), data(), parse_settings(find("soft_targets").Settings, ["max_length=12", "batch_size=8"])
    )
    start = made.student.get_weights()
    trainer = Trainer(made.student, made.stages)
    scores = search_learning_rate(made, [1e-3, 1e-2], seed=0, steps=3, trainer=trainer)
    assert sorted(scores) == [1e-3, 1e-2] and sorted(scores.values(), reverse=True) == list(scores.values())
    assert all(0 <= score <= 1 for score in scores.values())
    for before, after in zip(start, made.student.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)

    compiled = trainer.distiller
    train(made, seed=0, max_steps=3, trainer=trainer)
    assert trainer.distiller is compiled
    searched = made.student.get_weights()
    made.student.set_weights(start)
    train(made, seed=0, max_steps=3)
    for one, other in zip(searched, made.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.heavy
def test_of_equal_scores_the_lower_loss_wins(monkeypatch):
    losses = {1e-4: 3.0, 1e-3: 2.0, 1e-2: 2.5}

    def trained(recipe, **_):
        loss = losses[recipe.stages[0].learning_rate]
        return runner.Result(recipe.student, curve=[{"loss": loss}], scores={"dev": {"accuracy": 0.5}})

    monkeypatch.setattr(search, "train", trained)
    made = make("soft_targets", data(), [])
    assert list(search_learning_rate(made, list(losses), seed=0, steps=1)) == [1e-3, 1e-2, 1e-4]
