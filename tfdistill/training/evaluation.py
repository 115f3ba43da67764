"""Evaluate the student of a recipe: on its dev and test splits, or on held-out text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.data.batching import Examples, dataset
from tfdistill.distill.distiller import Distiller
from tfdistill.models.fp16_range import check_range
from tfdistill.models.predict import predict_logits
from tfdistill.system.workers import chief_values
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared, aligned, read_for_teacher, take
from tfdistill.training.stage import Stage
from tfdistill.training.teacher_outputs import teacher_logits

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_RANGE_ROWS = 32  # examples whose values are compared with the range of fp16


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation.

    Args:
        scores: by name, the main score first.
        value: what the best weights maximize: the main score or the negative loss; None if nothing is compared.
        logged: entries for the log.
    """

    scores: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    logged: dict[str, float] = field(default_factory=dict)


def evaluate(recipe: Recipe, prepared: Prepared, stage: Stage, distiller: Distiller) -> Evaluation:
    """Evaluate the student of a stage: on held-out text, on the dev split, or by its loss on the dev split.

    A stage on plain text without `held_out` is not evaluated.
    """
    student = stage.student or recipe.student
    if stage.held_out is not None:
        scores = held_out_scores(stage, student)
        return Evaluation(scores, None, {f"held_out_{name}": value for name, value in scores.items()})
    if stage.source is not None:
        return Evaluation()
    scores = dev_scores(prepared, student)
    name, main = next(iter(scores.items()))
    if stage.monitor == "score":
        return Evaluation(scores, main, {f"dev_{name}": main})
    batches = dataset(_dev_examples(recipe, prepared, stage), stage.batch_size, shuffle=False)
    loss = chief_values(float(distiller.evaluate(batches, verbose=0, return_dict=True)["loss"]))[0]
    return Evaluation(scores, -loss, {f"dev_{name}": main, "dev_loss": loss})


def held_out_scores(stage: Stage, student: TextModel) -> dict[str, float]:
    """Evaluate a model on the held-out text of a stage."""
    assert stage.held_out is not None
    return _of_first_worker(stage.held_out(student))


def dev_scores(prepared: Prepared, student: TextModel) -> dict[str, float]:
    """Evaluate a model on the dev split."""
    assert prepared.dev is not None
    return _of_first_worker(prepared.dev.score(predict_logits(student, prepared.dev.encoded)))


def _of_first_worker(scores: dict[str, float]) -> dict[str, float]:
    """Other processors may round differently, and all workers have to take the same decisions."""
    return dict(zip(scores, chief_values(*scores.values()), strict=True))


def test_scores(recipe: Recipe, student: TextModel) -> tuple[dict[str, dict[str, float]], np.ndarray | None]:
    """Evaluate a model on the test split. Returns ({"test": scores}, logits), or ({}, None) without a labelled one."""
    data = recipe.data
    if data is None or "test" not in data.splits or not data.has_labels("test"):
        return {}, None
    rows = data.encode(data.splits["test"], student.tokenizer, recipe.max_length)
    logits = predict_logits(student, rows.encoded)
    return {"test": rows.score(logits)}, logits


def fp16_range(recipe: Recipe, prepared: Prepared, stage: Stage, model: TextModel, who: str) -> dict[str, Any]:
    """Return the largest value of a model on some examples, if the run is in fp16; else nothing.

    Raises UserError if a value has left the range of fp16.
    """
    if recipe.execution.precision != "fp16":
        return {}
    if stage.held_out is not None:
        return check_range(model, who, stage.held_out.sample(_RANGE_ROWS))
    data, rows = recipe.data, prepared.dev
    assert data is not None and rows is not None
    if model.tokenizer.fingerprint != recipe.student.tokenizer.fingerprint:
        rows = data.encode(data.splits["dev"], model.tokenizer, recipe.max_length)
    some = take(Examples(rows.encoded), np.arange(min(_RANGE_ROWS, len(rows.encoded))))
    (batch,) = dataset(some, _RANGE_ROWS, shuffle=False)
    return check_range(model, who, batch["student"])


def _dev_examples(recipe: Recipe, prepared: Prepared, stage: Stage) -> Examples:
    """Return the dev split as a stage's own loss needs it."""
    assert recipe.data is not None and prepared.dev is not None
    read = partial(read_for_teacher, recipe, split=recipe.data.splits["dev"])
    teacher, examples = stage.teacher or recipe.teacher_model, prepared.dev.examples
    if not stage.reads_teacher:
        return examples
    mixed = recipe.other_teachers or recipe.teacher_model is None
    if stage.teacher is None and recipe.teacher is not None and mixed and "logits" in stage.reads_teacher:
        logits = teacher_logits(recipe, recipe.data.splits["dev"], read, "teachers read dev")
        examples = replace(examples, teacher_features={"logits": logits})
    if teacher is None:
        return examples
    same = teacher.tokenizer.fingerprint == recipe.student.tokenizer.fingerprint and not recipe.privileged
    return examples if same else aligned(replace(examples, teacher=read(teacher)), stage, recipe.student, teacher)
