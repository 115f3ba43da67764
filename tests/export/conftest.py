"""A model and its bundle, exported once for all tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundles import measured, reviewer

from tfdistill.export.bundle.bundle import BundleData, export_bundle
from tfdistill.models.text_model import TextModel


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> tuple[TextModel, Path]:
    """Return a model, and its bundle of 10 tokens in dynamic_int8. Do not change the bundle."""
    model = reviewer()
    data = BundleData(dev=measured(model, ["a good film!", "it s not", "films"], [0, 1, 0]), recipe={"name": "r"})
    return model, export_bundle(model, tmp_path_factory.mktemp("exported") / "bundle", data, length=10)


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    """Return a copy of the bundle, to change."""
    return shutil.copytree(exported[1], tmp_path / "bundle")
