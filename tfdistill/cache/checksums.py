"""Checksums of files that are read for hours: compared once, and again when a file is another one.

What was compared is noted in the cache folder by size and time of change, so that this works for directories that can only be read,
and the next opening of an unchanged corpus costs nothing. A bit that turns on the disk afterwards is found by `tfdistill corpus` with
the same arguments, which compares all again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tfdistill.cache.folder import cache_directory, cache_folder
from tfdistill.errors import UserError
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write, sha256

FOLDER = "checked"
_WITH_BAR = 1 << 28  # bytes; fewer are read within a second or two

Seen = list[int | str]  # bytes, time of change in ns, SHA-256


def damage(directory: Path, sums: Mapping[str, str], *, again: bool = False) -> str:
    """What is wrong with the first file that is missing or is not the one that was written, such as "train.ids is damaged"; "" if
    nothing is.

    Args:
        sums: SHA-256 by file name, relative to `directory`.
        again: also of files that were compared before and have not changed since.

    Raises:
        UserError: a file is there and cannot be read.
    """
    memory = cache_directory() / FOLDER / f"{hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:16]}.json"
    known = {} if again else _known(memory)
    found: dict[str, Seen] = {}
    for name, wanted in sums.items():
        try:
            status = (directory / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            raise _unreadable(directory / name, error) from error
        found[name] = [status.st_size, status.st_mtime_ns, wanted]
    left = [name for name in found if found[name] != known.get(name)]
    size = sum(int(found[name][0]) for name in left)
    wrong = _first_wrong(directory, {name: sums[name] for name in left}, size)
    if left and not wrong:
        with suppress(UserError):  # without a place to note it all is compared the next time
            atomic_write(cache_folder(FOLDER) / memory.name, json.dumps(found))
    return wrong


def _first_wrong(directory: Path, sums: Mapping[str, str], size: int) -> str:
    if size < _WITH_BAR:
        return next((f"{name} is damaged" for name in sums if _differs(directory / name, sums[name])), "")
    with task(f"checking {directory}", size) as advance:
        for name, wanted in sums.items():
            if _differs(directory / name, wanted):
                return f"{name} is damaged"
            advance((directory / name).stat().st_size)
    return ""


def _differs(path: Path, wanted: str) -> bool:
    try:
        return sha256(path) != wanted
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    why = error.strerror or error
    return UserError(
        f"cannot read {path}: {why}; expected a file that can be read, run the same command again when it can"
    )


def _known(memory: Path) -> dict[str, Seen]:
    try:
        return dict(json.loads(memory.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
