"""Teachers and text that the recipes' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_recipes import bottleneck_teacher, teacher, write_text

from tfdistill import TextModel


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
