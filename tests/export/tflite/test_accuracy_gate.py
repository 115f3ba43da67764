"""Test the comparison of a file with its Keras model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tfdistill.export.tflite.accuracy_gate import compare
from tfdistill.metrics.scores import score

KERAS = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
FILE = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0]])


def test_compare():
    """Keras is right about two of four rows, the file about one; it is confident of its error."""
    scores = compare(KERAS, FILE, np.full(4, 3), partial(score, "classification", np.array([0, 0, 0, 1])))
    confidence = 1 / (1 + np.exp(-2))
    assert scores == {
        "rows": 4,
        "max_abs_difference": 2.0,
        "argmax_agreement": 0.75,
        "metric": "accuracy",
        "drop": 25.0,
        "keras_accuracy": 0.5,
        "accuracy": 0.25,
        "keras_expected_calibration_error": pytest.approx(confidence - 0.5),
        "expected_calibration_error": pytest.approx(confidence - 0.25),
    }


def test_no_labels_no_drop():
    assert "drop" not in compare(KERAS[:, None], FILE[:, None], np.ones(4, int))
