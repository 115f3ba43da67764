"""`tfdistill cache`: what lies in the cache folder, how large and how old it is, and how to be rid of it. Needs no TensorFlow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table

from tfdistill.cache.folder import ABOUT, TEACHER, cache_directory
from tfdistill.errors import UserError
from tfdistill.system.console import readable

_LOCKED = "another process writes it"


@dataclass(frozen=True)
class Entry:
    """A teacher cache, or another folder of the cache as a whole.

    Args:
        name: "teacher/KEY", "packages" and so on.
        size: bytes.
        days: since it was last used or written.
        about: what it is, in words.
    """

    name: str
    path: Path
    size: int
    days: float
    about: str


def entries(root: Path | None = None) -> list[Entry]:
    """All that the cache folder holds, the largest first."""
    root = cache_directory() if root is None else root
    if not root.is_dir():
        return []
    paths = [path for path in root.iterdir() if path.is_dir() and path.name != TEACHER]
    caches = root / TEACHER
    paths += [path for path in caches.iterdir() if path.is_dir()] if caches.is_dir() else []
    return sorted((_entry(root, path) for path in paths), key=lambda entry: -entry.size)


def _entry(root: Path, path: Path) -> Entry:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    newest = max([file.st_mtime for file in files], default=path.stat().st_mtime)
    name = path.relative_to(root).as_posix()
    return Entry(name, path, sum(file.st_size for file in files), (time.time() - newest) / 86400, _about(path))


def _about(path: Path) -> str:
    try:
        said = json.loads((path / ABOUT).read_text("utf-8"))
        return f"{said['rows']:,} rows: {'; '.join(said['features'])} ({said['dtype']}); {said['teacher']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def remove(entry: Entry) -> str:
    """Remove it; "" or why not. Runs that read a teacher cache at this moment go on reading it."""
    if entry.path.parent.name != TEACHER:
        shutil.rmtree(entry.path)
        return ""
    lock = entry.path.parent / f".{entry.path.name}.lock"
    try:
        with FileLock(lock, timeout=0):
            shutil.rmtree(entry.path)
            lock.unlink(missing_ok=True)
    except Timeout:
        return _LOCKED
    return ""


def cache(
    names: Annotated[list[str] | None, typer.Argument(help="of the list; by default all teacher caches")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="remove them")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the cache folder with sizes and ages, or remove what teachers said.

    Example: `tfdistill cache`; `tfdistill cache --clear`; `tfdistill cache teacher/0123456789abcdef --clear`
    """
    found = entries()
    if names or clear:
        chosen = _chosen(found, names)
    if clear:
        _clear(chosen)
        return
    _show(chosen if names else found, as_json)


def _chosen(found: Sequence[Entry], names: Sequence[str] | None) -> list[Entry]:
    if not names:
        return [entry for entry in found if entry.path.parent.name == TEACHER]
    known = {entry.name: entry for entry in found}
    for name in names:
        if name not in known:
            raise UserError(
                f"{name} is not in {cache_directory()}; expected {', '.join(known) or 'nothing: it is empty'}"
            )
    return [known[name] for name in names]


def _clear(chosen: Sequence[Entry]) -> None:
    console, freed, count = Console(highlight=False), 0, 0
    for entry in chosen:
        why = remove(entry)
        if why:
            console.print(f"{entry.name} stays: {why}")
        else:
            freed, count = freed + entry.size, count + 1
    console.print(f"removed {count} of {len(chosen)}, {readable(freed)}")


def _show(shown: Sequence[Entry], as_json: bool) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [
            {"name": e.name, "path": str(e.path), "bytes": e.size, "days": round(e.days, 3), "about": e.about}
            for e in shown
        ]
        print(json.dumps({"folder": str(cache_directory()), "entries": rows}))
        return
    table = Table(title=str(cache_directory()))
    for column in ("name", "size", "days", "what"):
        table.add_column(column, justify="right" if column in ("size", "days") else "left")
    for entry in shown:
        table.add_row(entry.name, readable(entry.size), f"{entry.days:.1f}", entry.about)
    Console().print(table)
