"""One .tsv, .csv or .jsonl file, read and checked. Every complaint names the file and the line.

Columns: `text`, optional `text_b`, `label`, `text_extra`, `text_extra_2`, `text_extra_NAME`; others are ignored. UTF-8, with or
without a byte order mark.
TSV: one header line, plain tabs, no quoting: quotes are part of the text. CSV: RFC 4180 with a header. JSONL: one
object a line. Plain text (`read_plain`): one text a line, no header.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tfdistill.errors import UserError, listing, nearest

SUFFIXES = (".tsv", ".csv", ".jsonl")
PLAIN_SUFFIXES = (".txt", ".txt.gz")
Labels = Literal["needed", "optional", "separate", "ignored"]  # what read_table does with the labels of a file
_COLUMNS = ("text", "text_b", "label")
_EXTRA = re.compile(r"text_extra(?:_(?:([0-9]{1,4})|\w+))?")
# A number written with a point or an exponent is no integer: 1.0 is a float.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Label(NamedTuple):
    """A label as written. kind: "name", "integer", "float", or "set", which is a list of class names.

    names: those of a set; also of a name with "|" in it, which may be a set or a name.
    """

    text: str
    kind: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of one file. `lines[r]` is the line on which row r begins, counted from 1.

    extra: the columns text_extra… by name, in their order. unlabelled: the rows without a label, where they were asked for.
    """

    path: Path
    lines: list[int]
    texts: list[str]
    texts_b: list[str] | None
    labels: list[Label] | None
    extra: dict[str, list[str]] = field(default_factory=dict)
    unlabelled: Table | None = None

    def error(self, row: int, message: str) -> UserError:
        return _error(self.path, self.lines[row], message)


def read_table(path: Path, *, labels: Labels = "needed") -> Table:
    """Read one file.

    labels: "needed" in every row; "optional", so that the column may be missing or wholly empty (labels are then None);
        "separate", where rows without one make a table of their own, `unlabelled`; "ignored", always None.

    Raises UserError for everything that is wrong with the file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} ends in '{path.suffix}'; expected .tsv, .csv or .jsonl: convert or rename it")
    content = decoded(path, _bytes(path))
    rows = list({".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}[suffix](path, content))
    lines: list[int] = []
    texts: list[str] = []
    texts_b: list[str | None] = []
    found: list[Label | None] = []
    for line, row in rows:
        lines.append(line)
        texts.append(_text(path, line, "text", row))
        texts_b.append(None if row.get("text_b") is None else _text(path, line, "text_b", row))
        found.append(None if labels == "ignored" else _label(path, line, row.get("label")))
    if not lines:
        what = "no objects" if suffix == ".jsonl" else "a header and no rows"
        raise UserError(f"{path} has {what}; expected at least one example: add some or remove the file")
    if labels in ("needed", "separate") and not any("label" in row for _, row in rows):
        there = list(rows[0][1])
        raise UserError(
            f"{path} has no column 'label'; found {listing(there)}{nearest('label', there)}: add it or name it so"
        )
    pairs, extra = _pairs(path, lines, texts_b), _extra(path, rows)
    if labels == "separate" and any(label is None for label in found) and any(label is not None for label in found):
        parts = []
        for has_label in (True, False):
            chosen = [row for row, label in enumerate(found) if (label is not None) == has_label]
            parts.append(
                Table(
                    path,
                    [lines[row] for row in chosen],
                    [texts[row] for row in chosen],
                    None if pairs is None else [pairs[row] for row in chosen],
                    [label for label in found if label is not None] if has_label else None,
                    {name: [column[row] for row in chosen] for name, column in extra.items()},
                )
            )
        return replace(parts[0], unlabelled=parts[1])
    return Table(path, lines, texts, pairs, _labels(path, lines, found, labels in ("needed", "separate")), extra)


def read_plain(path: Path) -> Table:
    """A .txt or .txt.gz file with one text a line; blank lines are left out.

    Raises UserError for a file that is empty, damaged or no UTF-8.
    """
    content = _bytes(path)
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is no whole gzip file ({error}); expected one, fetch it again") from error
    found = [(n, line) for n, line in enumerate(_lines(decoded(path, content)), start=1) if line.strip()]
    return Table(path, [number for number, _ in found], [line for _, line in found], None, None)


def _error(path: Path, line: int, message: str) -> UserError:
    return UserError(f"{path}, line {line}: {message}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; expected a readable file, look at its permissions"
        ) from error


def decoded(path: Path, content: bytes) -> str:
    """The text of a file without its byte order mark; line ends as they are.

    Raises UserError when it is empty, no UTF-8, or has a NUL.
    """
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
    for name in (*_COLUMNS, *filter(_EXTRA.fullmatch, dict.fromkeys(header))):
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


def _extra(path: Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> dict[str, list[str]]:
    """The columns text_extra, text_extra_2, … in the order of their numbers, then those with names; "" where a row has none."""
    found = {name: match for _, row in rows for name in row if (match := _EXTRA.fullmatch(name))}

    def place(name: str) -> tuple[bool, int, str]:
        number = "1" if name == "text_extra" else found[name][1]
        return number is None, int(number or 0), name

    return {
        name: ["" if row.get(name) is None else _text(path, line, name, row, may_be_empty=True) for line, row in rows]
        for name in sorted(found, key=place)
    }


def _text(path: Path, line: int, column: str, row: dict[str, Any], may_be_empty: bool = False) -> str:
    text = row[column]
    if not isinstance(text, str):
        raise _error(path, line, f"'{column}' is {_kind(text)}; expected a string")
    if not text.strip() and not may_be_empty:
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
        if "|" in text:
            return _set(path, line, text)
        if not _FLOAT.fullmatch(text):
            return Label(text, "name") if text else None
        value = float(text)
    elif isinstance(value, list):
        return _listed(path, line, value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _error(path, line, f"the label is {_kind(value)}; expected a string or a number")
    else:
        text = repr(value)
    if not abs(value) <= _LARGEST:  # also true of NaN
        raise _error(
            path, line, f"label {text} is not finite; expected a class name, a class number or a finite number"
        )
    return Label(text, "integer" if isinstance(value, int) else "float")


def _set(path: Path, line: int, text: str) -> Label:
    """Class names with "|" between them; "|" alone is the empty set."""
    names = tuple(name.strip() for name in text.split("|"))
    if text == "|":
        return Label(text, "set")
    return Label(text, "name", names if all(names) else ())


def _listed(path: Path, line: int, value: list[Any]) -> Label:
    """A JSON list of class names or numbers."""
    names = []
    for name in value:
        label = None if isinstance(name, list) else _label(path, line, name)
        if label is None or label.kind == "float":
            raise _error(
                path, line, f"the label list has {json.dumps(name)[:40]} in it; expected class names or class numbers"
            )
        names.append(label.text)
    return Label("|".join(names), "set", tuple(names))


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
        hint = "only a test file may go without labels, and then in every row; rows for distillation alone belong in unlabelled.tsv"
        raise _error(path, lines[row], f"no label; expected a class name, a class number or a number: {hint}")
    return [label for label in labels if label is not None]
