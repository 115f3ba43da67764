"""Print to the console: lines, tables, and progress bars with the time left.

All printing of the package goes through here. Texts are plain: markup such as [red] or [/] in a name is shown as it is,
and control characters are escaped, whoever wrote them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import Event, Lock, Thread
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from tfdistill.system.escapes import visible

console = Console(stderr=True)
clock = time.monotonic  # of progress, in seconds; tests replace it

Advance = Callable[..., None]
_LONGEST_WORD = 12  # of a text in a narrow table, before it is broken
_FIRST, _EVERY = 5.0, 30.0  # seconds before the first and between two plain lines
_LEAST_BAR, _LEAST_NAME = 10, 8  # characters
_PERIOD = 600.0  # seconds whose steps give the speed: some steps take half a minute


@contextmanager
def task(description: str, total: float | None) -> Iterator[Advance]:
    """Show progress during the block: one line that changes, or without a terminal a line every 30 seconds and at the end.

    Yields `advance(steps=1, note=None)`. `total` is the number of steps, or None if it is unknown. What `advance` receives
    first may be steps of an earlier process; they do not count for the speed.
    """
    live = console.is_terminal
    progress = Progress(
        _Line(), console=console, refresh_per_second=4, disable=not live, get_time=clock, speed_estimate_period=_PERIOD
    )
    with progress:
        number = progress.add_task(visible(description), total=total, note="")
        with nullcontext(_nothing) if live else _plain_lines(progress.tasks[0]) as tick:

            def advance(steps: float = 1, note: str | None = None) -> None:
                if note is not None:
                    progress.update(number, note=visible(note))
                progress.update(number, advance=steps)
                tick()

            yield advance


class _Line(ProgressColumn):
    """A whole line of progress, as wide as the terminal."""

    def render(self, task: Task) -> Text:
        return Text(progress_line(task, console.width), no_wrap=True)


@contextmanager
def _plain_lines(shown: Task) -> Iterator[Callable[[], None]]:
    """Print a line every 30 seconds, also while nothing advances, and one at the end. Yields what prints a line if due."""
    due, lock, over = [clock() + _FIRST], Lock(), Event()

    def tick() -> None:
        with lock:
            if clock() >= due[0] and not over.is_set():
                due[0] = clock() + _EVERY
                _print(console, progress_line(shown))

    def watch() -> None:
        while not over.wait(1.0):
            tick()

    Thread(target=watch, daemon=True).start()
    try:
        yield tick
    finally:
        over.set()
    _print(console, progress_line(shown))


def _nothing() -> None:
    pass


def progress_line(task: Task, width: int | None = None) -> str:
    """Return what a task has done, the time it took, the time left, and its note.

    Args:
        task: the task, with a field `note`.
        width: characters of a terminal: the description is shortened before anything else, and a bar fills the rest. None
            shortens nothing.
    """
    counts = _share(task)
    times = f"{_minutes(task.elapsed)} elapsed"
    if not task.finished and task.time_remaining is not None:
        times += f", {_minutes(task.time_remaining)} left"
    name, note = task.description, task.fields["note"]
    if width is None:
        return ", ".join(part for part in (f"{name}: {counts}" if counts else name, times, note) if part)
    times = times.replace(" elapsed", "").replace(", ", " ")
    rest = " ".join(part for part in (counts, times, note) if part)
    room = width - 1 - cell_len(rest)  # the last column stays free, as some terminals wrap there
    if cell_len(name) > room - 1:
        room = max(room - 1, _LEAST_NAME)
        name = name if cell_len(name) <= room else set_cell_size(name, room - 1) + "…"
    line = f"{name} {rest}"
    bar = width - 2 - cell_len(line)
    if bar >= _LEAST_BAR and task.total:
        done = min(bar, int(bar * task.completed / task.total))
        line += f" {'━' * done}{'·' * (bar - done)}"
    return set_cell_size(line, width - 1).rstrip() if cell_len(line) > width - 1 else line


def _share(task: Task) -> str:
    """Return how much of a task is done: "37 %", or the number of steps without a total; "" if that is unknown."""
    if task.total:
        return f"{min(100, int(100 * task.completed / task.total))} %"
    return f"{task.completed:,.0f}" if task.completed else ""


def _minutes(seconds: float | None) -> str:
    """Return a time as 0:07, 12:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def say(message: str) -> None:
    """Print one line on stderr, above the progress bars."""
    _print(console, visible(message))


def say_error(message: str) -> None:
    """Print the one line of an error on stderr."""
    _print(console, f"tfdistill: {visible(' '.join(message.split()))}")


def show(*lines: str, on: Console | None = None) -> None:
    """Print lines on stdout, or on another console."""
    for line in lines:
        _print(on or Console(), visible(line))


def show_prose(text: str, on: Console | None = None) -> None:
    """Print paragraphs on stdout or another console, wrapped to its width."""
    for line in text.split("\n"):
        (on or Console()).print(Text(visible(line)), highlight=False)


def show_table(table: Table, on: Console | None = None) -> None:
    """Print what `make_table` returns on stdout or another console."""
    (on or Console()).print(table, crop=False)  # a table that is too wide is not cut


def _print(target: Console, line: str) -> None:
    target.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)  # so that a path is not wrapped


def make_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    caption: str = "",
    left: Sequence[str] = (),
    light: bool = False,
    bold: int | None = None,
) -> Table:
    """Return a table for the terminal, made of plain texts.

    Args:
        headings: of the columns.
        rows: the cells of each row.
        title: above the table.
        caption: below the table.
        left: headings of columns of text, besides the first; the others hold numbers.
        light: draw only a line below the headings.
        bold: number of the row that is printed in bold.
    """
    look: dict[str, Any] = {"title": Text(visible(title)) if title else None}
    look |= {"caption": Text(visible(caption)) if caption else None}
    if light:
        look |= {"box": box.SIMPLE_HEAD, "title_justify": "left", "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(**look)
    cells = [[visible(cell) for cell in row] for row in rows]
    for place, heading in enumerate(map(visible, headings)):
        text, own = place == 0 or heading in left, [row[place] for row in cells]
        words = max((len(word) for word in heading.split()), default=0)
        if text:  # paths may be broken anywhere, numbers never are
            words = max([words, *(min(len(word), _LONGEST_WORD) for cell in own for word in cell.split())])
        else:
            words = max([words, *map(len, own)])
        justify: Any = "left" if text else "right"
        table.add_column(Text(heading), justify=justify, overflow="fold", min_width=words)
    for number, row in enumerate(cells):
        table.add_row(*map(Text, row), style="bold" if number == bold else None)
    return table


def readable(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, "TB"
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
