"""Read and write files of this machine and remote ones, whose names have "://", such as gs://…"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tfdistill.errors import UserError
from tfdistill.system.lazy import tf
from tfdistill.system.leftovers import temporary_directory

PART = ".part"  # suffix of files that are being written


def failures() -> tuple[type[Exception], ...]:
    """Return the errors of local and of remote files; without TensorFlow there are no remote ones."""
    return (OSError, tf.errors.OpError) if "tensorflow" in sys.modules else (OSError,)


def join(*names: str) -> str:
    """Join names of directories and files with "/"."""
    return "/".join(name.rstrip("/") for name in names)


def open_bytes(path: str) -> BinaryIO:
    """Open a file for reading."""
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
    """Return the message of one of the `failures`, in one line."""
    own = (
        error.strerror if isinstance(error, OSError) else error.message if isinstance(error, tf.errors.OpError) else ""
    )
    return str(own or str(error) or type(error).__name__).splitlines()[-1][:200]


def exists(path: str) -> bool:
    """Return whether a file or directory exists."""
    return bool(tf.io.gfile.exists(path))


def get(path: str) -> bytes:
    """Return the content of a file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return bytes(file.read())


def put(path: str, content: bytes) -> None:
    """Write a file as a whole or not at all. Raises UserError if it cannot be written.

    `sweep` removes what a killed process leaves.
    """
    # Two processes may make the same part if one was believed lost; on two machines their numbers may be equal.
    temporary = f"{path}.{hashlib.blake2b(content, digest_size=4).hexdigest()}.{os.getpid()}{PART}"
    try:
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content)
        if "://" not in path:  # After a power cut, a name without content would look like a finished part.
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except failures() as error:
        raise UserError(f"cannot write {path}: {why(error)}. Free some room, or choose another `--out`.") from error


def sweep(directory: str) -> None:
    """Remove the files that killed processes were writing; no other process may write there."""
    for name in tf.io.gfile.listdir(directory):
        if name.endswith(PART):
            tf.io.gfile.remove(join(directory, name))


@contextmanager
def here(directory: str) -> Iterator[str]:
    """Yield a local directory with the files of `directory`, which may be remote."""
    if "://" not in directory:
        yield directory
        return
    with temporary_directory("corpus") as place:
        for name in tf.io.gfile.listdir(directory):
            tf.io.gfile.copy(join(directory, name), str(Path(place, name)))
        yield str(place)
