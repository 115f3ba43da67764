"""Check inputs, labels and weights before the first step, so that what is wrong is one line and not a NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfdistill.distill.first_batch import is_text
from tfdistill.distill.foreign import looks_like_softmax
from tfdistill.distill.keras_losses import function_name
from tfdistill.distill.label_terms import HardLabels, PseudoLabels
from tfdistill.distill.step import Term
from tfdistill.errors import UserError


def check_values(who: str, values: Any) -> None:
    """Raise UserError if an array of numbers has a NaN."""
    for value in keras.tree.flatten(values):
        if value is not None and value.dtype.kind == "f" and np.isnan(value).any():
            row = int(np.argwhere(np.isnan(value))[0][0]) if value.ndim else 0
            raise UserError(f"{who} contain NaN, first in row {row}. Remove these rows, or repair them")


def check_weights(weights: Any, rows: int) -> None:
    """Raise UserError unless there is one finite weight of 0 or more for each example."""
    if weights is None:
        return
    values = np.asarray(weights)
    if values.dtype.kind not in "fiub":
        raise UserError(f"sample_weight holds {values.dtype}; expected a number for each example")
    if values.size != rows:
        raise UserError(f"sample_weight has the shape {values.shape} for {rows} examples; expected one for each")
    if not np.isfinite(values).all() or values.min(initial=0) < 0:
        raise UserError("sample_weight has numbers that are negative, NaN or infinite; expected 0 or more")


def check_teacher_features(features: Mapping[str, Any], outputs: int | None) -> str:
    """Check cached outputs of a teacher, and return "softmax" if its logits are probabilities.

    Args:
        features: arrays by name.
        outputs: the number of the student's logits.

    Raises:
        UserError: a NaN, or another number of classes.
    """
    for name, values in features.items():
        check_values(f"the teacher's {name}", values)
    logits = features.get("logits")
    if logits is None:
        return ""
    if outputs is not None and logits.ndim > 1 and logits.shape[-1] != outputs:
        raise UserError(
            f"the student has {outputs} classes, the teacher's logits in the batch {logits.shape[-1]}. "
            "Both need the same number of classes"
        )
    return "softmax" if looks_like_softmax(logits) else ""


# --- labels ---------------------------------------------------------------------------------------------------------


def check_labels(terms: Sequence[Term], labels: Any, rows: int, outputs: int | None) -> None:
    """Check labels against each term that reads them.

    Args:
        terms: the terms of a Distiller.
        labels: an array, a dict of a masked language model (not checked), or None.
        rows: the number of examples.
        outputs: the number of the student's logits, if it is known.

    Raises:
        UserError: labels that a term cannot read.
    """
    readers = [term for term in terms if isinstance(term, HardLabels | PseudoLabels)]
    if not readers or isinstance(labels, Mapping):
        return
    if labels is None:
        raise UserError(f"the term '{readers[0].name}' needs labels. Give fit (inputs, labels), or remove the term")
    for term in readers:
        task = term.task if isinstance(term, HardLabels) else "classification"
        loss = function_name(term.loss) if isinstance(term, HardLabels) and term.loss is not None else None
        if loss is None:
            _CHECKS.get(task, _numbers)(labels, rows, outputs)
        elif loss == "sparse_categorical_crossentropy":
            _class_numbers(labels, outputs, unlabelled=False)
        elif loss:
            _numbers(labels, rows, outputs)
            check_values("labels", labels)


def _numbers(labels: np.ndarray, rows: int, outputs: int | None) -> None:
    if is_text(labels):
        shown = labels.reshape(-1)[0]
        shown = shown.decode("utf-8", "replace") if isinstance(shown, bytes) else shown
        raise UserError(
            f"labels are text, the first is '{str(shown)[:40]}'; expected numbers. "
            "Number the classes from 0: `names, y = np.unique(y, return_inverse=True)`"
        )
    if labels.dtype.kind not in "fiub":
        raise UserError(f"labels are of the type {labels.dtype}; expected numbers")


def _classification(labels: np.ndarray, rows: int, outputs: int | None) -> None:
    _numbers(labels, rows, outputs)
    if labels.ndim == 2 and labels.shape[1] != 1:
        _probabilities(labels, outputs)
        return
    if labels.size != rows:
        raise UserError(f"labels have the shape {labels.shape}; expected ({rows},), or ({rows}, C) with one-hot rows")
    _class_numbers(labels, outputs)


def _probabilities(labels: np.ndarray, outputs: int | None) -> None:
    if outputs is not None and labels.shape[1] != outputs:
        raise UserError(
            f"labels have the shape {labels.shape}, but the student has {outputs} classes. "
            "Give class numbers, or one column for each class"
        )
    known = labels[np.all(labels >= 0, axis=1)].astype("float64")
    sums = known.sum(axis=1)
    if len(known) and np.abs(sums - 1).max() > 1e-3:
        wrong = float(sums[np.argmax(np.abs(sums - 1))])
        raise UserError(
            f"a row of labels sums to {wrong:g}, not to 1. "
            "Use HardLabels(task='multilabel') if an example can have several labels"
        )


def _class_numbers(labels: np.ndarray, outputs: int | None, unlabelled: bool = True) -> None:
    _numbers(labels, 0, outputs)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        wrong = labels[labels != np.round(labels)].reshape(-1)[0]
        raise UserError(f"labels have {wrong:g}; expected whole class numbers. Use HardLabels(task='regression')")
    least, most = int(labels.min(initial=0)), int(labels.max(initial=-1))
    if least < 0 and not unlabelled:
        raise UserError(f"labels have {least}, which the loss does not know. Use HardLabels(), where it means no label")
    if outputs is not None and most >= outputs:
        from_one = least == 0 and labels.size and int(labels.min()) == 1 and most == outputs
        advice = "Subtract 1, so that they start at 0" if from_one else "Give the student more outputs"
        raise UserError(f"labels go up to {most}, but the student has {outputs} classes, 0 to {outputs - 1}. {advice}")


def _multilabel(labels: np.ndarray, rows: int, outputs: int | None) -> None:
    _numbers(labels, rows, outputs)
    width = labels.shape[1] if labels.ndim == 2 else 1
    if labels.ndim > 2 or len(labels) != rows or (outputs is not None and width != outputs):
        raise UserError(f"labels have the shape {labels.shape}; expected ({rows}, {outputs}), 0 or 1 for each class")
    if labels.size and np.nanmax(labels) > 1:
        raise UserError(f"labels go up to {np.nanmax(labels):g}; expected 0 or 1 for each class of a multi-label task")


def _regression(labels: np.ndarray, rows: int, outputs: int | None) -> None:
    _numbers(labels, rows, outputs)
    if labels.size != rows or (outputs or 1) != 1:
        raise UserError(
            f"labels have the shape {labels.shape} for {rows} examples, and the student has {outputs} outputs; "
            "expected one number and one output for each"
        )


def _tokens(labels: np.ndarray, rows: int, outputs: int | None) -> None:
    _numbers(labels, rows, outputs)
    if labels.ndim != 2:
        raise UserError(f"labels have the shape {labels.shape}; expected one for each token, ({rows}, L)")
    _class_numbers(labels, outputs)


_CHECKS = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
    "token_classification": _tokens,
}
