"""Files of this machine, and of others that TensorFlow knows how to reach: names with "://", such as gs://…"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import tensorflow as tf

from tfdistill.errors import UserError

PART = ".part"  # ends the names of files that are being written
FAILURES = (OSError, tf.errors.OpError)  # of files of this machine, and of others


def join(*names: str) -> str:
    return "/".join(name.rstrip("/") for name in names)


def open_bytes(path: str) -> BinaryIO:
    if "://" not in path:
        return open(path, "rb")
    return io.BufferedReader(_Remote(path))


class _Remote(io.RawIOBase):
    def __init__(self, path: str):
        self._file = tf.io.gfile.GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._file.size()}[whence]
        self._file.seek(base + offset)
        return base + offset

    def tell(self) -> int:
        return int(self._file.tell())


def why(error: Exception) -> str:
    """What one of the `FAILURES` says, in a line."""
    said = getattr(error, "strerror", None) or getattr(error, "message", "") or str(error) or type(error).__name__
    return str(said).splitlines()[-1][:200]


def exists(path: str) -> bool:
    return bool(tf.io.gfile.exists(path))


def get(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return bytes(file.read())


def put(path: str, content: bytes) -> None:
    """Write a file, whole or not at all; what a killed process leaves is for `sweep`. Raises UserError where it cannot be written."""
    # Two processes may make the same part, if one was believed lost; on machines of their own they may have the same number.
    temporary = f"{path}.{hashlib.blake2b(content, digest_size=4).hexdigest()}.{os.getpid()}{PART}"
    try:
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content)
        if "://" not in path:  # after a power cut a name without its content would be taken for a finished part
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except FAILURES as error:
        raise UserError(f"cannot write {path}: {why(error)}; free some room, or choose another --out") from error


def sweep(directory: str) -> None:
    """Remove what processes were writing in a directory when they were killed. No other may write there."""
    for name in tf.io.gfile.listdir(directory):
        if name.endswith(PART):
            tf.io.gfile.remove(join(directory, name))


@contextmanager
def here(directory: str) -> Iterator[str]:
    """A directory of this machine with the files of another one."""
    if "://" not in directory:
        yield directory
        return
    with tempfile.TemporaryDirectory() as place:
        for name in tf.io.gfile.listdir(directory):
            tf.io.gfile.copy(join(directory, name), str(Path(place, name)))
        yield place
