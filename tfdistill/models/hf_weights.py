"""Read the weights of a model directory, and read and write its activation ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tfdistill.errors import UserError
from tfdistill.models.hf_config import CONFIG
from tfdistill.models.hf_names import Named
from tfdistill.models.text_model import TextModel
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.files import atomic_write

# Activation ranges of quantization-aware training. The metadata hold the SHA-256 of the weights they belong to.
RANGES = "quantization.safetensors"


def read_ranges(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the SHA-256 of the weights that the ranges belong to, and the ranges by name."""
    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("weights", ""), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file ({error}). Remove it.") from error


def write_ranges(model: TextModel, path: Path, weights: str) -> None:
    """Write learned activation ranges, unless they belong to other weights than those with this SHA-256."""
    ranges = model.activation_ranges
    if ranges is None:
        trained_weights, ranges = model.learned_ranges
        if trained_weights != weights:
            return
    atomic_write(path, save(dict(ranges), metadata={"weights": weights}))


def head_size(tensors: Tensors) -> int | None:
    """Return the number of classes of the head in the file; None if there is no such head."""
    if "classifier.weight" in tensors:
        return tensors.shape("classifier.weight")[0]
    return tensors.shape("head.kernel")[1] if "head.kernel" in tensors else None


def find(tensors: Tensors, name: str, prefix: str) -> np.ndarray | None:
    """Return a tensor by its name, by that in a base checkpoint, or by that in conversions from TensorFlow."""
    legacy = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    for each in (name, name.removeprefix(prefix), legacy, legacy.removeprefix(prefix)):
        if each in tensors:
            return tensors[each]
    return None


def fill(named: Named, tensors: Tensors, prefix: str) -> None:
    """Assign the tensors of a file to variables."""
    for name, variable, transpose in named:
        value = find(tensors, name, prefix)
        if value is None:
            raise UserError(f"{tensors.path} has no tensor '{name}'. Use the {CONFIG} of this model.")
        value = value.T if transpose else value
        if value.shape != tuple(variable.shape):
            raise UserError(
                f"{tensors.path}: '{name}' has shape {value.shape}, expected {tuple(variable.shape)}. "
                f"Use the {CONFIG} of this model."
            )
        variable.assign(value.astype("float32"))
