"""Our side of `make fidelity`: reads the checkpoints that theirs.py wrote, compares, and saves each for the way back.

Run as FIDELITY=DIR pytest tests/fidelity/live.py. The ordinary tests do not collect it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from fidelity.compare import assert_close, ours
from fidelity.weights import batch
from safetensors.numpy import load_file

from tfdistill.models.hf import load_directory, save_directory

PLACES = sorted(path for path in Path(os.environ["FIDELITY"]).iterdir() if path.is_dir())
FORMS = sorted(form for place in PLACES for form in place.glob("form-*"))


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_answers_and_parameters_are_those_of_transformers(place):
    facts = json.loads((place / "facts.json").read_text("utf-8"))
    model = load_directory(place / "theirs")
    assert (model.task, model.count_params()) == (facts["task"], facts["parameters"])
    with np.load(place / "answers.npz") as expected:
        assert_close(ours(model, batch(facts["vocab_size"], facts["seed"], facts["segments"])), dict(expected))
    save_directory(model, place / "ours")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.parent.name}-{form.name}")
def test_all_forms_of_weights_give_the_same_answers(form):
    check_form(form, form.parent)


@pytest.mark.parametrize("place", [place for place in PLACES if (place / "form-bin").is_dir()], ids=lambda p: p.name)
def test_tf_model_h5_gives_the_same_answers(place, tmp_path):
    """transformers 5 writes no such file: it is written here, with the names that transformers 4 gave its weights."""
    for file in ("config.json", "vocab.txt"):
        shutil.copy(place / "theirs" / file, tmp_path / file)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        for name, value in load_file(place / "theirs" / "model.safetensors").items():
            path, array = h5_weight(name, value)
            file[f"layer/tf_model/{path}:0"] = array
    check_form(tmp_path, place)


def h5_weight(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """TensorFlow's path of a weight of transformers 4, and its value."""
    *parts, last = re.sub(r"\.(\d+)\.", r"#\1.", name).split(".")
    parts = [part.replace("#", "_._") for part in parts]
    if value.ndim == 1:
        is_norm = "norm" in parts[-1].lower()
        return "/".join([*parts, {"weight": "gamma", "bias": "beta"}[last] if is_norm else last]), value
    if parts[-1].endswith("_embeddings"):
        return "/".join([*parts, "weight" if parts[-1].startswith("word") else "embeddings"]), value
    return "/".join([*parts, "kernel"]), value.T


def check_form(directory: Path, place: Path) -> None:
    """The model of `directory` gives the answers of `place`."""
    facts = json.loads((place / "facts.json").read_text("utf-8"))
    model = load_directory(directory, new_head=False)
    with np.load(place / "answers.npz") as expected:
        assert_close(ours(model, batch(facts["vocab_size"], facts["seed"], facts["segments"])), dict(expected))
