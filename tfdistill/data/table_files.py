"""Read one data file as checked texts and labels. Each error names the file and the line.

Columns: `text`, `text_b`, `label`, `text_extra`, `text_extra_2` and `text_extra_NAME`; all but `text` are optional, and other
columns are ignored. Plain text (`read_plain`) has one text a line and no header.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tfdistill.data.records import EXTRA, Record, at_line, decoded, kind_of, lines_of, read_bytes, read_records
from tfdistill.data.splits import Split
from tfdistill.errors import UserError, listing, nearest

PLAIN_SUFFIXES = (".txt", ".txt.gz")
Labels = Literal["needed", "optional", "separate", "ignored"]
# A number written with a point or an exponent is not an integer: 1.0 is a float.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_UNLABELLED_ROWS = (
    "Only a test file may have no labels, and then in no row; rows for distillation alone belong in unlabelled.tsv."
)


class Label(NamedTuple):
    """A label as written, of the kind "name", "integer", "float" or "set".

    `names` are the classes of a set; also the parts of a name with "|" in it, which may be a set or a name.
    """

    text: str
    kind: str
    names: tuple[str, ...] = ()


class Row(NamedTuple):
    """One example and the line on which it begins, from 1."""

    line: int
    text: str
    text_b: str | None = None
    label: Label | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of one file, the names of its columns text_extra, and its rows without a label if requested separately."""

    path: Path
    rows: list[Row]  # either all rows have a second text, or none; the same for labels
    extra: tuple[str, ...] = ()
    unlabelled: Table | None = None

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    @property
    def texts_b(self) -> list[str] | None:
        texts = [row.text_b for row in self.rows if row.text_b is not None]
        return texts or None

    @property
    def labels(self) -> list[Label] | None:
        labels = [row.label for row in self.rows if row.label is not None]
        return labels or None

    def split(self, labels: np.ndarray | None) -> Split:
        """Return the texts with the `labels` as numbers."""
        extra = tuple([row.extra[place] for row in self.rows] for place in range(len(self.extra)))
        return Split(self.texts, self.texts_b, labels, extra)

    def error(self, row: int, message: str) -> UserError:
        """Return an error about the row with this number, from 0."""
        return UserError(f"{self.path}, line {self.rows[row].line}: {message}")


def read_table(path: Path, *, labels: Labels = "needed") -> Table:
    """Read a .tsv, .csv or .jsonl file.

    Args:
        path: the file.
        labels: "needed" in each row; "optional", all or none; "separate": rows without one become the table `unlabelled`;
            "ignored": none are read.

    Raises:
        UserError: anything that is wrong with the file.
    """
    records = read_records(path)
    if not records:
        what = "no objects" if path.suffix.lower() == ".jsonl" else "a header and no rows"
        raise UserError(f"{path} has {what}; expected at least one example. Add some or remove the file.")
    columns = list(records[0][1])
    if labels in ("needed", "separate") and not any("label" in cells for _, cells in records):
        raise UserError(f"{path} has no column 'label'; found {listing(columns)}{nearest('label', columns)}. Add it.")
    extra = _extra_columns(records)
    rows = [_row(path, line, cells, extra, labels != "ignored") for line, cells in records]
    table = Table(path, rows, extra)
    _all_or_none(table, "text_b", [row.text_b is not None for row in rows])
    labelled = [row.label is not None for row in rows]
    if labels == "separate" and any(labelled) and not all(labelled):
        rest = replace(table, rows=[row for row in rows if row.label is None])
        return replace(table, rows=[row for row in rows if row.label is not None], unlabelled=rest)
    if not all(labelled) and (any(labelled) or labels in ("needed", "separate")):
        problem = "no label; expected a class name, a class number or a number"
        raise table.error(labelled.index(False), f"{problem}. {_UNLABELLED_ROWS}")
    return table


