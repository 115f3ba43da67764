"""The main job's parts that can be tested without minutes of training."""

from __future__ import annotations

import numpy as np
import pytest

from tfdistill.errors import UserError
from tfdistill.quickstart import findings, quickstart


def row(model, method, quantization, accuracy, size=None, median=None, runtime="LiteRT"):
    latency = None if median is None else {"median": median}
    return {
        "model": model, "method": method, "quantization": quantization, "test_accuracy": accuracy,
        "bytes": size, "latency_ms": latency, "runtime": runtime,
    }  # fmt: skip


def table(labels_accuracy, floor):
    return [
        row("teacher", "labels", "fp32", 0.90, 90_000_000, 20.0),
        row("student 3 layers", "distilled", "fp32", 0.89, 70_000_000, 10.0),
        row("student 3 layers", "distilled", "dynamic_int8", 0.885, 18_000_000, 4.0),
        row("student 3 layers", "labels", None, labels_accuracy, runtime="Keras"),
        row("BiLSTM", "distilled", "fp32", 0.85, 40_000_000, 4.0),
        row("BiLSTM", "distilled", "dynamic_int8", 0.85, 10_000_000, 1.0),
        row("BiLSTM", "labels", None, 0.80, runtime="Keras"),
        row("TF-IDF + logistic regression", "labels", None, floor, runtime="scikit-learn"),
    ]


def test_findings_in_words():
    student, bilstm, teacher = findings(table(0.87, 0.80))
    assert "5.0 times smaller and 5.0 times faster" in student and "1.5 points less accurate" in student
    assert "gave 2.0 points" in student and "gave 5.0 points" in bilstm and "9.0 times smaller" in bilstm
    assert "10.0 points above" in teacher


def test_a_loss_by_distillation_is_said_too_and_so_is_a_bad_teacher():
    said = findings(table(0.895, 0.86))
    assert "cost 0.5 points" in said[0] and said[-1].startswith("Warning")


def test_a_directory_with_other_things_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no former quickstart"):
        quickstart(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.network
def test_floor_on_the_real_data():
    from tfdistill.data.demo import movie_snippets
    from tfdistill.quickstart import floor

    found = floor(movie_snippets(), seed=1)
    assert 0.78 < found["test"] < 0.86 and np.isfinite(found["dev"])
