"""Teachers and text that the recipes' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_recipes import bottleneck_teacher, teacher, write_text

from tfdistill import TextModel
from tfdistill.compress.layerdrop import keep_layers
from tfdistill.models.hf import load_directory

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


@pytest.fixture
def text_file(tmp_path, monkeypatch) -> Path:
    """Write plain text in documents; the test gets an empty cache."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "text.txt")


@pytest.fixture(scope="module")
def shallow() -> TextModel:
    """Return a teacher with two layers, which no test changes."""
    return teacher(layers=2)


@pytest.fixture(scope="module")
def ib_bert() -> TextModel:
    """Return a bottleneck teacher with two layers, which no test changes."""
    return bottleneck_teacher()


@pytest.fixture(scope="module")
def bert() -> TextModel:
    """Return a BERT with three layers, which no test changes."""
    return load_directory(TINY, num_outputs=2, label_names=("neg", "pos"))


@pytest.fixture(scope="module")
def two_layers(bert: TextModel) -> TextModel:
    """Return the first two layers of `bert`: the number makes no difference to heads and neurons."""
    return keep_layers(bert, [1, 2])
