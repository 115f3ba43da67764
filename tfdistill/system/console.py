"""Print to the console: lines, progress bars with the time left, and sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True)

Advance = Callable[..., None]


@contextmanager
def task(description: str, total: float | None) -> Iterator[Advance]:
    """Show a progress bar during the block; without a terminal, one line at the end.

    Yields `advance(steps=1, note=None)`. `total` is the number of steps, or None if it is unknown.
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), TaskProgressColumn(), TimeElapsedColumn()]
    if console.is_terminal:
        columns += [TextColumn("left"), TimeRemainingColumn(), BarColumn(bar_width=16)]
    columns.append(TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        number = progress.add_task(description, total=total, note="")

        def advance(steps: float = 1, note: str | None = None) -> None:
            if note is not None:
                progress.update(number, note=note)
            progress.update(number, advance=steps)

        yield advance


def say(message: str) -> None:
    """Print one line above the progress bars."""
    console.print(message, highlight=False, soft_wrap=True)  # so that a path is not wrapped


def readable(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, "TB"
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
