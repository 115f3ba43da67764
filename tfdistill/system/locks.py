"""Let one process at a time work in a place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tfdistill.errors import UserError, with_advice
from tfdistill.system.console import say
from tfdistill.system.files import CHOOSE_OUT, require_writable


def lock_beside(place: Path) -> Path:
    """Return the lock file of a file or directory that may not exist yet or is replaced as a whole."""
    return place.with_name(f".{place.name}.lock")


@contextmanager
def locked(lock: Path, activity: str, *, wait: bool = False, advice: str = CHOOSE_OUT) -> Iterator[None]:
    """Hold the lock file `lock` for the duration of the block. A process that dies releases it.

    Args:
        lock: `directory / LOCK`, or `lock_beside(place)`; its directory is made if it does not exist.
        activity: what another process that holds the lock does, such as "writes /cache/teacher/ab"; for the messages.
        wait: print one line and wait for the other process, instead of raising an error.
        advice: what else the user can do, for the messages.

    Raises:
        UserError: another process holds the lock and `wait` is false, or the lock file cannot be written.
    """
    require_writable(lock.parent, advice)
    file = FileLock(lock)
    try:
        try:
            file.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise UserError(f"another process {activity}. Wait until it is done, or {advice}.") from error
            say(f"another process {activity}; waiting until it is done")
            file.acquire()
    except OSError as error:
        raise UserError(with_advice(f"cannot write in {lock.parent}: {error.strerror}", advice)) from error
    try:
        yield
    finally:
        if not wait:
            lock.unlink(missing_ok=True)
        file.release()
