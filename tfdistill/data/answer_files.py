"""Read files of a teacher's answers row by row, without keeping them. Each error names the file and the line.

JSONL has one object a line; CSV follows RFC 4180, and its cells of lists and objects are JSON; Parquet is read through pyarrow.
"""

from __future__ import annotations

import codecs
import csv
import json
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from tfdistill.data.delimited import csv_rows
from tfdistill.data.records import at_line, kind_of
from tfdistill.errors import UserError, listing, nearest, optional

KINDS = ("probs", "logits")
TEXTS = ("text", "text_b")
_EXAMPLE = '{"text": "...", "probs": [0.1, 0.9]}'

Cells = dict[str, Any]


def read_answers(path: Path) -> Iterator[tuple[int, Cells]]:
    """Yield the line of each answer, from 1 (of Parquet the row), and its cells by column, as JSON has them.

    An empty cell of CSV is missing.

    Raises:
        UserError: a file that cannot be read, another suffix, no column "text", none of "probs" and "logits", an object
            with a key twice, or no answers.
    """
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path} ends in '{path.suffix}'. Answers are read from {listing(_FORMATS)} files.")
    empty = True
    try:
        for line, cells in read(path):
            empty = False
            yield line, cells
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Look at its name and permissions.") from error
    if empty:
        raise UserError(f"{path} has no answers. Write one object or row for each text.")


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their ends, less the empty ones at its end."""
    blank: list[str] = []
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                with at_line(path, number):
                    raise ValueError(f"byte {error.start} of the line is not UTF-8. Save the file as UTF-8.") from error
            if not line or line.isspace():
                blank.append(line)
                continue
            if blank:
                yield from blank
                blank.clear()
            yield line


def _jsonl(path: Path) -> Iterator[tuple[int, Cells]]:
    expected = f"one JSON object a line such as {_EXAMPLE}"
    for number, line in enumerate(_lines(path), start=1):
        try:
            if line.isspace():
                raise ValueError("the line is blank. Remove it.")
            row = parsed(line, expected)
            if not isinstance(row, dict):
                raise ValueError(f"the line is {kind_of(row)}. Expected a JSON object such as {_EXAMPLE}")
            _check_names(row)
        except ValueError:
            with at_line(path, number):
                raise
        yield number, row


def _csv(path: Path) -> Iterator[tuple[int, Cells]]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        rows = csv_rows(path, _lines(path))
        _, header = next(rows, (1, []))
        with at_line(path, 1):
            if header:
                _check_names(header)
            for name in (*TEXTS, *KINDS):
                if header.count(name) > 1:
                    raise ValueError(f"the column '{name}' occurs {header.count(name)} times. Keep one of them.")
        places = [(name, header.index(name)) for name in (*TEXTS, *KINDS) if name in header]
        for line, row in rows:
            try:
                if len(row) != len(header):
                    raise ValueError(
                        f"the row has {len(row)} cells, the header {len(header)}. Quote cells that hold commas."
                    )
                cells: Cells = {name: row[place] for name, place in places if row[place] or name == "text"}
                for name in KINDS:
                    if name in cells:
                        cells[name] = parsed(cells[name], f"JSON in the column '{name}' such as [0.1, 0.9]")
            except ValueError:
                with at_line(path, line):
                    raise
            yield line, cells
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path) -> Iterator[tuple[int, Cells]]:
    parquet = optional("pyarrow.parquet", extra="parquet")
    try:
        with open(path, "rb") as file:
            table = parquet.ParquetFile(file)
            with at_line(path, 1):
                _check_names(table.schema_arrow.names)
            columns = [name for name in (*TEXTS, *KINDS) if name in table.schema_arrow.names]
            number = 0
            for batch in table.iter_batches(4096, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: _mapping(value) for name, value in row.items()}
    except sys.modules["pyarrow"].lib.ArrowException as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path} is not a complete Parquet file ({why}). Write it again.") from error


def _mapping(value: Any) -> Any:
    """Return a value of Parquet as JSON has it: pairs of a map as an object."""
    is_map = isinstance(value, list) and value and isinstance(value[0], tuple)
    return _once(value) if is_map else value


def parsed(text: str, expected: str) -> Any:
    """Parse JSON; raises ValueError if it is not JSON, or an object has a key twice."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError(f"too deeply nested. Expected {expected}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}). Expected {expected}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' occurs twice in an object. Keep one of them.")
    return row


# Each call of json.loads with a hook would make another one.
_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _check_names(names: Collection[str]) -> None:
    if "text" not in names:
        raise ValueError(f"no column 'text' among {listing(names) or 'none'}{nearest('text', names)}. Add it.")
    if "probs" not in names and "logits" not in names:
        raise ValueError(f"no column 'probs' or 'logits' among {listing(names)}{nearest('probs', names)}. Add one.")


_FORMATS: dict[str, Callable[[Path], Iterator[tuple[int, Cells]]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
