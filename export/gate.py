"""How good a file is beside the Keras model it was made from, and whether that is good enough. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfdistill.data.metrics import score
from tfdistill.errors import UserError
from tfdistill.export.verify import of_real_tokens, parity

# Tasks with one label for each row, which `score` knows.
SCORED = ("classification", "multilabel", "regression")


class AccuracyDropped(UserError):
    """A file lost more than was allowed. `report` is where its numbers lie; the command line exits with code 3."""

    def __init__(self, message: str, report: Path):
        super().__init__(message)
        self.report = report


def compare(
    task: str, labels: np.ndarray | None, keras_logits: np.ndarray, file_logits: np.ndarray, lengths: np.ndarray
) -> dict[str, float | str]:
    """A file beside Keras on one split.

    Args:
        task: the model's.
        labels: of the rows, or None.
        keras_logits, file_logits: (N, C) or (N, L, C).
        lengths: tokens of each row (N,).

    Returns:
        `rows`, what `parity` gives and, for labelled rows of tasks in `SCORED`, all scores of the task for the file and,
        beginning with "keras_", for Keras; `metric`, the main one of them, and `drop`, how many points (hundredths) of it
        the file loses.
    """
    found: dict[str, float | str] = {"rows": len(file_logits)}
    found |= parity(of_real_tokens(np.asarray(keras_logits), lengths), of_real_tokens(file_logits, lengths))
    if labels is None or task not in SCORED:
        return found
    before, after = score(task, labels, np.asarray(keras_logits)), score(task, labels, file_logits)
    metric = next(iter(before))
    found |= {"metric": metric, "drop": 100 * (before[metric] - after[metric])}
    return {**found, **{f"keras_{name}": value for name, value in before.items()}, **after}
