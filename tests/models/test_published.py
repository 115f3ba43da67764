"""Sizes and parameters of the presets, against tests/fidelity/published.py."""

from __future__ import annotations

import keras
import pytest
from fidelity.published import COUNTS, SIZES

from tfdistill.models import presets
from tfdistill.models.text_model import TextModel


def count(name: str, task: str) -> int:
    """Parameters of a preset, from one of one layer and one of two: the whole would take gigabytes."""
    depth = "n_layers" if name == "distilbert" else "num_hidden_layers"
    one, two = (TextModel(presets.config(name, **{depth: layers}), None, task).count_params() for layers in (1, 2))
    return one + (presets.config(name).num_hidden_layers - 1) * (two - one)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), COUNTS)
def test_parameters_are_as_many_as_transformers_counts(name, task, monkeypatch):
    # Drawing millions of numbers would take most of the time.
    monkeypatch.setattr(keras.initializers, "TruncatedNormal", lambda stddev: keras.initializers.Zeros())
    assert count(name, task) == COUNTS[name, task]


@pytest.mark.parametrize("name", SIZES)
def test_presets_have_the_published_sizes(name):
    assert presets.config(name) == type(presets.config(name))(**SIZES[name][1])
