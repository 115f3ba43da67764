"""List the examples on which a file differs most from the Keras model it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.export.tflite.accuracy_gate import Scores, compare
from tfdistill.metrics.scores import softmax

MOST = 10
HEADS = ("classification", "multilabel", "regression")


def worst_disagreements(
    task: str,
    split: Split,
    keras_logits: np.ndarray,
    file_logits: np.ndarray,
    *,
    lengths: np.ndarray,
    scores: Scores | None = None,
    label_names: Sequence[str] | None = None,
    most: int = MOST,
) -> dict[str, Any]:
    """Compare a file with Keras on one split, and list the examples that differ most.

    Args:
        task: "classification", "multilabel" or "regression".
        split: the texts, with or without labels.
        keras_logits: (N, C), in the order of the texts.
        file_logits: likewise.
        lengths: tokens of each example (N,).
        scores: as for `compare`.
        label_names: of the C classes.
        most: examples to list.

    Returns:
        The result of `tfdistill.export.tflite.accuracy_gate.compare`; `differing`, the number of examples with another
        answer; `max_difference` and `mean_difference`, of each example's largest difference of a probability (in
        regression of a value); `worst`, first the examples with another answer, then by difference, each with `text`,
        `text_b` and `label` if known, `keras` and `file` (the answers), `of` (the class that differs most), `keras_value`
        and `file_value` (its probabilities) and `difference`.

    Raises:
        UserError: the model has another head.
    """
    if task not in HEADS:
        raise UserError(f"received a model for {task}. Disagreements are listed for {', '.join(HEADS)} only")
    keras, file = (_values(task, np.asarray(logits, np.float64)) for logits in (keras_logits, file_logits))
    names = list(label_names or [f"LABEL_{n}" for n in range(keras.shape[1])])
    apart = np.abs(keras - file)
    of = apart.argmax(axis=1)
    largest = apart[np.arange(len(apart)), of]
    answers = [[_answer(task, row, names) for row in values] for values in (keras, file)]
    flipped = np.array([task != "regression" and a != b for a, b in zip(*answers, strict=True)], bool)
    rows = []
    for row in np.lexsort((-largest, ~flipped))[:most]:
        text: dict[str, Any] = {"text": split.texts[row]}
        if split.texts_b is not None:
            text["text_b"] = split.texts_b[row]
        if split.labels is not None and split.labelled[row]:
            text["label"] = _label(task, split.labels[row], names)
        rows.append(
            {
                **text,
                "keras": answers[0][row],
                "file": answers[1][row],
                "of": "value" if task == "regression" else names[of[row]],
                "keras_value": round(float(keras[row, of[row]]), 6),
                "file_value": round(float(file[row, of[row]]), 6),
                "difference": round(float(largest[row]), 6),
            }
        )
    return {
        **compare(keras_logits, file_logits, lengths, scores),
        "differing": int(flipped.sum()),
        "max_difference": float(largest.max()),
        "mean_difference": float(largest.mean()),
        "worst": rows,
    }


def _values(task: str, logits: np.ndarray) -> np.ndarray:
    if task == "classification":
        return softmax(logits)
    return 1 / (1 + np.exp(-logits)) if task == "multilabel" else logits


def _answer(task: str, values: np.ndarray, names: Sequence[str]) -> str:
    if task == "classification":
        return names[int(values.argmax())]
    if task == "multilabel":
        return ", ".join(name for name, value in zip(names, values, strict=True) if value > 0.5) or "none"
    return ", ".join(f"{value:.3f}" for value in values)


def _label(task: str, label: Any, names: Sequence[str]) -> str:
    if task == "classification":
        return names[int(label)]
    return _answer(task, np.atleast_1d(np.asarray(label, np.float64)), names)
