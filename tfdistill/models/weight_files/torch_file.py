"""Read pytorch_model.bin, in the form of a zip archive or in the legacy form, without PyTorch."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.models.weight_files.tensors import Stored, Tensors, view
from tfdistill.models.weight_files.torch_pickle import MAX_BYTES, ForbiddenName, Refused, Tensor, read_pickle

# What `torch.save` writes first in the legacy form: pickles of two numbers.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")

Places = dict[str, tuple[int, int]]  # by the key of a storage: its first byte in the file, and the number of bytes


def open_torch(path: Path) -> Tensors:
    """Read the names and shapes in a file that `torch.save` made of a state dict.

    Nothing in the file is executed, and the numbers are read when they are needed.

    Raises:
        UserError: the file is damaged, or holds something other than tensors; names that could run code are refused.
    """
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        read = _read_zip if content[:4] == b"PK\x03\x04" else _read_legacy
        tensors, places = read(content)
        return Tensors(path, {name: _stored(name, value, content, places) for name, value in tensors.items()})
    except ForbiddenName as error:
        raise UserError(f"{path} is not read: {error}. Do not trust this file. Use a model.safetensors.") from error
    except Refused as error:
        raise UserError(f"{path} is not a state dict of PyTorch: {error}. Download or save it again.") from error
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise UserError(f"{path} cannot be read ({error}). Download it again.") from error


def _stored(name: str, tensor: Any, content: mmap.mmap, places: Places) -> Stored:
    if not isinstance(tensor, Tensor):
        raise Refused(f"{name[:100]!r} is not a tensor")
    storage, width = tensor.storage, tensor.storage.dtype.itemsize
    key, first, whole = storage.view or (storage.key, 0, storage.size)
    if key not in places:
        raise Refused(f"the numbers of {name[:100]!r} are missing")
    start, size = places[key]
    if whole * width > size:
        raise Refused(f"the numbers of {name[:100]!r} are incomplete")
    strides = tuple(stride * width for stride in tensor.strides)
    start += (first + tensor.offset) * width
    return Stored(tensor.shape, storage.dtype, partial(view, content, start, tensor.shape, storage.dtype, strides))


def _state_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"it holds a {type(value).__name__}; expected a dict of tensors, as model.state_dict() gives")
    return value


# --- zip ------------------------------------------------------------------------------------------------------------


def _read_zip(content: mmap.mmap) -> tuple[dict[str, Any], Places]:
    """Return the state dict and the places of its storages: `NAME/data.pkl` and `NAME/data/KEY` in the archive."""
    try:
        with zipfile.ZipFile(_File(content)) as archive:
            entries = archive.infolist()
    except Refused:
        raise
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error, UnicodeError) as error:
        raise Refused("its zip archive is damaged") from error
    pickles = [entry.filename for entry in entries if entry.filename.count("/") == 1 and _name(entry) == "data.pkl"]
    if len(pickles) != 1:
        raise Refused(f"its zip archive has {len(pickles)} files data.pkl; expected 1")
    root = pickles[0].removesuffix("data.pkl")
    if any(entry.filename == f"{root}constants.pkl" for entry in entries):
        raise Refused("it is a program of TorchScript; expected a dict of tensors, as model.state_dict() gives")
    places: Places = {}
    for entry in entries:
        if entry.filename in places:
            raise Refused(f"its zip archive has the file {entry.filename[:100]!r} twice")
        places[entry.filename] = _place(content, entry)
    if sum(size for _, size in places.values()) > len(content):
        raise Refused("the files in its zip archive overlap")
    start, size = places.get(f"{root}byteorder", (0, 0))
    if content[start : start + size] not in (b"", b"little"):
        raise Refused("its numbers are not little-endian")
    start, size = places[pickles[0]]
    if size > MAX_BYTES:
        raise Refused(f"its pickle has {size:,} bytes; expected at most {MAX_BYTES:,}")
    tensors = _state_dict(read_pickle(io.BytesIO(content[start : start + size])))
    data = f"{root}data/"
    return tensors, {name.removeprefix(data): place for name, place in places.items() if name.startswith(data)}


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.rpartition("/")[2]


def _place(content: mmap.mmap, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Return where the bytes of an entry begin, and how many there are."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
        raise Refused(f"the file {entry.filename[:100]!r} in its zip archive is compressed or encrypted")
    if entry.header_offset < 0:
        raise Refused("its zip archive is damaged")
    header = content[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
    if len(header) < _LOCAL_HEADER.size:
        raise Refused("its zip archive is damaged")
    signature, name, extra = _LOCAL_HEADER.unpack(header)
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    if signature != b"PK\x03\x04" or start + entry.file_size > len(content):
        raise Refused("its zip archive is damaged")
    return start, entry.file_size


class _File(io.RawIOBase):
    """Let zipfile read a mapped file, without another handle to it."""

    def __init__(self, content: mmap.mmap):
        self.content, self.at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + (0, self.at, len(self.content))[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        if size > MAX_BYTES:  # the directory of the archive, as a whole
            raise Refused("its zip archive has too many files")
        end = len(self.content) if size < 0 else self.at + size
        part = self.content[self.at : end]
        self.at += len(part)
        return part


# --- legacy ---------------------------------------------------------------------------------------------------------


def _read_legacy(content: mmap.mmap) -> tuple[dict[str, Any], Places]:
    """Return the state dict and the places of its storages.

    The file has five pickles: magic number, protocol, machine, state dict and keys of the storages.
    For each key follow the number of elements (8 bytes) and the elements.
    """
    file = io.BytesIO(content[:MAX_BYTES])
    if read_pickle(file) != _MAGIC or read_pickle(file) != _PROTOCOL:
        raise Refused("it does not begin as a file of torch.save does")
    machine = read_pickle(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Refused("its numbers are not little-endian")
    tensors, keys = _state_dict(read_pickle(file)), read_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Refused("it has no list of storages")
    widths: dict[str, int] = {}
    for tensor in tensors.values():
        if isinstance(tensor, Tensor):
            key = (tensor.storage.view or (tensor.storage.key,))[0]
            if widths.setdefault(key, tensor.storage.dtype.itemsize) != tensor.storage.dtype.itemsize:
                raise Refused("it has tensors of different dtypes with the same numbers")
    places, at = {}, file.tell()
    for key in keys:
        count = int.from_bytes(content[at : at + 8], "little")
        places[key] = at + 8, count * widths.get(key, 1)
        at += 8 + places[key][1]
        if at > len(content):
            raise Refused("its end is missing")
    return tensors, places
