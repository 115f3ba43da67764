"""What makes a run another one."""

from dataclasses import replace

import keras
import pytest
from tiny_recipes import data, make

from tfdistill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.training.run_directory import run

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(
    ("terms", "other"),
    [
        ((Match(losses.soft_kl),), (Match(losses.logits_mse, name="soft_kl"),)),
        ((HardLabels(loss=keras.losses.Huber(1.0)),), (HardLabels(loss=keras.losses.Huber(2.0)),)),
    ],
)
def test_a_run_from_python_is_not_resumed_with_another_loss(tmp_path, monkeypatch, terms, other):
    recipe = make("soft_targets", data(), [])
    stages = [tuple(replace(stage, terms=each) for stage in recipe.stages) for each in (terms, other)]
    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(replace(recipe, settings={}, stages=stages[0]), tmp_path / "run")
    with pytest.raises(UserError, match=r"stages\.0\.terms\.0\.loss"):
        run(replace(recipe, settings={}, stages=stages[1]), tmp_path / "run")
