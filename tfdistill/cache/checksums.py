"""Compare the checksums of large files once, and again if a file has changed.

Files that were compared are noted in the cache folder by size and time of change, so that read-only directories work, and opening
an unchanged corpus again costs nothing. To find a bit that flips on the disk later, run `tfdistill corpus` with the same arguments,
which compares all files again.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tfdistill.cache.folder import cache_directory, cache_folder
from tfdistill.errors import UserError
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write, read_json, sha256

FOLDER = "checked"
_WITH_BAR = 1 << 28  # bytes; fewer are read within a second or two

Seen = list[int | str]  # bytes, time of change in ns, SHA-256


def damage(
    directory: Path,
    sums: Mapping[str, str],
    *,
    again: bool = False,
    inspect: Callable[[Path], str] | None = None,
) -> str:
    """Return what is wrong with the first missing or damaged file, such as "train.ids is damaged", or "".

    Args:
        directory: where the files are.
        sums: SHA-256 by file name, relative to `directory`.
        again: compare files too that were compared before and have not changed since.
        inspect: returns what is wrong with the content of a file whose checksum is right, or "".

    Raises:
        UserError: a file exists and cannot be read.
    """
    memory = cache_directory() / FOLDER / f"{hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:16]}.json"
    known = {} if again else _known(memory)
    seen: dict[str, Seen] = {}
    for name, expected in sums.items():
        try:
            status = (directory / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            raise _unreadable(directory / name, error) from error
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is not a regular file"
        seen[name] = [status.st_size, status.st_mtime_ns, expected]
    left = [name for name in seen if seen[name] != known.get(name)]
    size = sum(int(seen[name][0]) for name in left)
    wrong = _first_wrong(directory, {name: sums[name] for name in left}, size)
    if inspect is not None and not wrong:
        wrong = next((f"{name} {why}" for name in left if (why := inspect(directory / name))), "")
    if left and not wrong:
        with suppress(UserError):  # if it cannot be noted, all files are compared the next time
            atomic_write(cache_folder(FOLDER) / memory.name, json.dumps(seen))
    return wrong


def _first_wrong(directory: Path, sums: Mapping[str, str], size: int) -> str:
    if size < _WITH_BAR:
        return next((f"{name} is damaged" for name in sums if _differs(directory / name, sums[name])), "")
    with task(f"checking {directory}", size) as advance:
        for name, expected in sums.items():
            if _differs(directory / name, expected):
                return f"{name} is damaged"
            advance((directory / name).stat().st_size)
    return ""


def _differs(path: Path, expected: str) -> bool:
    try:
        return sha256(path) != expected
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {error.strerror or error}. Run the same command again when it can be read.")


def _known(memory: Path) -> dict[str, Seen]:
    try:
        return read_json(memory, "")
    except UserError:
        return {}
