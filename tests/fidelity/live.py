"""Our side of `make fidelity`: reads the checkpoints that theirs.py wrote, compares, and saves each for the way back.

Run as FIDELITY=DIR pytest tests/fidelity/live.py. The ordinary tests do not collect it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from fidelity.compare import assert_close, ours
from fidelity.weights import batch

from tfdistill.models.hf import load_directory, save_directory

PLACES = sorted(path for path in Path(os.environ["FIDELITY"]).iterdir() if path.is_dir())


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_answers_and_parameters_are_those_of_transformers(place):
    facts = json.loads((place / "facts.json").read_text("utf-8"))
    model = load_directory(place / "theirs")
    assert (model.task, model.count_params()) == (facts["task"], facts["parameters"])
    with np.load(place / "answers.npz") as expected:
        assert_close(ours(model, batch(facts["vocab_size"], facts["seed"])), dict(expected))
    save_directory(model, place / "ours")
