"""Compare the answers of a file with the labels and with the student: how far they agree, and where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.data.batching import some_rows
from tfdistill.models.predict import predict_logits
from tfdistill.system.console import say
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_ROWS = 10_000  # labelled training examples that are compared at most
_CONFUSIONS = 3
_PAIRS = ("file_labels", "student_file", "student_labels")


def agreement(recipe: Recipe, prepared: Prepared, student: TextModel) -> dict[str, Any]:
    """Compare the first file of answers with the labels and a student on labelled training examples, and print the result.

    Returns:
        For classes the shares of examples on which two of them agree ("file_labels", "student_file", "student_labels") and
        the most frequent "confusions"; for multi-label data the shares of single decisions, and for regression the mean
        absolute differences. Empty if no teacher is a file.
    """
    files = [teacher for teacher in recipe.teachers if isinstance(teacher, AnswersTeacher)]
    if not files or prepared.train is None or prepared.train.labels is None:
        return {}
    labelled = prepared.rows("labelled")
    rows = labelled[some_rows(len(labelled), _ROWS)]
    answers = files[0].logits(prepared.texts.take(rows))
    predicted = predict_logits(student, prepared.train.encoded.take(rows))
    result = {"file": files[0].name, "rows": len(rows)}
    result |= compare(recipe.student.task, answers, predicted, prepared.train.labels[rows], files[0].label_names or ())
    say(in_words(result))
    return result


def compare(
    task: str, answers: np.ndarray, predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Return the agreement of logits (n, C) of a file, those of a student, and labels, as `agreement` describes."""
    if task == "regression":
        three = answers[:, 0], predicted[:, 0], labels
        return _pairs(*three, lambda one, other: np.abs(one - other))
    if task == "multilabel":
        sets = answers > 0, predicted > 0, labels > 0.5
        apart = (sets[0] != sets[2]).mean(axis=0)
        confusions = [
            {"class": names[c], "share": float(apart[c])} for c in np.argsort(-apart, kind="stable") if apart[c]
        ]
        return {**_pairs(*sets, np.equal), "confusions": confusions[:_CONFUSIONS]}
    classes = answers.argmax(axis=1), predicted.argmax(axis=1), labels
    pairs, counts = np.unique(np.stack([labels, classes[0]], axis=1), axis=0, return_counts=True)
    order = [n for n in np.argsort(-counts, kind="stable") if pairs[n, 0] != pairs[n, 1]][:_CONFUSIONS]
    confusions = [{"label": names[pairs[n, 0]], "file": names[pairs[n, 1]], "rows": int(counts[n])} for n in order]
    return {**_pairs(*classes, np.equal), "confusions": confusions}


def _pairs(answers: Any, predicted: Any, labels: Any, measure: Any) -> dict[str, float]:
    pairs = (answers, labels), (predicted, answers), (predicted, labels)
    return {name: float(np.mean(measure(*pair))) for name, pair in zip(_PAIRS, pairs, strict=True)}


def in_words(result: dict[str, Any]) -> str:
    """Return the result of `agreement` as a line of text."""
    is_share = "confusions" in result
    shown = [f"{name.replace('_', ' and ')} {result[name]:{'.1%' if is_share else '.4g'}}" for name in _PAIRS]
    what = "agreement" if is_share else "mean difference"
    line = f"{what} on {result['rows']:,} labelled training examples: {', '.join(shown)}"
    confusions = [
        f"label '{each['label']}', file '{each['file']}' ({each['rows']})"
        if "label" in each
        else f"'{each['class']}' ({each['share']:.1%})"
        for each in result.get("confusions", ())
    ]
    return f"{line}; file and labels differ most in {', '.join(confusions)}" if confusions else line
