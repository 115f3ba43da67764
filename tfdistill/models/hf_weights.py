"""Read the weights of a model directory, and read and write its activation ranges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tfdistill.errors import UserError
from tfdistill.models.hf_config import CONFIG
from tfdistill.models.hf_names import Named
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.files import atomic_write, require_regular

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# Activation ranges of quantization-aware training. The metadata hold the SHA-256 of the weights they belong to.
RANGES = "quantization.safetensors"


def read_ranges(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the SHA-256 of the weights that the ranges belong to, and the ranges by name."""
    require_regular(path, "Remove it.")
    try:
        with safe_open(path, "np") as file:
            ranges = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            weights = (file.metadata() or {}).get("weights", "")
    except (SafetensorError, OSError, AttributeError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file ({error}). Remove it.") from error
    for name, value in ranges.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise UserError(f"{path}: '{name}' is {value.dtype} or not finite; expected float32 numbers. Remove it.")
    return weights, ranges


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
    for name, axis in (("classifier.weight", 0), ("classifier.out_proj.weight", 0), ("head.kernel", 1)):
        if name in tensors:
            shape = tensors.shape(name)
            if len(shape) != 2:
                raise UserError(f"{tensors.path}: '{name}' has shape {shape}, expected two axes. Use other weights.")
            return shape[axis]
    return None


def found_name(tensors: Tensors, name: str, prefix: str) -> str | None:
    """Return the name of a tensor in the file: its own, that in a base checkpoint, or that in conversions from TensorFlow."""
    legacy = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    names = (name, name.removeprefix(prefix), legacy, legacy.removeprefix(prefix))
    return next((each for each in names if each in tensors), None)


def find(tensors: Tensors, name: str, prefix: str) -> np.ndarray | None:
    """Return a tensor by one of the names that `found_name` tries; None if the file has none of them."""
    found = found_name(tensors, name, prefix)
    return None if found is None else tensors[found]


def require_numbers(tensors: Tensors, name: str) -> None:
    """Raise UserError if a tensor holds integers, as quantized weights do."""
    if tensors.dtype(name).kind in "iub":
        raise UserError(
            f"{tensors.path}: '{name}' holds {tensors.dtype(name)}, expected floating-point numbers. "
            "Use the weights before quantization."
        )


def fill(named: Named, tensors: Tensors, prefix: str) -> None:
    """Assign the tensors of a file to variables.

    Raises:
        UserError: a tensor is missing, has another shape or type, or numbers that are not finite.
    """
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
        require_numbers(tensors, name=found_name(tensors, name, prefix) or name)
        with np.errstate(over="ignore"):
            value = value.astype("float32")
        if not np.isfinite(value).all():
            raise UserError(
                f"{tensors.path}: '{name}' has NaN or infinite numbers. Use weights from a training that did not diverge."
            )
        variable.assign(value)
