"""Read .tsv, .csv and .jsonl files as records. Each error names the file and the line.

TSV has one header line, plain tabs and no quoting: quotes are part of the text. CSV follows RFC 4180, with a header. JSONL has
one object a line. All are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, listing, nearest

COLUMNS = ("text", "text_b", "label")
EXTRA = re.compile(r"text_extra(?:_(?:([0-9]{1,4})|\w+))?")

Record = tuple[int, dict[str, Any]]  # the line on which it begins, from 1, and its cells by column


@contextmanager
def at_line(path: Path, line: int) -> Iterator[None]:
    """Turn a ValueError inside the block into a UserError that names the file and the line."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path}, line {line}: {error}") from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raises UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Look at its name and permissions.") from error


def decoded(path: Path, content: bytes) -> str:
    """Return the text of a file without its byte order mark; line ends stay.

    Raises:
        UserError: the file is empty, not UTF-8, or has a NUL.
    """
    start = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    if not content[start:].strip():
        raise UserError(f"{path} is empty; expected a header line and examples (JSONL: one object a line)")
    try:
        text, bad = content[start:].decode("utf-8"), content.find(b"\0")
    except UnicodeDecodeError as error:
        bad = start + error.start
    if bad >= 0:
        what = "is a NUL" if content[bad] == 0 else "is not UTF-8"
        with at_line(path, content.count(b"\n", 0, bad) + 1):
            raise ValueError(f"byte {bad} (0x{content[bad]:02x}) {what}; expected UTF-8 text. Save the file as UTF-8.")
    return text


def split_files(directory: Path, split_of: Callable[[Path], str | None]) -> dict[str, Path]:
    """Return the file of each split of a directory.

    Args:
        directory: where the files are.
        split_of: returns the split of a file, or None for other files.

    Raises:
        UserError: two files are for the same split.
    """
    files: dict[str, Path] = {}
    for file in sorted(directory.iterdir()):
        split = split_of(file) if file.is_file() else None
        if split in files:
            raise UserError(f"{directory} has {files[split].name} and {file.name} for the {split} split. Remove one.")
        if split is not None:
            files[split] = file
    return files


def names_in(directory: Path) -> str:
    """Return the names of the files in a directory, for messages."""
    return listing(sorted(file.name for file in directory.iterdir())) or "nothing"


def lines_of(content: str) -> list[str]:
    """Return lines without their ends (\\n or \\r\\n), less the empty ones at the end of the file."""
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_records(path: Path) -> list[Record]:
    """Return the records of a .tsv, .csv or .jsonl file; each has a column "text".

    Raises:
        UserError: another suffix, or anything that is wrong with the form of the file.
    """
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path} ends in '{path.suffix}'; expected .tsv, .csv or .jsonl. Convert or rename it.")
    return list(read(path, decoded(path, read_bytes(path))))


def _tsv(path: Path, content: str) -> Iterator[Record]:
    cells = ((number, line.split("\t")) for number, line in enumerate(lines_of(content), start=1))
    return _with_header(path, cells, "TSV has no quoting: replace tabs and line ends inside texts.")


def _csv(path: Path, content: str) -> Iterator[Record]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the module's own limit is 128 KiB a field
    try:
        yield from _with_header(path, _csv_cells(path, content), "Quote texts that hold commas.")
    finally:
        csv.field_size_limit(limit)


def _csv_cells(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content.rstrip("\r\n"), newline=""), strict=True)
    first = 1  # the line on which the present record begins
    try:
        for cells in reader:
            yield first, cells
            first = reader.line_num + 1
    except csv.Error as error:
        with at_line(path, first):
            raise ValueError(f"{error}. Double each quote inside a quoted cell and close every quote.") from error


def _with_header(path: Path, rows: Iterator[tuple[int, list[str]]], advice: str) -> Iterator[Record]:
    _, header = next(rows)
    with at_line(path, 1):
        if "text" not in header:
            raise ValueError(
                f"no column 'text'; found {listing(header) or 'none'}{nearest('text', header)}. "
                "Name the columns text, text_b, label."
            )
        for name in (*COLUMNS, *filter(EXTRA.fullmatch, dict.fromkeys(header))):
            if header.count(name) > 1:
                raise ValueError(f"column '{name}' occurs {header.count(name)} times; expected once")
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {line}: got {len(cells)} cells; expected {len(header)}, as in the header. {advice}"
            )
        yield line, dict(zip(header, cells, strict=True))


def _jsonl(path: Path, content: str) -> Iterator[Record]:
    for number, line in enumerate(lines_of(content), start=1):
        with at_line(path, number):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                why = f"not JSON ({error})" if line.strip() else "the line is blank"
                raise ValueError(f"{why}; expected one JSON object a line") from error
            if not isinstance(row, dict):
                raise ValueError(
                    f'got {kind_of(row)}; expected a JSON object such as {{"text": "...", "label": "..."}}'
                )
            if "text" not in row:
                raise ValueError(
                    f"no key 'text'; found {listing(row) or 'none'}{nearest('text', row)}. "
                    "Name the keys text, text_b, label."
                )
        yield number, row


def kind_of(value: Any) -> str:
    """Return the name of the JSON type of a value, for messages."""
    names = {str: "a string", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


_FORMATS: dict[str, Callable[[Path, str], Iterator[Record]]] = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
SUFFIXES = tuple(_FORMATS)
