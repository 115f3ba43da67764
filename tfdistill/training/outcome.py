"""Look at the scores of a training that is over, for what says that it or its teacher was too short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tfdistill.metrics.notation import shown
from tfdistill.training.chance import is_above, is_at_chance, still_improving
from tfdistill.training.check import Check
from tfdistill.training.recipe import Recipe


def after_lines(
    check: Check, recipe: Recipe, scores: Mapping[str, float], curve: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return what is off with the result of a training.

    Args:
        check: that of before the training.
        recipe: what was trained.
        scores: of the student on the dev split, the main one first.
        curve: the log, as in `tfdistill.training.runner.Result`.
    """
    if recipe.data is None:
        return []
    if all(stage.source is not None for stage in recipe.stages):
        return [
            "The student's head was not trained, because all stages read plain text: its scores say nothing. "
            "Train it on labels next, with --set student=hf:DIR."
        ]
    if not scores:
        return []
    rows = int(check.splits["dev"]["rows"]) - int(check.splits["dev"]["without_label"])
    metric, score = next(iter(scores.items()))
    of = partial(shown, metric)
    title, last = metric.replace("_", " "), recipe.stages[-1].name
    lines = []
    values = [point[f"dev_{metric}"] for point in curve if point.get("stage") == last and f"dev_{metric}" in point]
    if still_improving(values, rows):
        lines.append(
            f"The last evaluation is the best by far (dev {title} {of(values[-1])}, {of(max(values[:-1]))} before): training "
            "has not levelled off. Train longer, with more epochs."
        )
    best = max((about for about in check.teachers if about["metric"] == metric), key=lambda a: a["score"], default=None)
    at_chance = check.chance is not None and is_at_chance(score, check.chance, rows)
    if best is not None and not at_chance and is_above(score, best["score"], best["rows"], rows):
        lines.append(
            f"The student is better than its teacher (dev {title} {of(score)}, teacher {of(best['score'])}): the teacher was "
            "probably not trained to the end."
        )
    if at_chance:
        who = "student" if recipe.teachers else "model"
        lines.append(
            f"The {who} is not better than chance (dev {title} {of(score)}, chance {of(check.chance or 0.0)})."
        )
    return lines


def summary(check: Check, scores: Mapping[str, float]) -> str:
    """Return a line with the dev score of the student, its teachers and chance; "" if there is nothing to compare with."""
    if not scores or not check.teachers or check.chance is None:
        return ""
    metric, score = next(iter(scores.items()))
    others = ", ".join(
        f"{about['name']} {shown(metric, about['score'])}" for about in check.teachers if about["metric"] == metric
    )
    return f"dev {metric.replace('_', ' ')}: student {shown(metric, score)}, {others}, chance {shown(metric, check.chance)}"
