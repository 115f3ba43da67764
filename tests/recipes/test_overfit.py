"""Every recipe, and every loss of a recipe with several, learns 64 examples by heart: to under 5 % of its first value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_recipes import data, dualtrain_settings, make, teacher, write_text

from tfdistill.data.batching import dataset
from tfdistill.distill.distiller import Distiller
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find, finetune, pretrain
from tfdistill.training.rows import prepare
from tfdistill.training.run_directory import run
from tfdistill.training.runner import train
from tfdistill.training.teacher_outputs import stage_examples
from tfdistill.training.trainer import StageCallback, Trainer

pytestmark = pytest.mark.slow

SPEED = {
    "soft_targets": ["epochs=40", "learning_rate=5e-3"],
    "privileged": ["epochs=40", "learning_rate=5e-3", "temperature=1"],
    "pkd": ["epochs=60", "learning_rate=5e-3", "beta=1", "temperature=2"],
    "tinybert": ["transformer.epochs=60", "transformer.learning_rate=1e-2", "epochs=40", "learning_rate=5e-3"],
    "distilbert": ["epochs=40", "learning_rate=5e-3"],
    "mobilebert": ["schedule=auxiliary", "epochs=60", "learning_rate=1e-2"],
    "xtremedistil": ["joint=true", "epochs=60", "learning_rate=1e-2", "patience=100"],
    "bilstm": ["epochs=60", "learning_rate=1e-2"],
    "layerdrop": ["epochs=60", "learning_rate=5e-3", "rate=0.1", "soft_weight=0.5"],
    "head_pruning": ["epochs=40", "learning_rate=5e-3", "soft_weight=0.5", "share=0.5", "step=0.25"],
    "neuron_pruning": ["epochs=40", "learning_rate=5e-3", "steps=1"],
    "quantization_aware": ["epochs=40", "learning_rate=5e-3"],
    "dualtrain_sharedproj": ["epochs=40", "learning_rate=5e-3"],
    "static": ["epochs=60", "learning_rate=1e-2"],
    "minilm": ["relations.epochs=60", "relations.learning_rate=1e-2", "epochs=40", "learning_rate=5e-3"],
}


@pytest.fixture(scope="module")
def taught() -> TextModel:
    """A teacher that knows its 64 training texts by heart."""
    model = teacher()
    settings = finetune.Settings(epochs=40, learning_rate=5e-3, batch_size=16, max_length=12, evaluations=2)
    result = train(finetune.recipe(model, data(64), settings), seed=0)
    assert result.curve[-1]["loss"] < 0.01
    return model


def reset(student: TextModel) -> None:
    """Random weights, as large as those of the teacher."""
    rng = np.random.default_rng(0)
    for variable in student.trainable_variables:
        if variable.name == "kernel":
            variable.assign(0.2 * rng.normal(size=variable.shape))


# --- the last stage -------------------------------------------------------------------------------------------------


def loss_of(recipe: Any, distiller: Distiller | None = None) -> float:
    """The loss of the last stage on all training rows, of the student as it stands, with new projections or those of `distiller`."""
    stage = recipe.stages[-1]
    examples = stage_examples(recipe, prepare(recipe, 0), len(recipe.stages) - 1)
    if distiller is None:
        distiller = Distiller(recipe.student, stage.teacher or recipe.teacher, stage.terms)
        distiller.compile("sgd")
    return distiller.evaluate(dataset(examples, 16, shuffle=False), verbose=0, return_dict=True)["loss"]


@pytest.mark.parametrize("name", list(SPEED))
def test_overfits_64_examples(name, taught, tmp_path):
    more = ["copies=0"] if "copies" in find(name).Settings.model_fields else []
    if name == "dualtrain_sharedproj":
        more = dualtrain_settings(tmp_path, write_text(tmp_path / "text.txt"))
    recipe = make(name, data(64), [*SPEED[name], *more], taught)
    recipe = replace(recipe, stages=tuple(replace(stage, keep_best=False) for stage in recipe.stages))
    if recipe.student.family not in ("bilstm", "static"):
        reset(recipe.student)  # not from the teacher's layers, which know the texts already
    first = loss_of(recipe)
    trainer = Trainer(recipe.student, recipe.stages)
    train(recipe, seed=0, score_test=False, trainer=trainer)
    assert loss_of(recipe, trainer.distiller) < 0.05 * first


# --- the stages before it -------------------------------------------------------------------------------------------


class Losses(StageCallback):
    """Keeps the losses of the first step, before any update, and their means over the last twentieth of the steps."""

    def __init__(self, steps: int):
        super().__init__()
        self.reset_after, self.steps = steps - steps // 20, 0
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1
        self.last = {name: float(value) for name, value in (logs or {}).items()}
        self.first = self.first or self.last
        if self.steps == self.reset_after:
            self.model.reset_metrics()


def learned(recipe: Any) -> list[tuple[str, dict[str, float], dict[str, float]]]:
    """(stage, its terms before its first step, and at its end: means over the last twentieth of its steps)."""
    prepared, stages = prepare(recipe, 0), []
    trainer = Trainer(
        recipe.student,
        [replace(stage, keep_best=False, patience=None, evaluations=20) for stage in recipe.stages],
    )
    for number, stage in enumerate(recipe.stages):
        rows = stage.source or stage_examples(recipe, prepared, number)
        losses = Losses(trainer.stages[number].evaluation_steps(stage.steps(len(rows)))[-1])
        trainer.train(number, recipe.teacher, rows, seed=0, callback=losses)
        stages.append((stage.name, losses.first, losses.last))
    return stages


@pytest.fixture(scope="module")
def general(tmp_path_factory) -> list[str]:
    """Settings of general stages: a text in which each letter follows from its neighbours, and a masked LM that knows it."""
    place: Path = tmp_path_factory.mktemp("general")
    sentences = [" ".join(("abcdefgh" * 3)[n % 8 :][: 6 + n // 8]).capitalize() + "." for n in range(64)]
    (place / "text.txt").write_text("\n\n".join(sentences) + "\n", "utf-8")
    settings = pretrain.Settings(length=16, batch_size=64, learning_rate=1e-2, held_out=0.1, evaluations=2)
    model = teacher(head="masked_lm", layers=2)
    made = pretrain.recipe(model, str(place / "text.txt"), settings, duration=pretrain.Duration(steps=600))
    assert run(made, place / "lm").scores["held_out"]["masked_loss"] < 0.05
    where = [f"general.text={place / 'text.txt'}", f"general.teacher=hf:{place / 'lm' / 'student'}"]
    return [*where, "general.length=16", "general.batch_size=64", "general.learning_rate=1e-2"]


# Batches hold all 64 rows, so that the first loss is that of all of them.
TASK = ["batch_size=64", "learning_rate=5e-3"]
LAYERS = ["copies=0", "transformer.epochs=600", "transformer.learning_rate=1e-2", "epochs=40"]
GENERAL = ["general.only=true", "general.epochs=600"]
OWN_LOSSES = {
    "tinybert": ("tinybert", [*TASK, *LAYERS], ("transformer layers",)),
    "tinybert, general stage": ("tinybert", [*GENERAL, "copies=0"], ("general",)),
    "distilbert, triple loss": ("distilbert", [*GENERAL, "initialization=random", "general.smoothing=0"], ("general",)),
    "dualtrain": ("dualtrain_sharedproj", [*GENERAL, "general.width=8", "general.vocab_size=24"], ("dual training",)),
    "xtremedistil, staged": (
        "xtremedistil",
        ["batch_size=64", "epochs=600", "learning_rate=1e-2", "lstm_size=24"],
        ("logits",),
    ),
    "mobilebert, predictions on plain text": (
        "mobilebert",
        [*GENERAL, "general.transfer_epochs=1", "schedule=joint"],
        ("plain text",),
    ),
}


@pytest.mark.parametrize("case", list(OWN_LOSSES))
def test_the_stages_before_learn_64_examples(case, taught, general):
    name, settings, parts = OWN_LOSSES[case]
    on_text = "general.only=true" in settings
    recipe = make(name, data(64), [*settings, *(general if on_text else [])], taught)
    if recipe.student.family not in ("bilstm", "static") and not on_text:
        reset(recipe.student)
    # Steps of one stage ("logits, head and above", ...) count as one.
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for stage, before, after in learned(recipe):
        part = stage.split(",")[0]
        first.setdefault(part, before["loss"])
        last[part] = after["loss"]
    assert all(last[part] < 0.05 * first[part] for part in parts), (first, last)
    # Measured: 0.11, also in 1,500 steps and with wider LSTMs; the map to the teacher's width ends in GELU.
    if name == "xtremedistil":
        assert last["representation"] < 0.15 * first["representation"]


def test_progressive_transfer_learns_the_feature_map_of_every_layer(taught):
    """On 64 examples, each layer in its own stage, over those that were learned before it and stay as they are."""
    settings = [*TASK, "transfer.epochs=400", "transfer.learning_rate=1e-2", "attention_weight=0", "epochs=1"]
    stages = learned(make("mobilebert", data(64), settings, taught))
    assert len(stages) == 5
    _, first, _ = stages[0]
    for number, (_, _, last) in enumerate(stages[:4], 1):
        assert last[f"feature_map_{number}"] < 0.05 * first[f"feature_map_{number}"], number
