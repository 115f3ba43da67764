"""How good a file is beside the Keras model it was made from, and whether that is good enough. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.tflite.parity import of_real_tokens, parity

Scores = Callable[[np.ndarray], dict[str, float]]


class AccuracyDropped(UserError):
    """A file lost more than was allowed. `report` is where its numbers lie; the command line exits with code 3."""

    def __init__(self, message: str, report: Path):
        super().__init__(message)
        self.report = report


def compare(
    keras_logits: np.ndarray, file_logits: np.ndarray, lengths: np.ndarray, scores: Scores | None = None
) -> dict[str, float | str]:
    """A file beside Keras on one split.

    Args:
        keras_logits, file_logits: (N, C), or (N, L, C) of heads for tokens.
        lengths: tokens of each row (N,).
        scores: the task's scores of logits on this split, the main one first. None: it has no labels.

    Returns:
        `rows`, what `parity` gives and, with `scores`, these for the file and, beginning with "keras_", for Keras; `metric`, the
        main one of them, and `drop`, how many points (hundredths) of it the file loses.
    """
    found: dict[str, float | str] = {"rows": len(file_logits)}
    found |= parity(of_real_tokens(np.asarray(keras_logits), lengths), of_real_tokens(file_logits, lengths))
    if scores is None:
        return found
    before, after = scores(np.asarray(keras_logits)), scores(file_logits)
    metric = next(iter(before))
    found |= {"metric": metric, "drop": 100 * (before[metric] - after[metric])}
    return {**found, **{f"keras_{name}": value for name, value in before.items()}, **after}
