"""Find the cache folder, and let one process at a time make an entry of it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from platformdirs import user_cache_dir

from tfdistill.errors import UserError, with_advice
from tfdistill.system.locks import lock_beside, locked

TEACHER = "teacher"  # the folder of `tfdistill.training.teacher_cache`
ABOUT = "about.json"  # describes one teacher cache
ADVICE = "set TFDISTILL_CACHE to another folder"


def cache_directory() -> Path:
    """Return the cache folder, which need not exist yet."""
    return Path(os.environ.get("TFDISTILL_CACHE") or user_cache_dir("tfdistill")).expanduser().absolute()


def cache_folder(name: str) -> Path:
    """Return the folder `name` in the cache, made if it does not exist.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = cache_directory() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(with_advice(f"cannot create the cache folder {folder}: {error.strerror}", ADVICE)) from error
    return folder


def cache_lock(place: Path, activity: str | None = None) -> AbstractContextManager[None]:
    """Return a lock for making the cache entry `place`; it waits for another process, which may have made it then.

    Args:
        place: path of the entry, which need not exist.
        activity: what the other process does, for the line that is printed before waiting; "writes `place`" by default.

    Raises:
        UserError: nothing can be written next to `place`.
    """
    return locked(lock_beside(place), activity or f"writes {place}", wait=True, advice=ADVICE)
