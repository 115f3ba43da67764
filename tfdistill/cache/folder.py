"""The cache folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from tfdistill.errors import UserError

TEACHER = "teacher"  # the folder of `tfdistill.training.teacher_cache`


ABOUT = "about.json"  # what one of its caches says of itself


def cache_directory() -> Path:
    """The cache folder, which need not exist yet."""
    return Path(os.environ.get("TFDISTILL_CACHE") or user_cache_dir("tfdistill")).expanduser().absolute()


def cache_folder(name: str) -> Path:
    """The folder `name` in the cache, made when missing. Raises UserError when that is not possible."""
    folder = cache_directory() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the cache folder {folder}: {error.strerror}; expected a writable place, "
            "set TFDISTILL_CACHE to another folder"
        ) from error
    return folder


@contextmanager
def alone(place: Path, waiting: Callable[[], Any]) -> Iterator[None]:
    """Keep other processes from making what is made at `place` in the cache; if one does, `waiting` is called and it is waited for.
    What was missing before may be there then.

    Raises UserError where nothing can be written beside it.
    """
    lock = FileLock(place.parent / f".{place.name}.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot write in {place.parent}: {error.strerror}; set TFDISTILL_CACHE to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
