"""Read one data file as checked texts and labels. Each error names the file and the line.

Columns: `text`, `text_b`, `label` (`columns` may give them other names), `text_extra`, `text_extra_2` and `text_extra_NAME`.
All but `text` are optional, and other columns are ignored. Without `label`, two or more columns of 0 and 1 are one class each.
Plain text (`read_plain`) has one text a line and no header.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tfdistill.data.cell_labels import Label, columns_of_classes, label_of, label_of_columns, valid
from tfdistill.data.columns import COLUMNS, Columns, missing
from tfdistill.data.delimited import at_line, lines_of
from tfdistill.data.records import EXTRA, Record, decoded, kind_of, read_bytes, read_records
from tfdistill.data.splits import Split
from tfdistill.errors import UserError

PLAIN_SUFFIXES = (".txt", ".txt.gz")
Labels = Literal["needed", "optional", "separate", "ignored"]
_MANY_LABELS = "Write several classes as a|b, or as one column of 0 and 1 for each class."
_UNLABELLED_ROWS = (
    "Only a test file may have no labels, and then in no row; rows for distillation alone belong in unlabelled.tsv."
)


class Row(NamedTuple):
    """One example and the line on which it begins, from 1."""

    line: int
    text: str
    text_b: str | None = None
    label: Label | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of one file.

    Args:
        path: the file.
        rows: its rows; either all have a second text, or none, and the same for labels.
        extra: the names of its columns text_extra.
        classes: the names of its columns of 0 and 1, if these are the labels.
        ignored: the names of the columns that are not read.
        unlabelled: its rows without a label, if they were requested separately.
    """

    path: Path
    rows: list[Row]
    extra: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
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

    def without_labels(self) -> Table:
        """Return the table without its labels."""
        return replace(self, rows=[row._replace(label=None) for row in self.rows], classes=())

    def error(self, row: int, message: str) -> UserError:
        """Return an error about the row with this number, from 0."""
        return UserError(f"{self.path}, line {self.rows[row].line}: {message}")


def read_table(path: Path, *, labels: Labels = "needed", columns: Columns | None = None) -> Table:
    """Read a .tsv, .csv or .jsonl file.

    Args:
        path: the file.
        labels: "needed" in each row; "optional", all or none; "separate": rows without one become the table `unlabelled`;
            "ignored": none are read.
        columns: the names of its columns for text, text_b and label, if they are others.

    Raises:
        UserError: anything that is wrong with the file.
    """
    columns = columns or {}
    records = read_records(path, columns)
    if not records:
        what = "no objects" if path.suffix.lower() == ".jsonl" else "a header and no rows"
        raise UserError(f"{path} has {what}; expected at least one example. Add some or remove the file.")
    names = tuple(dict.fromkeys(name for _, cells in records for name in cells))
    extra = _extra_columns(records)
    classes: tuple[str, ...] = ()
    with at_line(path, 1):
        if labels != "ignored" and "label" not in names and "label" not in columns:
            classes = columns_of_classes([cells for _, cells in records], (*COLUMNS, *extra))
        if labels in ("needed", "separate") and "label" not in names and not classes:
            raise ValueError(f"{_missing('label', columns, records)} {_MANY_LABELS}")
        if "text_b" in columns and "text_b" not in names:
            raise ValueError(_missing("text_b", columns, records))
    rows = [_row(path, line, cells, extra, classes, labels != "ignored") for line, cells in records]
    table = Table(path, rows, extra, classes, tuple(name for name in names if name not in (*COLUMNS, *extra, *classes)))
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


def _missing(role: str, columns: Columns, records: Sequence[Record]) -> str:
    rows = [{columns.get(name, name): cell for name, cell in cells.items()} for _, cells in records[:200]]
    return missing(role, columns, dict.fromkeys(name for row in rows for name in row), rows)


def _extra_columns(records: Sequence[Record]) -> tuple[str, ...]:
    names = {name: match[1] for _, cells in records for name in cells if (match := EXTRA.fullmatch(name))}
    numbers = names | ({"text_extra": "1"} if "text_extra" in names else {})
    return tuple(sorted(names, key=lambda name: (numbers[name] is None, int(numbers[name] or 0), name)))


def _row(
    path: Path, line: int, cells: dict[str, Any], extra: Sequence[str], classes: Sequence[str], labelled: bool
) -> Row:
    with at_line(path, line):
        text_b = None if cells.get("text_b") is None else _text("text_b", cells["text_b"])
        label = None
        if labelled:
            is_json = path.suffix.lower() == ".jsonl"
            label = label_of_columns(cells, classes) if classes else label_of(cells.get("label"), is_json)
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
    return valid(f"'{column}'", text)
