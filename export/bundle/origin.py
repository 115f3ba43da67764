"""Tell whether a bundle was exported from a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bundle.manifest import MANIFEST, MODEL, read_object
from tfdistill.export.convert.convert import parameters_of
from tfdistill.export.tflite.metadata import VOCABULARY
from tfdistill.models.fingerprint import fingerprint
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import sha256

# The entry of the manifest. Bundles that were made before it existed do not have it.
MODEL_SHA256 = "model_sha256"


def bundle_of(path: Path) -> Path | None:
    """Return the bundle at `path`: a bundle's directory, or the model.tflite in one; None for another file."""
    directory = path if path.is_dir() else path.parent
    if not (directory / MANIFEST).is_file():
        return None
    if path.is_dir():
        return directory
    try:
        files = read_object(directory / MANIFEST).get("files")
    except UserError:
        return None
    entry = files.get(MODEL) if isinstance(files, dict) else None
    return directory if isinstance(entry, dict) and entry.get("sha256") == sha256(path) else None


def is_model_of(model: TextModel, bundle: Path) -> bool | None:
    """Return whether a bundle was exported from a model, by its labels and the SHA-256 of its weights and vocabulary.

    Args:
        model: the model, with its tokenizer.
        bundle: the directory of an intact bundle.

    Returns:
        None for a bundle of an older version, which states no SHA-256, if its family, number of parameters, labels and
        vocabulary are the model's.
    """
    manifest = read_object(bundle / MANIFEST)
    stated = manifest.get(MODEL_SHA256)
    if model.label_names and manifest.get("label_names") != [*model.label_names]:
        return False
    if stated is not None:
        return bool(stated == fingerprint(model))
    return None if _looks_alike(model, manifest, bundle) else False


def _looks_alike(model: TextModel, manifest: dict[str, Any], bundle: Path) -> bool:
    try:
        vocabulary = (bundle / VOCABULARY).read_text("utf-8").split("\n")
    except (OSError, ValueError):
        return False
    tokens = [*model.tokenizer.vocabulary]
    stated = [manifest.get(key) for key in ("family", "parameters")]
    return stated == [model.family, parameters_of(model)] and vocabulary[: len(tokens)] == tokens
