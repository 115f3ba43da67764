"""Split .tsv and .csv files into cells.

TSV has plain tabs and no quoting: quotes are part of the text. CSV follows RFC 4180. Both have a header line. A TSV file that
was clearly written by a CSV writer, and CSV with semicolons or tabs, are read as such; a line on the console says so.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tfdistill.errors import UserError, short
from tfdistill.system.console import say

Line = tuple[int, list[str]]  # the line on which a record begins, from 1, and its cells

_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
# A whole cell in quotes, with each quote in it doubled.
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')


@contextmanager
def at_line(path: Path, line: int) -> Iterator[None]:
    """Turn a ValueError inside the block into a UserError that names the file and the line."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {error}") from error


def lines_of(content: str) -> list[str]:
    """Return lines without their ends (\\n, \\r\\n, or \\r in a file without \\n), less the empty ones at the end of the file."""
    if "\n" not in content:
        content = content.replace("\r", "\n")  # as old Mac programs end lines
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def tsv_lines(path: Path, content: str) -> list[Line]:
    """Return the cells of a .tsv file by line, the header first.

    Raises:
        UserError: a quote is not closed, in a file whose cells are in quotes.
    """
    lines = [(number, line.split("\t")) for number, line in enumerate(lines_of(content), start=1)]
    if '"' in content:
        quoted = _in_quotes(path, content, lines)
        if quoted is not None:
            say(f"{path}: the cells are in quotes, as CSV writers make them, and are read without them")
            return quoted
        kept = sum(cell[:1] == '"' for _, cells in lines for cell in cells)
        if kept:
            say(f"{path}: {kept} cells begin with a quote, which stays in the text, because TSV has no quoting")
    say_returns(path, lines)
    return lines


def say_returns(path: Path, lines: list[Line]) -> None:
    """Say how many cells have a carriage return in them that does not end a line."""
    inner = sum("\r" in cell for _, cells in lines for cell in cells)
    if inner:
        say(f"{path}: {inner} cells have a lone carriage return in them, which is read as part of the text")


def _in_quotes(path: Path, content: str, lines: list[Line]) -> list[Line] | None:
    """Return the cells of a .tsv file as a CSV reader gives them, or None if its quotes are part of the text."""
    marked = [cell for _, cells in lines for cell in cells if '"' in cell]
    whole = all(_QUOTED.fullmatch(cell) for cell in marked)
    sizes = {len(cells) for _, cells in lines}
    if not ((whole and any('""' in cell[1:-1] for cell in marked)) or '"text"' in lines[0][1] or len(sizes) > 1):
        return None
    try:
        quoted = list(_parsed(path, content, "\t"))
    except UserError:
        if '"text"' in lines[0][1]:
            raise
        return None
    return quoted if len({len(cells) for _, cells in quoted}) == 1 else None


def csv_lines(path: Path, content: str) -> Iterator[Line]:
    """Yield the cells of a .csv file by record, the header first.

    Raises:
        UserError: a quote is not closed.
    """
    header = re.split(r"[\r\n]", content, maxsplit=1)[0]
    separator = separator_of(header)
    if separator not in (None, ",", ";", "\t"):
        separator = ","
    if separator not in (None, ","):
        say(f"{path}: the cells are separated by {_SEPARATORS[separator]}, and are read so")
    return _parsed(path, content, separator or ",")


def separator_of(header: str) -> str | None:
    """Return the separator that gives a header line a cell "text"; None if there is none."""
    for separator in (",", ";", "\t", "|"):
        if "text" in [cell.strip().strip('"') for cell in header.split(separator)]:
            return separator
    return None


def hint(suffix: str, header: list[str]) -> str:
    """Return what to do about a header without a cell "text" that looks as if it had another separator, or ""."""
    if len(header) != 1 or (separator := separator_of(header[0])) is None or header == ["text"]:
        return ""
    other = ".tsv" if separator == "\t" else ".csv"
    advice = f"Rename it to {other}." if separator != "|" and suffix != other else "Separate them by commas."
    return f"The cells are separated by {_SEPARATORS[separator]}. {advice}"


def _parsed(path: Path, content: str, separator: str) -> Iterator[Line]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the module's own limit is 128 KiB a field
    try:
        yield from csv_rows(path, io.StringIO(content.rstrip("\r\n"), newline=""), separator)
    finally:
        csv.field_size_limit(limit)


def csv_rows(path: Path, lines: Iterable[str], separator: str = ",") -> Iterator[Line]:
    """Yield the number of the first line and the cells of each record.

    Raises:
        UserError: quotes that do not fit, with the line on which the record begins.
    """
    reader = csv.reader(lines, delimiter=separator, strict=True)
    first = 1  # the line on which the present record begins
    try:
        for cells in reader:
            yield first, cells
            first = reader.line_num + 1
    except csv.Error as error:
        with at_line(path, first):
            raise ValueError(
                f"{short(error, 200)}. Double each quote inside a quoted cell and close every quote."
            ) from error
