"""How far logits of a file are from those that are expected. Imports no TensorFlow."""

from __future__ import annotations

import numpy as np

from tfdistill.errors import UserError


def check_logits(logits: np.ndarray, name: str = "the file") -> None:
    """Raises UserError when logits (N, C) or (N, L, C) are not finite, or the same for every row."""
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).reshape(len(logits), -1).any(axis=1).sum())
        raise UserError(
            f"{name} gives NaN or infinite logits on {bad} of {len(logits)} rows; its weights are missing or damaged"
        )
    if len(logits) > 1 and (logits == logits[0]).all():
        raise UserError(f"{name} gives the same logits for all {len(logits)} rows; its weights are missing or damaged")


def of_real_tokens(logits: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Logits (N, L, C) as (tokens, C), without those of padding; (N, C) stays what it is."""
    if logits.ndim == 2:
        return logits
    return logits[np.arange(logits.shape[1]) < np.asarray(lengths)[:, None]]


def parity(keras_logits: np.ndarray, tflite_logits: np.ndarray) -> dict[str, float]:
    """How far logits (N, C) of a file are from Keras's: `max_abs_difference`, and `argmax_agreement` within [0, 1].

    Raises UserError for different shapes, no rows, and logits that `check_logits` refuses.
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
