"""Compare the scores of a file with those of its Keras model. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.tflite.parity import of_real_tokens, parity

Scores = Callable[[np.ndarray], dict[str, float]]


class AccuracyDropped(UserError):
    """A file lost more accuracy than allowed. `report` is a file with the numbers; the command exits with code 3."""

    def __init__(self, message: str, report: Path):
        super().__init__(message)
        self.report = report


def compare(
    keras_logits: np.ndarray, file_logits: np.ndarray, lengths: np.ndarray, scores: Scores | None = None
) -> dict[str, float | str]:
    """Compare a file with the Keras model on one split.

    Args:
        keras_logits: logits of the Keras model, (N, C), or (N, L, C) for heads that score tokens.
        file_logits: logits of the file, of the same shape.
        lengths: tokens of each row (N,).
        scores: computes the task's scores from logits, the main score first. None without labels.

    Returns:
        `rows` and the keys of `parity`. With `scores` also `metric`, the name of the main score;
        `drop`, the percentage points of it that the file loses; and all scores of the file and,
        with names that begin with "keras_", of Keras.
    """
    comparison: dict[str, float | str] = {"rows": len(file_logits)}
    comparison |= parity(of_real_tokens(np.asarray(keras_logits), lengths), of_real_tokens(file_logits, lengths))
    if scores is None:
        return comparison
    keras, file = scores(np.asarray(keras_logits)), scores(file_logits)
    metric = next(iter(keras))
    comparison |= {"metric": metric, "drop": 100 * (keras[metric] - file[metric])}
    return {**comparison, **{f"keras_{name}": value for name, value in keras.items()}, **file}
