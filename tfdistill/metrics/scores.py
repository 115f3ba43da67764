"""Scores of predictions against labels, in NumPy. All of them raise UserError for wrong shapes and for NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tfdistill.errors import UserError


def softmax(logits: ArrayLike) -> np.ndarray:
    """Return probabilities along the last axis, float64, without overflow for large logits."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def accuracy(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return the share of examples whose largest logit (the first of equal ones) is the label's.

    Args:
        labels: (n,) class numbers.
        logits: (n, classes).
    """
    labels, logits = _classes(labels, logits, "logits")
    return float(np.mean(logits.argmax(axis=-1) == labels))


def f1(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return F1 of class 1 against all others, GLUE's score of MRPC and QQP. Shapes as in `accuracy`."""
    labels, logits = _classes(labels, logits, "logits")
    actual, predicted = labels == 1, logits.argmax(axis=-1) == 1
    return _f1(int((actual & predicted).sum()), int(actual.sum()), int(predicted.sum()))


def macro_f1(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return the mean F1 of the classes that occur as a label or a prediction. Shapes as in `accuracy`."""
    matrix = confusion_matrix(labels, logits)
    scores = [
        _f1(int(matrix[c, c]), int(matrix[c].sum()), int(matrix[:, c].sum()))
        for c in range(len(matrix))
        if matrix[c].any() or matrix[:, c].any()
    ]
    return float(np.mean(scores))


def matthews(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return Matthews's correlation for any number of classes (Gorodkin 2004), GLUE's score of CoLA.

    It is 0.0 if all labels, or all predictions, are the same. Shapes as in `accuracy`.
    """
    matrix = confusion_matrix(labels, logits).astype(np.float64)
    actual, predicted, count = matrix.sum(axis=1), matrix.sum(axis=0), matrix.sum()
    spread = (count**2 - actual @ actual) * (count**2 - predicted @ predicted)
    return float((np.trace(matrix) * count - actual @ predicted) / np.sqrt(spread)) if spread > 0 else 0.0


def multilabel_f1(labels: ArrayLike, logits: ArrayLike, average: str = "micro") -> float:
    """Return F1 of several classes per example; a class is predicted if its logit is above 0.

    Args:
        labels: (n, classes) of 0 and 1.
        logits: (n, classes).
        average: "micro" over all decisions, or "macro", the mean over the classes; a class that never occurs counts 0.
    """
    labels, logits = _sets(labels, logits)
    actual, predicted = labels == 1, logits > 0
    if average not in ("micro", "macro"):
        raise UserError(f"got the average '{average}'; expected 'micro' or 'macro'")
    counts = (actual & predicted).sum(axis=0), actual.sum(axis=0), predicted.sum(axis=0)
    if average == "micro":
        return _f1(*(int(count.sum()) for count in counts))
    return float(np.mean([_f1(*map(int, of_class)) for of_class in zip(*counts, strict=True)]))


def exact_match(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return the share of examples whose classes are all right. Shapes as in `multilabel_f1`."""
    labels, logits = _sets(labels, logits)
    return float(np.mean(((logits > 0) == (labels == 1)).all(axis=1)))


def confusion_matrix(labels: ArrayLike, logits: ArrayLike) -> np.ndarray:
    """Return counts, int64 (labels, predictions). Shapes as in `accuracy`."""
    labels, logits = _classes(labels, logits, "logits")
    classes = logits.shape[1]
    flat = np.bincount(labels * classes + logits.argmax(axis=-1), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins of the largest probability (Guo et al. 2017).

    Args:
        labels: (n,) class numbers.
        probabilities: (n, classes), rows that sum to 1.
        bins: number of equal bins, open on the left and closed on the right; a gap is weighted by its share of examples.
    """
    labels, probabilities = _classes(labels, probabilities, "probabilities")
    if bins < 1:
        raise UserError(f"got {bins} bins; expected 1 or more")
    if probabilities.min() < -1e-6 or np.abs(probabilities.sum(axis=-1) - 1).max() > 1e-3:
        raise UserError("probabilities are negative or do not sum to 1; expected the output of a softmax, not logits")
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(number, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def mse(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Return the mean squared error. Both are (n,) or (n, 1)."""
    labels, predictions = _numbers(labels, predictions)
    return float(np.mean((labels - predictions) ** 2))


def pearson(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Return Pearson's correlation; 0.0 if all predictions are equal, as at the start of training. Both are (n,) or (n, 1).

    Raises:
        UserError: all labels are equal, or there are fewer than two.
    """
    labels, predictions = _numbers(labels, predictions)
    if len(labels) < 2 or np.all(labels == labels[0]):
        raise UserError(f"got {len(labels)} labels that are all equal; expected two different ones or more")
    if np.all(predictions == predictions[0]):
        return 0.0
    x, y = labels - labels.mean(), predictions - predictions.mean()
    # Scaled, so that squares of tiny or huge values do not under- or overflow.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Return Spearman's rank correlation, ties with their average rank. As `pearson` otherwise."""
    labels, predictions = _numbers(labels, predictions)
    return pearson(_ranks(labels), _ranks(predictions))


_SCORES: dict[str, dict[str, Callable[[ArrayLike, ArrayLike], float]]] = {
    "classification": {
        "accuracy": accuracy,
        "expected_calibration_error": lambda labels, logits: expected_calibration_error(labels, softmax(logits)),
        "f1": f1,
        "macro_f1": macro_f1,
        "matthews": matthews,
    },
    "regression": {"spearman": spearman, "pearson": pearson, "mse": mse},
    "multilabel": {
        "micro_f1": multilabel_f1,
        "macro_f1": lambda labels, logits: multilabel_f1(labels, logits, "macro"),
        "exact_match": exact_match,
    },
}
_USUAL = {"classification": ("accuracy", "expected_calibration_error")}


def score(task: str, labels: ArrayLike, logits: ArrayLike, metrics: Sequence[str] = ()) -> dict[str, float]:
    """Return the scores of a task by name, the one that selects models first.

    Args:
        task: "classification" (accuracy, expected_calibration_error), "regression" (spearman, pearson, mse) or "multilabel"
            (micro_f1, macro_f1, exact_match).
        labels: (n,); for multilabel (n, classes).
        logits: (n, classes); for regression (n,) or (n, 1).
        metrics: names that come before the usual ones; for classification also f1, macro_f1 and matthews.

    Raises:
        UserError: wrong shapes or values, or a name that the task does not have.
    """
    if task not in _SCORES:
        raise UserError(f"got the task '{task}'; expected {' or '.join(map(repr, _SCORES))}")
    known = _SCORES[task]
    for name in metrics:
        if name not in known:
            raise UserError(f"got the metric '{name}' for {task}; expected some of {', '.join(known)}")
    return {name: known[name](labels, logits) for name in dict.fromkeys((*metrics, *_USUAL.get(task, known)))}


def _f1(right: int, actual: int, predicted: int) -> float:
    return 2 * right / (actual + predicted) if actual + predicted else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = f"of example {bad[0][0]} " if array.ndim else ""
        raise UserError(f"{name} {where}are NaN or infinite. The model diverged or its inputs are wrong.")
    return array


def _shapes(labels: tuple[int, ...], scores: tuple[int, ...], expected: str) -> UserError:
    return UserError(f"got labels of shape {labels} and predictions of shape {scores}; expected {expected}")


def _classes(labels: ArrayLike, scores: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), _finite(name, scores)
    if labels.ndim != 1 or scores.ndim != 2 or len(labels) != len(scores) or len(labels) == 0 or scores.shape[1] < 2:
        raise _shapes(labels.shape, scores.shape, "(n,) and (n, 2 or more)")
    if labels.dtype.kind not in "iu":
        raise UserError(f"got labels of type {labels.dtype}; expected whole class numbers")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise UserError(f"got class numbers {labels.min()} to {labels.max()}; expected 0 to {scores.shape[1] - 1}")
    return labels.astype(np.int64), scores


def _sets(labels: ArrayLike, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, logits = _finite("labels", labels), _finite("logits", logits)
    if labels.ndim != 2 or labels.shape != logits.shape or not labels.size:
        raise _shapes(labels.shape, logits.shape, "(n, classes) for both")
    if not np.isin(labels, (0, 1)).all():
        raise UserError("got labels other than 0 and 1; expected 1 for each class that an example has")
    return labels, logits


def _numbers(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = _finite("labels", labels), _finite("predictions", predictions)
    shapes = labels.shape, predictions.shape
    labels, predictions = (
        array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in (labels, predictions)
    )
    if labels.ndim != 1 or labels.shape != predictions.shape or len(labels) == 0:
        raise _shapes(*shapes, "(n,) or (n, 1) for both")
    return labels, predictions
