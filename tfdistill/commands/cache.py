"""Run `tfdistill cache`: list the cache folder, and remove teacher outputs from it. Imports no TensorFlow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tfdistill.cache.folder import ABOUT, TEACHER, cache_directory
from tfdistill.errors import UserError
from tfdistill.system.console import make_table, readable, show, show_table
from tfdistill.system.files import read_json
from tfdistill.system.locks import lock_beside, locked


@dataclass(frozen=True)
class Entry:
    """Describe a teacher cache, or another folder of the cache as a whole.

    Args:
        name: "teacher/KEY", "packages" and so on.
        path: the folder.
        size: bytes.
        days: since it was last used or written.
        about: what a teacher cache holds.
    """

    name: str
    path: Path
    size: int
    days: float
    about: str

    @property
    def is_teacher_cache(self) -> bool:
        """Tell whether it holds outputs of a teacher."""
        return self.path.parent.name == TEACHER


def entries(root: Path | None = None) -> list[Entry]:
    """Return everything in the cache folder, the largest first."""
    root = cache_directory() if root is None else root
    folders = [path for path in root.glob("*") if path.name != TEACHER]
    folders += (root / TEACHER).glob("*")
    return sorted((_entry(root, path) for path in folders if path.is_dir()), key=lambda entry: -entry.size)


def _entry(root: Path, path: Path) -> Entry:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    newest = max([file.st_mtime for file in files], default=path.stat().st_mtime)
    try:
        about = read_json(path / ABOUT, "")
        text = f"{about['rows']:,} rows: {'; '.join(about['features'])} ({about['dtype']}); {about['teacher']}"
    except (UserError, ValueError, KeyError, TypeError):
        text = ""
    days = (time.time() - newest) / 86400
    return Entry(path.relative_to(root).as_posix(), path, sum(file.st_size for file in files), days, text)


def cache(
    names: Annotated[list[str] | None, typer.Argument(help="names from the list (default: all teacher caches)")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="remove them")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the cache folder with sizes and ages, or remove teacher outputs.

    Example: `tfdistill cache`; `tfdistill cache --clear`; `tfdistill cache teacher/0123456789abcdef --clear`
    """
    shown = entries()
    if names or clear:
        known = {entry.name: entry for entry in shown}
        for name in names or ():
            if name not in known:
                choices = ", ".join(known) or "nothing, since it is empty"
                raise UserError(f"{name} is not in {cache_directory()}. Choose from {choices}")
        shown = [known[name] for name in names] if names else [entry for entry in shown if entry.is_teacher_cache]
    if clear:
        _clear(shown)
    elif as_json:
        rows = [
            {"name": e.name, "path": str(e.path), "bytes": e.size, "days": round(e.days, 3), "about": e.about}
            for e in shown
        ]
        print(json.dumps({"folder": str(cache_directory()), "entries": rows}))
    else:
        lines = [(entry.name, readable(entry.size), f"{entry.days:.1f}", entry.about) for entry in shown]
        headings = ("name", "size", "days", "content")
        show_table(make_table(headings, lines, title=str(cache_directory()), left=("content",)))


def _clear(chosen: Sequence[Entry]) -> None:
    """Remove entries, except those that another process writes. Runs that read a cache can still read their open files."""
    removed = []
    for entry in chosen:
        try:
            if entry.is_teacher_cache:
                with locked(lock_beside(entry.path), f"writes {entry.name}", advice="clear it later"):
                    shutil.rmtree(entry.path)
            else:
                shutil.rmtree(entry.path)
            removed.append(entry.size)
        except UserError as error:
            show(f"{entry.name} stays: {error}")
    show(f"removed {len(removed)} of {len(chosen)}, {readable(sum(removed))}")
