"""Derive the undistilled baseline of a recipe."""

from __future__ import annotations

from dataclasses import replace

from tfdistill.distill.label_terms import HardLabels
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage


def on_labels_alone(recipe: Recipe) -> Recipe:
    """Return the undistilled baseline of a recipe: same student, start, steps, texts and batches, hard labels only.

    Stages on plain text keep their terms that read no teacher (masked LM) and are removed if there are none. Stages on the
    recipe's data become one, which trains all parts that any of them trains, at the learning rate of the longest. A stage
    with another batch size stays separate.
    """
    assert recipe.data is not None
    term = (HardLabels(task=recipe.data.task),)
    on_rows = [stage for stage in recipe.stages if stage.source is None]
    frozen = tuple(part for part in on_rows[0].freeze if all(part in s.freeze for s in on_rows))
    stages: list[Stage] = []
    longest = 0.0
    for stage in recipe.stages:
        if stage.source is not None:
            own = tuple(t for t in stage.terms if not t.teacher_features and not t.on_parameters)
            stages += [replace(stage, terms=own, teacher=None, train_teacher=False)] if own else []
            continue
        plain = replace(
            stage,
            name="labels",
            terms=term,
            rows="labelled",
            counted=stage.counted or stage.rows,
            freeze=frozen,
            rates={},
            teacher=None,
            train_teacher=False,
            patience=None,
            monitor="score",
            keep_best=True,
        )
        last = stages[-1] if stages else None
        alike = last is not None and (last.batch_size, last.counted) == (plain.batch_size, plain.counted)
        if last is None or last.source is not None or not alike or plain.before is not None:
            stages.append(plain)
            longest = stage.epochs
            continue
        rate = plain.learning_rate if stage.epochs > longest else last.learning_rate
        longest = max(longest, stage.epochs)
        epochs, evaluations = last.epochs + stage.epochs, last.evaluations + stage.evaluations
        stages[-1] = replace(last, epochs=epochs, evaluations=evaluations, learning_rate=rate)
    return replace(
        recipe,
        name=f"{recipe.name} on labels",
        teacher=None,
        other_teachers=(),
        teacher_weights=None,
        privileged=False,
        stages=tuple(stages),
    )


def with_learning_rate(recipe: Recipe, learning_rate: float) -> Recipe:
    """Return the recipe with another peak learning rate in every stage."""
    return replace(recipe, stages=tuple(replace(stage, learning_rate=learning_rate) for stage in recipe.stages))
