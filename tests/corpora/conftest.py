"""A cache of its own and a vocabulary of words for the tests of corpora."""

from __future__ import annotations

import pytest
from made_corpora import save_vocabulary


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def vocabulary(tmp_path) -> str:
    return save_vocabulary(tmp_path / "vocabulary")
