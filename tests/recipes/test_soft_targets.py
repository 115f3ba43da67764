"""The recipe soft_targets: its student, stages and options."""

from __future__ import annotations

import pytest
from tiny_recipes import (
    data,
    make,
    teacher,
)

from tfdistill.errors import UserError
from tfdistill.models.load import save
from tfdistill.recipes import find
from tfdistill.training.settings import parse_settings

pytestmark = pytest.mark.heavy


def test_soft_targets_may_come_before_hard_labels():
    recipe = make("soft_targets", data(), ["pretrain_on_soft_targets=true"])
    assert [[term.name for term in stage.terms] for stage in recipe.stages] == [["soft_kl"], ["hard_labels"]]
    assert recipe.stages[0].terms[0].weight == 1.0


def test_soft_targets_student_has_the_dropout_that_is_asked_for(tmp_path):
    student = make("soft_targets", data(), ["num_layers=1", "dropout=0"]).student
    assert student.config.hidden_dropout_prob == student.config.attention_probs_dropout_prob == 0
    save(student, tmp_path / "student")
    module = find("soft_targets")
    chosen = parse_settings(module.Settings, [f"student=hf:{tmp_path / 'student'}", "dropout=0.1"])
    with pytest.raises(UserError, match=r"dropout=0\.1"):
        module.recipe(teacher(), data(), chosen)
