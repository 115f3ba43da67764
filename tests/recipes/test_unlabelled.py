"""Unlabelled examples train what needs no labels."""

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

from tfdistill.data.batching import some_rows
from tfdistill.errors import UserError
from tfdistill.training.runner import train


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("soft_targets", ["num_layers=1"], ["all"]),
        ("soft_targets", ["num_layers=1", "soft_weight=0"], ["labelled"]),
        ("privileged", [], ["all"]),
        ("pkd", [], ["all"]),
        ("tinybert", [], ["all", "all"]),
        ("bilstm", [], ["all"]),
        ("bilstm", ["alpha=0.5"], ["all"]),
        ("bilstm", ["alpha=1"], ["labelled"]),
        ("static", [], ["all"]),
        ("xtremedistil", ["joint=true"], ["all"]),
        ("xtremedistil", [], ["all"] * 4 + ["labelled"] * 3),
        ("distilbert", [], ["labelled"]),
        ("distilbert", ["soft_weight=0.5"], ["all"]),
        ("mobilebert", ["schedule=joint", "soft_weight=0"], ["all", "labelled"]),
        ("layerdrop", ["depth=1"], ["labelled"]),
        ("layerdrop", ["depth=1", "soft_weight=0.5"], ["all"]),
        ("head_pruning", ["epochs=1", "soft_weight=0"], ["labelled"]),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"], ["all"]),
        ("neuron_pruning", ["steps=2"], ["all", "all"]),
        ("neuron_pruning", ["steps=2", "soft_weight=0"], ["labelled", "labelled"]),
    ],
)
def test_rows_without_a_label_train_where_the_teacher_is_asked(name, settings, rows, shallow):
    unlabelled = replace(split(16, 7), labels=None)
    text = data()
    if name != "privileged":
        text = data(unlabelled=unlabelled)
    assert [stage.rows for stage in make(name, text, settings, shallow).stages] == rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bilstm", ["alpha=0.5"]),
        ("xtremedistil", ["joint=true", "joint.pseudo_labels=1"]),
        ("distilbert", ["soft_weight=0.5"]),
        ("layerdrop", ["depth=1", "soft_weight=0.5"]),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"]),
        ("neuron_pruning", ["steps=1"]),
    ],
)
def test_batches_of_rows_without_a_label_have_a_loss(name, settings):
    """Batches of four, of which some have no label at all and some nothing else."""
    recipe = make(name, data(16, unlabelled=replace(split(48, 7), labels=None)), settings, teacher(layers=2))
    result = train(
        replace(recipe, stages=tuple(replace(each, batch_size=4) for each in recipe.stages)), seed=0, max_steps=12
    )
    assert result.rows >= 64
    losses = [value for point in result.curve for key, value in point.items() if key == "loss"]
    assert losses and np.isfinite(losses).all()


def test_some_rows_are_drawn_from_all():
    """Files may be sorted by class."""
    rows = some_rows(1000, 100)
    assert len(set(rows)) == 100 and rows[0] < 100 and rows[-1] > 900 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, some_rows(1000, 100))
    assert len(some_rows(5, 100)) == len(some_rows(5, None)) == 5


@pytest.mark.slow
@pytest.mark.heavy
def test_rows_without_labels_train_the_soft_term_only(tmp_path):
    more = replace(split(16, 7), labels=None)
    recipe = make("soft_targets", data(unlabelled=more), ["epochs=1"])
    result = train(recipe, seed=0)
    assert result.rows == 48
    assert np.isfinite([point["hard_labels"] for point in result.curve]).all()
    with pytest.raises(UserError, match="unlabelled rows"):
        train(replace(make("soft_targets", data(), []), stages=(replace(recipe.stages[0], rows="unlabelled"),)), seed=0)
