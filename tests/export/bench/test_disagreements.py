"""Examples on which a file and Keras differ most."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.export.bench.disagreements import worst_disagreements
from tfdistill.metrics.scores import score


def test_worst_disagreements_by_hand():
    split = Split(["same", "flip", "far"], None, np.array([0, 0, 1]))
    keras, file = np.array([[0.0, 1.0], [0.1, 0.0], [0.0, 4.0]]), np.array([[0.0, 1.0], [0.0, 0.1], [0.0, 1.0]])
    found = worst_disagreements(
        "classification",
        split,
        keras,
        file,
        lengths=np.ones(3, int),
        scores=partial(score, "classification", split.labels),
        label_names=("no", "yes"),
        most=2,
    )
    assert [row["text"] for row in found["worst"]] == ["flip", "far"]  # another answer first
    assert found["differing"] == 1 and found["rows"] == 3 and found["keras_accuracy"] == pytest.approx(2 / 3)
    first, second = found["worst"]
    assert (first["keras"], first["file"], first["label"]) == ("no", "yes", "no")
    assert second["difference"] == pytest.approx(1 / (1 + np.exp(-4)) - 1 / (1 + np.exp(-1)), abs=1e-6)
    assert found["max_difference"] == pytest.approx(second["difference"], abs=1e-6)


def test_worst_disagreements_of_other_tasks():
    split = Split(["x", "y"], ["p", "q"], np.array([[1.0, 0.0], [0.0, 0.0]], "float32"))
    keras, file = np.array([[3.0, -3.0], [0.1, -1.0]]), np.array([[3.0, -3.0], [-0.1, -1.0]])
    found = worst_disagreements("multilabel", split, keras, file, lengths=np.ones(2, int), label_names=("a", "b"))
    assert found["differing"] == 1 and found["worst"][0]["text_b"] == "q"
    assert (found["worst"][0]["keras"], found["worst"][0]["file"], found["worst"][0]["label"]) == ("a", "none", "none")
    split = Split(["x", "y"], None, np.array([1.0, np.nan], "float32"))
    keras, file = np.array([[1.0], [2.0]]), np.array([[1.0], [2.5]])
    found = worst_disagreements("regression", split, keras, file, lengths=np.ones(2, int))
    assert found["worst"][0]["difference"] == 0.5 and found["differing"] == 0 and "label" not in found["worst"][0]
    with pytest.raises(UserError, match="token_classification"):
        worst_disagreements("token_classification", split, keras, file, lengths=np.ones(2, int))
