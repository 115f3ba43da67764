"""Labelled data and a fine-tuned tiny teacher, made once for the tests of the verbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
LETTERS = list("bcdefghijklmnop")


def write_split(path: Path, count: int, seed: int) -> None:
    """Write texts of letters; the class tells whether 'a' is among them."""
    rng = np.random.default_rng(seed)
    lines = ["text\tlabel"]
    for _ in range(count):
        words = ["".join(rng.choice(LETTERS, rng.integers(1, 4))) for _ in range(rng.integers(1, 6))]
        positive = rng.random() < 0.5
        lines.append(" ".join([*words, "a"] if positive else words) + ("\tpos" if positive else "\tneg"))
    path.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="session")
def make_data() -> Callable[[Path], Path]:
    """Return a function that writes train, dev and test into a directory."""

    def make(directory: Path) -> Path:
        directory.mkdir(parents=True)
        for seed, (name, count) in enumerate({"train": 80, "dev": 20, "test": 20}.items()):
            write_split(directory / f"{name}.tsv", count, seed)
        return directory

    return make


@pytest.fixture(scope="session")
def work(tmp_path_factory, make_data) -> Path:
    """Return a directory with `data` and `teacher`, the run of a fine-tuned tiny BERT."""
    from tfdistill.data.text_sources import load_data
    from tfdistill.models.hf import load_directory
    from tfdistill.recipes import finetune
    from tfdistill.training.run_directory import run

    root = tmp_path_factory.mktemp("work")
    data = load_data(str(make_data(root / "data")))
    settings = finetune.Settings(epochs=4, max_length=16, learning_rate=3e-3, batch_size=16, evaluations=2)
    model = load_directory(TINY, num_outputs=2, label_names=data.label_names)
    run(finetune.recipe(model, data, settings), root / "teacher", seed=1)
    return root
