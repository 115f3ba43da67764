"""Find and open the weights of a model directory, in the order in which transformers looks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from tfdistill.errors import UserError
from tfdistill.models.weight_files.h5_file import open_h5
from tfdistill.models.weight_files.safetensors_file import open_safetensors
from tfdistill.models.weight_files.sharded import open_sharded, shard_names
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.models.weight_files.tf_checkpoint import CHECKPOINT, checkpoint_in, open_checkpoint
from tfdistill.models.weight_files.torch_file import open_torch
from tfdistill.system.console import say
from tfdistill.system.files import require_regular

WEIGHTS = "model.safetensors"

_FORMS: dict[str, Callable[[Path], Tensors]] = {
    WEIGHTS: open_safetensors,
    f"{WEIGHTS}.index.json": partial(open_sharded, open_one=open_safetensors),
    "pytorch_model.bin": open_torch,
    "pytorch_model.bin.index.json": partial(open_sharded, open_one=open_torch),
    "tf_model.h5": open_h5,
}
FORMS = tuple(_FORMS)  # names of the files, the preferred one first
# Weights in forms that are not read, with what to do about them.
_OTHERS = {
    "adapter_model.safetensors": "adapter_model.safetensors is an adapter of PEFT: merge it into its model "
    "(`merge_and_unload`) and save that.",
    "flax_model.msgpack": "flax_model.msgpack is not read: load it with `from_flax=True` in transformers and save it.",
}
_ADVICE = f"Use a directory with {', '.join(_FORMS)} or {CHECKPOINT}."
_LFS = b"version https://git-lfs"


def weights_in(directory: Path) -> Path | None:
    """Return the file of the weights that `open_weights` opens, or the prefix of a checkpoint; None if there is none."""
    for name in _FORMS:
        if (directory / name).exists():
            return directory / name
    return checkpoint_in(directory)


def has_weights(directory: Path) -> bool:
    """Return whether a directory holds weights, and all files of weights that are split into several."""
    path = weights_in(directory)
    if path is None or not path.name.endswith(".index.json"):
        return path is not None
    return all((directory / file).is_file() for file in shard_names(path))


def why_not(names: Collection[str]) -> str:
    """Return what to do about a directory with these files, none of which is read as weights."""
    return next((advice for name, advice in _OTHERS.items() if name in names), "") or _ADVICE


def open_weights(directory: Path) -> Tensors:
    """Open the weights of a model directory: their names and shapes are known, their numbers are read when needed.

    Args:
        directory: a directory with one of the forms, of which the first is opened: safetensors,
            pytorch_model.bin, tf_model.h5 or a TensorFlow checkpoint.

    Raises:
        UserError: there are none, or they are damaged.
    """
    path = weights_in(directory)
    if path is None:
        raise UserError(f"{directory / WEIGHTS} is missing. {why_not([each.name for each in directory.iterdir()])}")
    if path.name != WEIGHTS:
        say(f"note: the weights are read from {path}")
    if path.name not in _FORMS:
        return open_checkpoint(path)
    require_regular(path, "Use a directory with the weights of a model.")
    with open(path, "rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(f"{path} is a pointer of Git LFS, not the file. Run `git lfs pull`, or download it.")
    return _FORMS[path.name](path)
