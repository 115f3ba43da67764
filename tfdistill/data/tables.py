"""One .tsv, .csv or .jsonl file, read and checked. Every complaint names the file and the line.

Columns: `text`, optional `text_b`, `label`; others are ignored. UTF-8, with or without a byte order mark.
TSV: one header line, plain tabs, no quoting: quotes are part of the text. CSV: RFC 4180 with a header. JSONL: one
object a line.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfdistill.data.textdata import listing, nearest
from tfdistill.errors import UserError

SUFFIXES = (".tsv", ".csv", ".jsonl")
_COLUMNS = ("text", "text_b", "label")
# A number written with a point or an exponent is no integer: 1.0 is a float.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Label(NamedTuple):
    """A label as written. kind: "name", "integer" or "float"."""

    text: str
    kind: str


@dataclass(frozen=True)
class Table:
    """The rows of one file. `lines[r]` is the line on which row r begins, counted from 1."""

    path: Path
    lines: list[int]
    texts: list[str]
    texts_b: list[str] | None
    labels: list[Label] | None

    def error(self, row: int, message: str) -> UserError:
        return _error(self.path, self.lines[row], message)


def read_table(path: Path, *, labels_needed: bool = True) -> Table:
    """Read one file. Without `labels_needed` the label column may be missing or wholly empty: labels are then None.

    Raises UserError for everything that is wrong with the file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} ends in '{path.suffix}'; expected .tsv, .csv or .jsonl: convert or rename it")
    content = _decoded(path)
    rows = list({".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}[suffix](path, content))
    lines: list[int] = []
    texts: list[str] = []
    texts_b: list[str | None] = []
    labels: list[Label | None] = []
    for line, row in rows:
        lines.append(line)
        texts.append(_text(path, line, "text", row))
        texts_b.append(None if row.get("text_b") is None else _text(path, line, "text_b", row))
        labels.append(_label(path, line, row.get("label")))
    if not lines:
        what = "no objects" if suffix == ".jsonl" else "a header and no rows"
        raise UserError(f"{path} has {what}; expected at least one example: add some or remove the file")
    if labels_needed and not any("label" in row for _, row in rows):
        found = list(rows[0][1])
        raise UserError(
            f"{path} has no column 'label'; found {listing(found)}{nearest('label', found)}: add it or name it so"
        )
    return Table(path, lines, texts, _pairs(path, lines, texts_b), _labels(path, lines, labels, labels_needed))


def _error(path: Path, line: int, message: str) -> UserError:
    return UserError(f"{path}, line {line}: {message}")


def _decoded(path: Path) -> str:
    """The file's text without its byte order mark; line ends as they are."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; expected a readable file, look at its permissions"
        ) from error
    start = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    if not content[start:].strip():
        raise UserError(f"{path} is empty; expected a header line and examples (JSONL: one object a line)")
    try:
        text = content[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = start + error.start
        raise _error(
            path,
            content.count(b"\n", 0, offset) + 1,
            f"byte {offset} (0x{content[offset]:02x}) is not UTF-8; expected UTF-8 text: save the file as UTF-8",
        ) from error
    if "\0" in text:
        offset = content.index(b"\0")
        raise _error(
            path, content.count(b"\n", 0, offset) + 1, f"byte {offset} is a NUL (0x00); expected text: remove it"
        )
    return text


def _lines(content: str) -> list[str]:
    """Lines without their ends (\\n or \\r\\n), less empty ones at the end of the file."""
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _check_header(path: Path, header: list[str]) -> None:
    if "text" not in header:
        raise _error(
            path,
            1,
            f"no column 'text'; found {listing(header) or 'none'}{nearest('text', header)}: "
            "name the columns text, text_b, label",
        )
    for name in _COLUMNS:
        if header.count(name) > 1:
            raise _error(
                path, 1, f"column '{name}' occurs {header.count(name)} times; expected once: rename the others"
            )


def _tsv(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = _lines(content)
    header = lines[0].split("\t")
    _check_header(path, header)
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise _error(
                path,
                number,
                f"got {len(cells)} cells; expected {len(header)}, as in the header "
                "(TSV has no quoting: replace tabs and line ends inside texts)",
            )
        yield number, dict(zip(header, cells, strict=True))


def _csv(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the module's own limit is 128 KiB a field
    try:
        reader = csv.reader(io.StringIO(content.rstrip("\r\n"), newline=""), strict=True)
        header: list[str] | None = None
        first = 1  # the line on which the present record begins
        try:
            for cells in reader:
                if header is None:
                    header = cells
                    _check_header(path, header)
                elif len(cells) != len(header):
                    raise _error(
                        path,
                        first,
                        f"got {len(cells)} cells; expected {len(header)}, as in the header "
                        "(quote texts that hold commas)",
                    )
                else:
                    yield first, dict(zip(header, cells, strict=True))
                first = reader.line_num + 1
        except csv.Error as error:
            raise _error(
                path,
                first,
                f"{error}; expected CSV with every quote inside a quoted cell doubled and every quote closed",
            ) from error
    finally:
        csv.field_size_limit(limit)


def _jsonl(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(content), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "the line is blank" if not line.strip() else f"not JSON ({error})"
            raise _error(path, number, f"{reason}; expected one JSON object a line") from error
        if not isinstance(row, dict):
            raise _error(
                path, number, f'got {_kind(row)}; expected a JSON object such as {{"text": "...", "label": "..."}}'
            )
        if "text" not in row:
            raise _error(
                path,
                number,
                f"no key 'text'; found {listing(row) or 'none'}{nearest('text', row)}: "
                "name the keys text, text_b, label",
            )
        yield number, row


def _kind(value: Any) -> str:
    names = {str: "a string", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _text(path: Path, line: int, column: str, row: dict[str, Any]) -> str:
    text = row[column]
    if not isinstance(text, str):
        raise _error(path, line, f"'{column}' is {_kind(text)}; expected a string")
    if not text.strip():
        raise _error(
            path,
            line,
            f"'{column}' is {'only white space' if text else 'empty'}; expected a text: fill it or remove the line",
        )
    if "\0" in text:
        raise _error(path, line, f"'{column}' has a NUL character; expected text: remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _error(
            path,
            line,
            f"'{column}' has half of a surrogate pair (\\u{ord(text[error.start]):04x}); expected valid Unicode",
        ) from error
    return text


def _label(path: Path, line: int, value: Any) -> Label | None:
    """The label of one row, or None where it is empty."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _error(path, line, "the label has half of a surrogate pair; expected valid Unicode") from error
        if "\0" in text or "\n" in text or "\r" in text:
            raise _error(path, line, "the label has a line end or NUL in it; expected a name on one line")
        if path.suffix.lower() == ".jsonl":
            return Label(text, "name") if text else None  # JSON says itself what is a string
        if _NOT_FINITE.fullmatch(text):
            raise _error(
                path, line, f"label '{text}' is not finite; expected a class name, a class number or a finite number"
            )
        if _INTEGER.fullmatch(text):
            return Label(text, "integer")
        if not _FLOAT.fullmatch(text):
            return Label(text, "name") if text else None
        value = float(text)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _error(path, line, f"the label is {_kind(value)}; expected a string or a number")
    else:
        text = repr(value)
    if not abs(value) <= _LARGEST:  # also true of NaN
        raise _error(
            path, line, f"label {text} is not finite; expected a class name, a class number or a finite number"
        )
    return Label(text, "integer" if isinstance(value, int) else "float")


def _pairs(path: Path, lines: list[int], texts_b: list[str | None]) -> list[str] | None:
    present = [text is not None for text in texts_b]
    if not any(present):
        return None
    if not all(present):
        row = present.index(False)
        raise _error(
            path,
            lines[row],
            f"no 'text_b', but line {lines[present.index(True)]} has one; expected it in every row or in none",
        )
    return [text for text in texts_b if text is not None]


def _labels(path: Path, lines: list[int], labels: list[Label | None], needed: bool) -> list[Label] | None:
    present = [label is not None for label in labels]
    if not any(present) and not needed:
        return None
    if not all(present):
        row = present.index(False)
        hint = "only a test file may go without labels, and then in every row"
        raise _error(path, lines[row], f"no label; expected a class name, a class number or a number: {hint}")
    return [label for label in labels if label is not None]
