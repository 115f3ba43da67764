"""Write files as `torch.save` does, byte by byte, so that tests need no PyTorch; also malicious ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np

KINDS = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
EMPTY_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + value.to_bytes(4, "little", signed=True)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, kind: str, size: int, view: bytes | None = None) -> bytes:
    return (
        b"("
        + text("storage")
        + b"ctorch\n"
        + kind.encode()
        + b"\n"
        + text(key)
        + text("cpu")
        + number(size)
        + (b"" if view is None else view)
        + b"tQ"
    )


def tensor(place: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    parts = place + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + EMPTY_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"tR"


def strides_of(array: np.ndarray) -> tuple[int, ...]:
    return tuple(step // array.itemsize for step in array.strides)


def state_dict(values: Mapping[str, bytes], protocol: int = 2) -> bytes:
    """A pickle of an OrderedDict with `_metadata`, as `Module.state_dict()` gives; values are pickled tensors."""
    items = b"".join(text(name) + value for name, value in values.items())
    metadata = b"}" + text("_metadata") + EMPTY_DICT + b"(" + text("") + b"}" + text("version") + b"K\x01sus"
    return bytes([0x80, protocol]) + EMPTY_DICT + b"(" + items + b"u" + metadata + b"b."


def pickled(arrays: Mapping[str, np.ndarray], legacy: bool = False) -> bytes:
    values = {}
    for n, (name, array) in enumerate(arrays.items()):
        place = storage(str(n), KINDS[array.dtype.name], array.size, b"N" if legacy else None)
        values[name] = tensor(place, array.shape, strides_of(np.empty(array.shape, array.dtype)))
    return state_dict(values)


def zip_file(pickle: bytes, storages: Mapping[str, bytes], root: str = "archive", **changes: int) -> bytes:
    """The form since PyTorch 1.6: an archive that is not compressed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **changes) as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        archive.writestr(f"{root}/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", "3\n")
    return content.getvalue()


LEGACY = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}("
    + text("protocol_version") + b"M\xe9\x03" + text("little_endian") + b"\x88u."
)  # fmt: skip


def legacy_file(pickle: bytes, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
    """The form before: five pickles, then for each storage the number of elements and the elements."""
    keys = b"\x80\x02](" + b"".join(map(text, storages)) + b"e."
    data = b"".join(count.to_bytes(8, "little") + content for count, content in storages.values())
    return LEGACY + pickle + keys + data


def saved(arrays: Mapping[str, np.ndarray], legacy: bool = False) -> bytes:
    """A state dict of arrays, in the one form or in the other."""
    named = {str(n): np.ascontiguousarray(array) for n, array in enumerate(arrays.values())}
    if legacy:
        storages = {key: (array.size, array.tobytes()) for key, array in named.items()}
        return legacy_file(pickled(arrays, legacy=True), storages)
    return zip_file(pickled(arrays), {key: array.tobytes() for key, array in named.items()})
