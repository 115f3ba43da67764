"""Every family with every head gives transformers' answers, from the vectors that `theirs.py vectors` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fidelity.compare import assert_close, ours
from fidelity.weights import batch, tensors, vocabulary
from safetensors.numpy import save_file

from tfdistill.models.hf import load_directory

pytestmark = pytest.mark.heavy

VECTORS = Path(__file__).parents[1] / "fidelity" / "vectors"
FACTS = json.loads((VECTORS / "cases.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("family", "task"), [(family, task) for family, facts in FACTS.items() for task in facts["tasks"]]
)
def test_answers_are_those_of_transformers(family, task, tmp_path):
    base, changes = FACTS[family], FACTS[family]["tasks"][task]
    config = {key: value for key, value in {**base["config"], **changes["config"]}.items() if value is not None}
    shapes = {name: shape for name, shape in base["shapes"].items() if name not in changes["gone"]}
    save_file(tensors(shapes | changes["shapes"]), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "vocab.txt").write_text(vocabulary(config["vocab_size"]), "utf-8")
    model = load_directory(tmp_path)
    assert model.task == task
    with np.load(VECTORS / "answers.npz") as answers:
        expected = {name.split("/")[2]: answers[name] for name in answers.files if name.startswith(f"{family}/{task}/")}
    assert expected
    assert_close(ours(model, batch(config["vocab_size"], 0, config.get("type_vocab_size", 2))), expected)
