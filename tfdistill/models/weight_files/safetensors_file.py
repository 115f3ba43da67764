"""Read safetensors files, whole or sharded."""

from __future__ import annotations

import json
import mmap
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from tfdistill.errors import UserError
from tfdistill.models.weight_files.tensors import Stored, Tensors, view
from tfdistill.system.files import require_regular

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def open_safetensors(path: Path) -> Tensors:
    """Read the header of a safetensors file.

    Raises:
        UserError: the file is damaged, or holds a dtype that no model here has.
    """
    require_regular(path, "Use a directory with the weights of a model.")
    try:
        with safe_open(path, "np"):  # checks the header: offsets, sizes and that nothing overlaps
            pass
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        begin = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:begin])
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged or not a safetensors file ({why}). Download it again.") from error
    header.pop("__metadata__", None)
    return Tensors(path, {name: _stored(path, content, begin, name, entry) for name, entry in header.items()})


def _stored(path: Path, content: mmap.mmap, begin: int, name: str, entry: dict) -> Stored:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise UserError(
            f"{path}: '{name}' has the dtype {entry['dtype']}; expected one of {', '.join(_DTYPES)}. "
            "Save the model in one of these."
        )
    shape = tuple(entry["shape"])
    return Stored(shape, dtype, partial(view, content, begin + entry["data_offsets"][0], shape, dtype))
