"""Print to the console: lines, tables, and progress bars with the time left.

All printing of the package goes through here. Texts are plain: markup such as [red] or [/] in a name is shown as it is,
and control characters are escaped, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
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
from rich.table import Table
from rich.text import Text

from tfdistill.system.escapes import visible

console = Console(stderr=True)

Advance = Callable[..., None]
_LONGEST_WORD = 12  # of a text in a narrow table, before it is broken


@contextmanager
def task(description: str, total: float | None) -> Iterator[Advance]:
    """Show a progress bar during the block; without a terminal, one line at the end.

    Yields `advance(steps=1, note=None)`. `total` is the number of steps, or None if it is unknown.
    """
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    ]
    if console.is_terminal:
        columns += [TextColumn("left"), TimeRemainingColumn(), BarColumn(bar_width=16)]
    columns.append(TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        number = progress.add_task(visible(description), total=total, note="")

        def advance(steps: float = 1, note: str | None = None) -> None:
            if note is not None:
                progress.update(number, note=visible(note))
            progress.update(number, advance=steps)

        yield advance


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
