"""The main job's parts that can be tested without minutes of training."""

from __future__ import annotations

import numpy as np
import pytest

from tfdistill.commands.quickstart import findings, quickstart
from tfdistill.errors import UserError


def table(teacher, floor):
    return [
        {"model": "teacher", "quantization": "fp32", "test_accuracy": teacher, "runtime": "LiteRT"},
        {
            "model": "TF-IDF + logistic regression",
            "quantization": None,
            "test_accuracy": floor,
            "runtime": "scikit-learn",
        },
    ]


def test_a_teacher_near_the_floor_is_called_a_bug():
    (good,) = findings(table(0.90, 0.80))
    assert "10.0 points above" in good
    assert findings(table(0.87, 0.83))[-1].startswith("Warning")


def test_a_directory_with_other_things_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="a former quickstart"):
        quickstart(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.network
def test_floor_on_the_real_data():
    from tfdistill.commands.quickstart import floor
    from tfdistill.data.demo import movie_snippets

    found = floor(movie_snippets(), seed=1)
    assert 0.78 < found["test"] < 0.86 and np.isfinite(found["dev"])
