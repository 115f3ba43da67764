"""Locks between processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tfdistill.errors import UserError
from tfdistill.system.files import require_writable

LOCK = ".lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a run directory, which is made if need be. The lock goes with the process that held it.

    Raises UserError when another process has it, or the directory cannot be written.
    """
    require_writable(directory)
    lock = FileLock(directory / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another process trains into {directory}; wait until it ends, or choose another --out"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write in {directory}: {error.strerror}; expected a writable directory, choose another --out"
        ) from error
    try:
        yield
    finally:
        (directory / LOCK).unlink(missing_ok=True)
        lock.release()
