"""Read the pickle of a PyTorch state dict without running anything.

Python's unpickler calls anything that a pickle names. This one interprets the opcodes itself: the names that a state dict
needs become inert objects of this module, every other name is refused, and nothing is imported or called.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

# A state dict of 10,000 tensors has less than half a million opcodes and 2 MB.
MAX_OPCODES = 2_000_000
MAX_BYTES = 32_000_000

DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class Refused(ValueError):
    """A pickle that is not read; the message says why, without the name of the file."""


class ForbiddenName(Refused):
    """A pickle names something other than the parts of a state dict."""


@dataclass(frozen=True)
class Storage:
    """Describe numbers in a file that tensors share.

    Attributes:
        key: the name of the storage in the file.
        dtype: the dtype of the numbers.
        size: how many there are.
        view: for a part of another storage, in the legacy form: key, offset and size.
    """

    key: str
    dtype: np.dtype
    size: int
    view: tuple[str, int, int] | None = None


@dataclass(frozen=True)
class Tensor:
    """Describe a tensor: numbers of a storage from `offset` on, with strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Name:
    """Hold an allowed name until it is called."""

    def __init__(self, call: Callable[..., Any] | None, dtype: np.dtype | None = None):
        self.call, self.dtype = call, dtype


class _Mark:
    """Mark a place on the stack."""


def _is_sizes(value: Any) -> bool:
    # bool is a subclass of int; no size is one. Numbers of a million digits would take minutes to multiply.
    return isinstance(value, tuple) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _ordered_dict(*args: Any) -> dict[str, Any]:
    pairs = args[0] if len(args) == 1 else []  # Python 2 writes [[key, value], …]
    if len(args) > 1 or not isinstance(pairs, list) or not all(len(pair) == 2 for pair in pairs):
        raise Refused("it calls OrderedDict with other arguments than a list of pairs")
    return _put({}, [part for pair in pairs for part in pair])


def _put(target: Any, parts: list[Any]) -> dict[str, Any]:
    """Put keys and values, one after the other, into a dict."""
    if not isinstance(target, dict) or len(parts) % 2:
        raise Refused("it puts a key into something that is not a dict")
    for key, value in zip(parts[::2], parts[1::2], strict=True):
        if not isinstance(key, str):  # other keys could be chosen so that they collide
            raise Refused(f"it has a dict with a key of type {type(key).__name__}; expected text")
        target[key] = value
    return target


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Take the arguments of `_rebuild_tensor_v2`, and check that the storage has all numbers of the tensor."""
    fits = isinstance(storage, Storage) and _is_sizes((offset,)) and _is_sizes(shape) and _is_sizes(strides)
    if not fits or len(shape) != len(strides) or len(shape) > 16 or len(rest) > 3:
        raise Refused("it has a tensor whose storage, offset, shape or strides are not valid")
    count = 1
    for size in shape:
        count *= size
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # A tensor that repeats its numbers could be of any size.
    if count and (last >= storage.size or count > storage.size):
        raise Refused(
            f"it has a tensor of shape {shape}, strides {strides} and offset {offset} in a storage of {storage.size}"
        )
    return Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *rest: Any) -> Tensor:
    if not isinstance(data, Tensor) or len(rest) > 3:
        raise Refused("it has a parameter that holds no tensor")
    return data


def _size(*args: Any) -> tuple[int, ...]:
    if len(args) != 1 or not _is_sizes(tuple(args[0])):
        raise Refused("it has a torch.Size of something other than sizes")
    return tuple(args[0])


# All that a pickle may name.
_ALLOWED = {
    ("collections", "OrderedDict"): _Name(_ordered_dict),
    ("torch", "Size"): _Name(_size),
    ("torch._utils", "_rebuild_tensor"): _Name(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Name(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Name(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Name(_parameter),
    **{("torch", name): _Name(None, dtype) for name, dtype in DTYPES.items()},
}


def read_pickle(file: BinaryIO) -> Any:
    """Read one pickle and leave the file behind it.

    Returns:
        Texts, numbers, lists, tuples and dicts with text as keys; `Tensor` for tensors.

    Raises:
        Refused: the pickle holds anything else, or is damaged.
        ForbiddenName: it names something other than the parts of a state dict.
    """
    start = file.tell()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about the escapes in a text
            return _Reader().run(_opcodes(file))
    except ForbiddenName:
        raise
    except Refused:
        _forbid(file, start)
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        _forbid(file, start)
        raise Refused("its pickle is damaged") from error


def _opcodes(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    for number, (opcode, value, _) in enumerate(pickletools.genops(file)):
        if number > MAX_OPCODES:
            raise Refused(f"its pickle has more than {MAX_OPCODES:,} opcodes")
        yield opcode.name, value


def _forbid(file: BinaryIO, start: int) -> None:
    """Raise ForbiddenName if a pickle that is refused for another reason names something that is not allowed.

    The name says more about such a file than a damaged opcode before it.
    """
    file.seek(start)
    texts: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for name, value in _opcodes(file):
                if isinstance(value, str):
                    texts = [*texts[-1:], value]
                if name in ("GLOBAL", "INST"):
                    _allowed(*value.split(" ", 1))
                elif name == "STACK_GLOBAL" and len(texts) == 2:
                    _allowed(*texts)
    except ForbiddenName:
        raise
    except (ValueError, MemoryError):
        return


def _allowed(module: str, name: str) -> _Name:
    allowed = _ALLOWED.get((module, name))
    if allowed is None:
        shown = ascii(f"{module}.{name}"[:100])[1:-1]  # without control characters
        raise ForbiddenName(f"its pickle names {shown}, which no state dict needs and which could run code")
    return allowed


class _Reader:
    """Hold the stack and the memo of a pickle while it is read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, opcodes: Iterator[tuple[str, Any]]) -> Any:
        for name, value in opcodes:
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(value)
            elif name in _TEXTS_OF_PYTHON_2:
                self.stack.append(value.encode("latin-1").decode("utf-8"))
            elif name in _PUT:
                self.memo[int(value)] = self.stack[-1]
            elif name in _GET:
                self.stack.append(self.memo[int(value)])
            elif name in _STEPS:
                _STEPS[name](self, value)
            else:
                raise Refused(f"its pickle has the opcode {name}, which no state dict needs")
        raise Refused("its pickle has no end")

    def since_mark(self) -> list[Any]:
        """Remove and return what is above the last mark."""
        at = len(self.stack) - 1
        while not isinstance(self.stack[at], _Mark):
            at -= 1
            if at < 0:
                raise Refused("its pickle lacks a mark")
        above = self.stack[at + 1 :]
        del self.stack[at:]
        return above

    def take(self, count: int) -> list[Any]:
        """Remove and return the last values; none of them may be a mark."""
        values = self.stack[-count:]
        if len(values) < count or any(isinstance(value, _Mark) for value in values):
            raise Refused("its pickle lacks a value")
        del self.stack[-count:]
        return values

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(self.take(count)))

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("it has a name that is not text")
        self.stack.append(_allowed(module, name))

    def call(self) -> None:
        function, arguments = self.take(2)
        if not isinstance(function, _Name) or function.call is None or not isinstance(arguments, tuple):
            raise Refused("it calls something that cannot be called")
        self.stack.append(function.call(*arguments))

    def build(self) -> None:
        # Of a state dict, `_metadata`: versions of the modules, which nothing here reads.
        target, _ = self.take(2)
        if not isinstance(target, dict):
            raise Refused("it sets the state of something that is not a dict")
        self.stack.append(target)

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Refused("it appends to something that is not a list")
        self.stack[-1].extend(values)

    def set_items(self) -> None:
        parts = self.since_mark()
        _put(self.stack[-1], parts)

    def storage(self) -> None:
        """Replace a tuple with its `Storage`: "storage", kind, key, place, size and, in the legacy form, a view."""
        (value,) = self.take(1)
        if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
            raise Refused("it refers to an object outside the pickle that is not a storage")
        _, kind, key, place, size = value[:5]
        view = value[5] if len(value) == 6 else None
        known = isinstance(kind, _Name) and kind.dtype is not None
        if not known or not isinstance(key, str) or not isinstance(place, str) or not _is_sizes((size,)):
            raise Refused("it refers to a storage whose dtype, name or size is not valid")
        if view is not None:
            of_view = isinstance(view, tuple) and len(view) == 3 and isinstance(view[0], str) and _is_sizes(view[1:])
            if not of_view or view[1] + view[2] > size:
                raise Refused("it refers to a part of a storage that is outside of it")
            size, view = view[2], (key, view[1], size)
        self.stack.append(Storage(key, kind.dtype, size, view))


