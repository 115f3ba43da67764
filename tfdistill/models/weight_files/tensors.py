"""Define `Tensors`, what a file of weights holds: names and shapes at once, numbers when they are needed."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Stored:
    """Describe one tensor of a file.

    Attributes:
        shape: the shape of the array that `read` returns.
        dtype: its dtype; bfloat16 is that of `ml_dtypes`.
        read: returns the array, which may be a read-only view of the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class Tensors(Mapping[str, np.ndarray]):
    """Hold the tensors of a file by name. `tensors[name]` reads one from the file.

    Args:
        path: the file, for messages.
        stored: the tensors by name.

    Example:
        tensors = open_weights(directory)
        if "classifier.weight" in tensors and tensors.shape("classifier.weight")[0] == 3:
            kernel = tensors["classifier.weight"]
    """

    def __init__(self, path: Path, stored: Mapping[str, Stored]):
        self.path, self._stored = path, stored

    def __getitem__(self, name: str) -> np.ndarray:
        return self._stored[name].read()

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the tensor
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._stored[name].shape

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of a tensor without reading it."""
        return self._stored[name].dtype

    def stored(self, name: str) -> Stored:
        """Return the description of a tensor, for a `Tensors` that is made of others."""
        return self._stored[name]


def view(
    content: mmap.mmap, start: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return a read-only array over the bytes of a file, from byte `start`; strides are in bytes."""
    return np.ndarray(shape, dtype, content, start, strides)
