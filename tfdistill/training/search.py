"""Search for a learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tfdistill.training.baseline import with_learning_rate
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared, prepare
from tfdistill.training.runner import train
from tfdistill.training.teacher_outputs import teacher_plan, with_teacher_logits
from tfdistill.training.trainer import Trainer


def search_learning_rate(
    recipe: Recipe,
    candidates: Sequence[float],
    *,
    seed: int,
    steps: int,
    prepared: Prepared | None = None,
    trainer: Trainer | None = None,
) -> dict[float, float]:
    """Return the dev score after `steps` steps for each learning rate, the best first. The student's weights stay as they are.

    Of equal scores, as of students that still guess, the lower last loss is better.

    Args:
        recipe: what to train.
        candidates: learning rates.
        seed: seed of everything random.
        steps: steps of each trial.
        prepared: as in `train`; by default the trials share their own.
        trainer: as in `train`, which may use the same one afterwards.
    """
    prepared = prepared or prepare(recipe, seed)
    if prepared.teacher_logits is None and any(reads.memory for reads in teacher_plan(recipe).stages):
        prepared = with_teacher_logits(recipe, prepared)
    trainer = trainer or Trainer(recipe.student, recipe.stages, recipe.execution)
    start, trials = recipe.student.get_weights(), []
    for candidate in candidates:
        trial = with_learning_rate(recipe, candidate)
        trial = replace(
            trial,
            name=f"{recipe.name}, trying {candidate:g}",
            stages=tuple(replace(stage, evaluations=1) for stage in trial.stages),
        )
        result = train(
            trial,
            seed=seed,
            prepared=prepared,
            max_steps=steps,
            score_test=False,
            trainer=trainer,
        )
        losses = [point["loss"] for point in result.curve if "loss" in point]  # a cut student's point has none
        trials.append((next(iter(result.scores["dev"].values())), -losses[-1], candidate))
        recipe.student.set_weights(start)
    return {candidate: score for score, _, candidate in sorted(trials, reverse=True)}