def read_plain(path: Path) -> Table:
    """Read a .txt or .txt.gz file with one text a line; blank lines are skipped.

    Raises:
        UserError: the file is empty, damaged or not UTF-8.
    """
    content = read_bytes(path)
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is not a complete gzip file ({error}). Fetch it again.") from error
    lines = enumerate(lines_of(decoded(path, content)), start=1)
    return Table(path, [Row(number, line) for number, line in lines if line.strip()])


def _extra_columns(records: Sequence[Record]) -> tuple[str, ...]:
    names = {name: match[1] for _, cells in records for name in cells if (match := EXTRA.fullmatch(name))}
    numbers = names | ({"text_extra": "1"} if "text_extra" in names else {})
    return tuple(sorted(names, key=lambda name: (numbers[name] is None, int(numbers[name] or 0), name)))


def _row(path: Path, line: int, cells: dict[str, Any], extra: Sequence[str], labelled: bool) -> Row:
    with at_line(path, line):
        text_b = None if cells.get("text_b") is None else _text("text_b", cells["text_b"])
        label = _label(cells.get("label"), path.suffix.lower() == ".jsonl") if labelled else None
        more = tuple("" if cells.get(name) is None else _text(name, cells[name], True) for name in extra)
        return Row(line, _text("text", cells["text"]), text_b, label, more)


def _all_or_none(table: Table, column: str, present: list[bool]) -> None:
    if any(present) and not all(present):
        other = table.rows[present.index(True)].line
        raise table.error(
            present.index(False), f"no '{column}', but line {other} has one; expected it in every row or in none"
        )


def _text(column: str, text: Any, may_be_empty: bool = False) -> str:
    if not isinstance(text, str):
        raise ValueError(f"'{column}' is {kind_of(text)}; expected a string")
    if not text.strip() and not may_be_empty:
        what = "only white space" if text else "empty"
        raise ValueError(f"'{column}' is {what}; expected a text. Fill it or remove the line.")
    return _valid(f"'{column}'", text)


def _valid(what: str, text: str) -> str:
    if "\0" in text:
        raise ValueError(f"{what} has a NUL character. Remove it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"{what} has half of a surrogate pair ({code}); expected valid Unicode") from error
    return text


def _label(value: Any, is_json: bool) -> Label | None:
    """Parse the label of one row; None if it is empty."""
    if value is None:
        return None
    if isinstance(value, list):
        return _listed(value, is_json)
    if isinstance(value, str):
        text = _valid("the label", value.strip())
        if "\n" in text or "\r" in text:
            raise ValueError("the label has a line end in it; expected a name on one line")
        if is_json or not text:  # JSON itself says what is a string
            return Label(text, "name") if text else None
        if _INTEGER.fullmatch(text):
            return Label(text, "integer")
        if "|" in text:
            return _set(text)
        if not _FLOAT.fullmatch(text) and not _NOT_FINITE.fullmatch(text):
            return Label(text, "name")
        value = float(text)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"the label is {kind_of(value)}; expected a string or a number")
    else:
        text = repr(value)
    if not abs(value) <= _LARGEST:  # also true for NaN
        raise ValueError(f"label '{text}' is not finite; expected a class name, a class number or a finite number")
    return Label(text, "integer" if isinstance(value, int) else "float")


def _set(text: str) -> Label:
    """Parse class names with "|" between them; "|" alone is the empty set."""
    names = tuple(name.strip() for name in text.split("|"))
    return Label(text, "set") if text == "|" else Label(text, "name", names if all(names) else ())


def _listed(value: list[Any], is_json: bool) -> Label:
    """Parse a JSON list of class names or numbers."""
    names = []
    for name in value:
        label = None if isinstance(name, list) else _label(name, is_json)
        if label is None or label.kind == "float":
            raise ValueError(f"the label list has {json.dumps(name)[:40]} in it; expected class names or class numbers")
        names.append(label.text)
    return Label("|".join(names), "set", tuple(names))
