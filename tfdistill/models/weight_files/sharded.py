"""Read weights that are split into several files, with an index that says which file holds which tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfdistill.errors import UserError
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.files import read_json

DOWNLOAD = "Download all files of the model again."


def open_sharded(index: Path, open_one: Callable[[Path], Tensors]) -> Tensors:
    """Read the index and the headers of all files that it names.

    Args:
        index: `model.safetensors.index.json` or `pytorch_model.bin.index.json`.
        open_one: opens one of the files.

    Raises:
        UserError: the index is damaged, or a file or a tensor that it names is missing.
    """
    names, files = _weight_map(index), {}
    for file in sorted(set(names.values())):
        if not (index.parent / file).is_file():
            raise UserError(f"{index.parent / file} is missing; {index.name} names it. {DOWNLOAD}")
        files[file] = open_one(index.parent / file)
    for name, file in names.items():
        if name not in files[file]:
            raise UserError(f"{index.parent / file} has no tensor '{name}'; {index.name} says it does. {DOWNLOAD}")
    return Tensors(index, {name: files[file].stored(name) for name, file in names.items()})


def shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index names, all of them in its directory.

    Raises:
        UserError: the index is damaged, or names a file in another directory.
    """
    return sorted(set(_weight_map(index).values()))


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor."""
    names = read_json(index, DOWNLOAD).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
        raise UserError(f"{index} has no `weight_map` from tensors to files. {DOWNLOAD}")
    for file in sorted(set(names.values())):
        # A name with a folder could point anywhere on this machine.
        if not file or "/" in file or "\\" in file or "\0" in file or file in (".", ".."):
            raise UserError(f"{index} names the file {file[:100]!r}. Only files in the same directory are read.")
    return names
