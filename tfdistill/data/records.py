"""Read .tsv, .csv and .jsonl files as records. Each error names the file and the line.

TSV and CSV have a header (see `delimited`). JSONL has one object a line. All are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from tfdistill.data.columns import COLUMNS, Columns, missing, renamed
from tfdistill.data.delimited import at_line, csv_lines, hint, lines_of, tsv_lines
from tfdistill.errors import UserError, listing, short

EXTRA = re.compile(r"text_extra(?:_(?:([0-9]{1,4})|\w+))?")

Record = tuple[int, dict[str, Any]]  # the line on which it begins, from 1, and its cells by column


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
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"{path}, line 1: byte 0 (0x{content[0]:02x}) begins UTF-16; expected UTF-8. Save the file as UTF-8."
        )
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
        UserError: two files are for the same split, or something of that name is not a regular file.
    """
    files: dict[str, Path] = {}
    for file in sorted(directory.iterdir()):
        split = None if file.is_dir() and not file.suffix else split_of(file)
        if split is not None and not file.is_file():
            raise UserError(f"{file} is not a regular file. Replace it by one, or give it another name.")
        if split in files:
            raise UserError(f"{directory} has {files[split].name} and {file.name} for the {split} split. Remove one.")
        if split is not None:
            files[split] = file
    return files


def names_in(directory: Path) -> str:
    """Return the names of the files in a directory, for messages."""
    return listing(sorted(file.name for file in directory.iterdir())) or "nothing"


def read_records(path: Path, columns: Columns | None = None) -> list[Record]:
    """Return the records of a .tsv, .csv or .jsonl file; each has a column "text".

    Args:
        path: the file.
        columns: the names of its columns for text, text_b and label, if they are others.

    Raises:
        UserError: another suffix, or anything that is wrong with the form of the file.
    """
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path} ends in '{short(path.suffix)}'; expected .tsv, .csv or .jsonl. Convert or rename it.")
    return list(read(path, decoded(path, read_bytes(path)), columns or {}))


def _tsv(path: Path, content: str, columns: Columns) -> Iterator[Record]:
    advice = "TSV has no quoting: replace tabs and line ends inside texts."
    return _with_header(path, tsv_lines(path, content), columns, advice)


def _csv(path: Path, content: str, columns: Columns) -> Iterator[Record]:
    return _with_header(path, csv_lines(path, content), columns, "Quote texts that hold the separator.")


def _with_header(path: Path, rows: Iterable[tuple[int, list[str]]], columns: Columns, advice: str) -> Iterator[Record]:
    rows = iter(rows)
    _, header = next(rows)
    with at_line(path, 1):
        header = [name.strip() for name in header]
        if columns.get("text", "text") not in header:
            first = [dict(zip(header, cells, strict=False)) for _, cells in _first(rows)]
            raise ValueError(missing("text", columns, header, first, hint(path.suffix.lower(), header)))
        for name in (*COLUMNS, *columns.values(), *filter(EXTRA.fullmatch, dict.fromkeys(header))):
            if header.count(name) > 1 and (name not in columns or name in columns.values()):
                raise ValueError(f"column '{short(name)}' occurs {header.count(name)} times; expected once")
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {line}: got {len(cells)} cells; expected {len(header)}, as in the header. {advice}"
            )
        yield line, renamed(dict(zip(header, cells, strict=True)), columns)


def _first(rows: Iterator[Any], count: int = 200) -> list[Any]:
    """Return the first rows, up to one that is damaged."""
    first: list[Any] = []
    with suppress(UserError, ValueError):
        first.extend(islice(rows, count))
    return first


def _jsonl(path: Path, content: str, columns: Columns) -> Iterator[Record]:
    lines = lines_of(content)
    for number, line in enumerate(lines, start=1):
        with at_line(path, number):
            row = _object(line)
            if columns.get("text", "text") not in row:
                others = _first(_object(other) for other in lines[number:])
                raise ValueError(missing("text", columns, row, [row, *others]))
        yield number, renamed(row, columns)


def _object(line: str) -> dict[str, Any]:
    """Return the JSON object of a line; raises ValueError."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"not JSON ({short(error, 200)})" if line.strip() else "the line is blank"
        raise ValueError(f"{why}; expected one JSON object a line") from error
    if not isinstance(row, dict):
        raise ValueError(f'got {kind_of(row)}; expected a JSON object such as {{"text": "...", "label": "..."}}')
    return row


def kind_of(value: Any) -> str:
    """Return the name of the JSON type of a value, for messages."""
    names = {str: "a string", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


_FORMATS: dict[str, Callable[[Path, str, Columns], Iterator[Record]]] = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
SUFFIXES = tuple(_FORMATS)
