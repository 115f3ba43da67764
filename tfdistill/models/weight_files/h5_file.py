"""Read tf_model.h5, the weights of transformers' TensorFlow models, under the names of its PyTorch models."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from tfdistill.errors import UserError
from tfdistill.models.weight_files.tensors import Stored, Tensors

# Last parts of names in TensorFlow, with those in PyTorch.
_LAST = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


def open_h5(path: Path) -> Tensors:
    """Read the names and shapes in a tf_model.h5.

    Raises:
        UserError: the file is damaged, has no weights, or refers to other files.
    """
    try:
        file = h5py.File(path, "r")
        datasets: dict[str, h5py.Dataset] = {}
        # Each object once, and no links to other files.
        file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        stored = dict(_stored(path, name, dataset) for name, dataset in datasets.items())
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # h5py raises all of them for a damaged file
        raise UserError(f"{path} is damaged or not an HDF5 file ({error}). Download it again.") from error
    if not stored:
        raise UserError(f"{path} has no weights. Download it again.")
    return Tensors(path, stored)


def torch_name(name: str) -> tuple[str, bool]:
    """Return PyTorch's name of a weight, and whether PyTorch has the transpose.

    Args:
        name: path of the dataset: layer, model and name, such as
            `bert/tf_bert_model/bert/encoder/layer_._0/attention/self/query/kernel:0`.
    """
    name = name.removesuffix(":0").partition("/")[2]
    name = re.sub(r"/[^/]*___([^/]*)/", r"/\1/", name)  # mlm___cls is cls
    parts = [part for part in name.replace("_._", "/").split("/") if part]
    parts = parts[1:] or parts
    if not parts:
        return "", False
    return ".".join([*parts[:-1], _LAST.get(parts[-1], parts[-1])]), parts[-1] == "kernel"


def _stored(path: Path, name: str, dataset: h5py.Dataset) -> tuple[str, Stored]:
    shape, dtype = dataset.shape, dataset.dtype
    # The numbers have to be in this file, as many as the shape says: a short file could otherwise ask for any memory.
    held = dataset.id.get_storage_size()
    if dataset.external or dataset.is_virtual or shape is None or dtype.kind not in "fiub" or held < dataset.nbytes:
        raise UserError(f"{path}: '{name[:100]}' is compressed, in another file or has no numbers. Download it again.")
    if len(name) > 1000:  # the search for `___` would take long
        raise UserError(f"{path} has a name of {len(name)} characters. Download it again.")
    torch, transposed = torch_name(name)
    if transposed:
        shape = shape[::-1]
    return torch, Stored(shape, dtype, partial(_read, path, dataset, transposed))


def _read(path: Path, dataset: h5py.Dataset, transposed: bool) -> np.ndarray:
    try:
        value = np.asarray(dataset[()])
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}). Download it again.") from error
    return value.T if transposed else value
