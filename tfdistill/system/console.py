"""Progress with the time left, on everything long."""

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
    """A progress bar. Yields `advance(steps=1, note="")`; where there is no terminal, one line when it is done."""
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
    """One line beside the bars."""
    console.print(message, highlight=False, soft_wrap=True)  # a path stays in one piece


def readable(size: float) -> str:
    """Bytes with their unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, "TB"
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
