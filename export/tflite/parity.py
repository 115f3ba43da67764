"""Measure the distance between a file's logits and the expected logits. Imports no TensorFlow."""

from __future__ import annotations

import numpy as np

from tfdistill.errors import UserError


def check_logits(logits: np.ndarray, name: str = "the file", cause: str = "its weights are missing or damaged") -> None:
    """Raise UserError for logits (N, C) or (N, L, C) that are not finite, or equal for all rows.

    Args:
        logits: of the rows.
        name: what gave them, for the message.
        cause: the likely reason, and what to do.
    """
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).reshape(len(logits), -1).any(axis=1).sum())
        raise UserError(f"{name} gives logits that are not finite for {bad} of {len(logits)} rows; {cause}")
    if len(logits) > 1 and (logits == logits[0]).all():
        raise UserError(f"{name} gives equal logits for all {len(logits)} rows; {cause}")


def of_real_tokens(logits: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return logits (N, L, C) as (tokens, C), without padding; logits (N, C) are returned unchanged."""
    if logits.ndim == 2:
        return logits
    return logits[np.arange(logits.shape[1]) < np.asarray(lengths)[:, None]]


def parity(keras_logits: np.ndarray, tflite_logits: np.ndarray) -> dict[str, float]:
    """Compare logits (N, C) of the Keras model and of a file.

    Returns:
        `max_abs_difference`, and `argmax_agreement` within [0, 1].

    Raises:
        UserError: the shapes differ, there are no rows, or `check_logits` refuses the logits.
    """
    expected, received = np.asarray(keras_logits, np.float64), np.asarray(tflite_logits, np.float64)
    if expected.shape != received.shape or expected.ndim != 2 or not len(expected):
        raise UserError(f"logits of shapes {expected.shape} and {received.shape}; expected (N, C) of one size, N > 0")
    check_logits(expected, "the Keras model")
    check_logits(received)
    return {
        "max_abs_difference": float(np.abs(expected - received).max()),
        "argmax_agreement": float((expected.argmax(axis=1) == received.argmax(axis=1)).mean()),
    }
