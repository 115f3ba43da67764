"""Temporary files and directories that bear the process that makes them, and removing those of killed processes.

A name is `.NAME.tmp-MACHINE-PID-START-XXXX` next to what it will replace, or `tfdistill-WHAT.tmp-…` in the folder of
temporary files. Another machine's names stay: whether their process lives cannot be known here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# The pid, and when its process started, in seconds: numbers of processes are used again.
_NAME = re.compile(r"(?P<what>\..+|tfdistill-\w+)\.tmp-(?P<machine>[0-9a-f]{6})-(?P<pid>\d+)-(?P<start>\d+)-\w+")
REPLACED = ".old"  # ends `what` of a directory that holds what was replaced
_TOLERANCE = 10  # seconds by which the clock of the machine may be set while a process lives


@contextmanager
def temporary_directory(what: str) -> Iterator[Path]:
    """Make a directory in the folder of temporary files for the duration of the block."""
    place = new_directory(Path(tempfile.gettempdir()), f"tfdistill-{what}")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def new_directory(parent: Path, what: str) -> Path:
    """Make an empty directory in `parent` that bears this process."""
    return Path(tempfile.mkdtemp(dir=parent, prefix=_prefix(what)))


def new_file(parent: Path, what: str) -> Path:
    """Make an empty file in `parent` that bears this process."""
    handle, name = tempfile.mkstemp(dir=parent, prefix=_prefix(what))
    os.close(handle)
    return Path(name)


def hidden(path: Path) -> str:
    """Return the beginning of the name of a temporary file or directory next to `path`, which it will replace."""
    return "." + path.name.encode()[:180].decode(errors="ignore")  # a name has at most 255 bytes


def _prefix(what: str) -> str:
    return f"{what}.tmp-{_machine()}-{os.getpid()}-{_start_of(os.getpid())}-"


@cache
def _machine() -> str:
    """Return a short name of the machine, or of the container that numbers its own processes."""
    numbered = ""
    with suppress(OSError):
        numbered = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {numbered}".encode()).hexdigest()[:6]


def _start_of(pid: int) -> int | None:
    """Return when a process started; None if there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return 0


def is_leftover(name: str) -> bool:
    """Return whether a file or directory of this name was made by a process that is gone."""
    match = _NAME.fullmatch(name)
    if match is None or match["machine"] != _machine():
        return False
    start = _start_of(int(match["pid"]))
    return start is None or (start > 0 and abs(start - int(match["start"])) > _TOLERANCE)


@cache
def sweep_once(folder: Path) -> None:
    """Call `sweep` at the first use of a folder by this process."""
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder. A directory that was being replaced is put back if it is missing."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if ".tmp-" in entry.name]
    except OSError:
        return
    for name in filter(is_leftover, names):
        place, match = folder / name, _NAME.fullmatch(name)
        with suppress(OSError):
            if match is not None and match["what"].endswith(REPLACED) and place.is_dir():
                for former in place.iterdir():
                    if not (folder / former.name).exists():
                        os.replace(former, folder / former.name)
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