_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_VALUES = frozenset((*_NUMBERS, *_TEXTS))
_TEXTS_OF_PYTHON_2 = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))
_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))

_STEPS: dict[str, Callable[[_Reader, Any], Any]] = {
    "PROTO": lambda reader, value: None,
    "FRAME": lambda reader, value: None,
    "MEMOIZE": lambda reader, value: reader.memo.__setitem__(len(reader.memo), reader.stack[-1]),
    "NONE": lambda reader, value: reader.stack.append(None),
    "NEWTRUE": lambda reader, value: reader.stack.append(True),
    "NEWFALSE": lambda reader, value: reader.stack.append(False),
    "MARK": lambda reader, value: reader.stack.append(_Mark()),
    "EMPTY_TUPLE": lambda reader, value: reader.stack.append(()),
    "EMPTY_LIST": lambda reader, value: reader.stack.append([]),
    "EMPTY_DICT": lambda reader, value: reader.stack.append({}),
    "TUPLE": lambda reader, value: reader.stack.append(tuple(reader.since_mark())),
    "LIST": lambda reader, value: reader.stack.append(reader.since_mark()),
    "DICT": lambda reader, value: reader.stack.append(_put({}, reader.since_mark())),
    "TUPLE1": lambda reader, value: reader.tuple_of(1),
    "TUPLE2": lambda reader, value: reader.tuple_of(2),
    "TUPLE3": lambda reader, value: reader.tuple_of(3),
    "APPEND": lambda reader, value: reader.extend(reader.take(1)),
    "APPENDS": lambda reader, value: reader.extend(reader.since_mark()),
    "POP": lambda reader, value: reader.take(1),
    "SETITEM": lambda reader, value: _put(reader.stack[-3], reader.take(2)),
    "SETITEMS": lambda reader, value: reader.set_items(),
    "GLOBAL": lambda reader, value: reader.name(*value.split(" ", 1)),
    "STACK_GLOBAL": lambda reader, value: reader.name(*reader.take(2)),
    "REDUCE": lambda reader, value: reader.call(),
    "BUILD": lambda reader, value: reader.build(),
    "BINPERSID": lambda reader, value: reader.storage(),
}
