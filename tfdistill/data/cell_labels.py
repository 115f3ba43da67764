"""Parse the label of one row: a name, a number, or several classes."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdistill.data.records import kind_of
from tfdistill.errors import short

# A number written with a point or an exponent is not an integer: 1.0 is a float.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
# Possessive, since a cell may have a million digits.
_FLOAT = re.compile(r"[+-]?([0-9]++\.?[0-9]*+|\.[0-9]++)(e[+-]?[0-9]++)?", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # all characters at which programs end a line, and others
_YES_OR_NO = {"0": 0, "1": 1, "-1": -1, "0.0": 0, "1.0": 1, "-1.0": -1}


class Label(NamedTuple):
    """A label as written, of the kind "name", "integer", "float" or "set".

    `names` are the classes of a set; also the parts of a name that may be a set: "a|b", or a list in JSON or Python.
    """

    text: str
    kind: str
    names: tuple[str, ...] = ()


def valid(what: str, text: str) -> str:
    """Return a text; raises ValueError for a NUL and for half of a surrogate pair."""
    if "\0" in text:
        raise ValueError(f"{what} has a NUL character. Remove it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"{what} has half of a surrogate pair ({code}); expected valid Unicode") from error
    return text


def valid_name(what: str, text: str) -> str:
    """Return the name of a class or tag; raises ValueError for line ends and other control characters.

    A file with one class name a line, as models and bundles have it, cannot hold them.
    """
    bad = _CONTROL.search(valid(what, text))
    if bad:
        code = bad[0].encode("unicode_escape").decode()
        raise ValueError(f"{what} has a line end or control character ({code}) in it; expected a name on one line")
    return text


def label_of(value: Any, is_json: bool) -> Label | None:
    """Parse the label of one row; None if it is empty.

    Args:
        value: the cell of a table, or the value of a JSON object.
        is_json: a string is the name of a class, also if it looks like a number.

    Raises:
        ValueError: it cannot be a label.
    """
    if value is None:
        return None
    if isinstance(value, list):
        return _listed(value, is_json)
    if isinstance(value, str):
        text = valid_name("the label", value.strip())
        if text[:1] in "[({" and (items := _list_in(text)) is not None:
            return _as_list(text, items)
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
        raise ValueError(
            f"the label is {kind_of(value)}; expected a string or a number. Write a name in quotes, or 0 and 1."
        )
    else:
        text = repr(value)
    if not abs(value) <= _LARGEST:  # also true for NaN
        raise ValueError(
            f"label '{short(text, 30)}' is not finite; expected a class name, a class number or a finite number"
        )
    return Label(text, "integer" if isinstance(value, int) else "float")


def columns_of_classes(rows: Sequence[Mapping[str, Any]], others: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are one class each, with 0 or 1 in every row; none if there are fewer than two."""
    names = dict.fromkeys(name for row in rows for name in row if name not in others)
    found = tuple(name for name in names if name and all(_yes_or_no(row.get(name)) is not None for row in rows))
    return tuple(valid_name("a column", name) for name in found) if len(found) > 1 else ()


def label_of_columns(row: Mapping[str, Any], columns: Sequence[str]) -> Label | None:
    """Return the classes whose columns are 1; None if any column is -1, which means that the row has no label."""
    values = {name: _yes_or_no(row[name]) for name in columns}
    names = tuple(name for name, value in values.items() if value == 1)
    return None if -1 in values.values() else Label("|".join(names) or "|", "set", names)


def _yes_or_no(value: Any) -> int | None:
    return _YES_OR_NO.get(value.strip() if isinstance(value, str) else repr(value))


def _set(text: str) -> Label:
    """Parse class names with "|" between them; "|" alone is the empty set."""
    names = tuple(name.strip() for name in text.split("|"))
    return Label(text, "set") if text == "|" else Label(text, "name", names if all(names) else ())


def _list_in(text: str) -> list[Any] | None:
    """Return the items of a list in JSON, or of a list, tuple or set in Python, that a cell holds as text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes
                value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return (
        sorted(value, key=repr) if isinstance(value, set) else list(value) if isinstance(value, list | tuple) else None
    )


def _as_list(text: str, items: list[Any]) -> Label:
    if all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        made = _listed(items, True)
        return Label(text, "name", made.names) if made.names else Label(text, "set")
    raise ValueError(f"the label list {short(text, 40)} has other things than class names or class numbers in it")


def _listed(value: list[Any], is_json: bool) -> Label:
    """Parse a JSON list of class names or numbers."""
    names = []
    for name in value:
        label = None if isinstance(name, list) else label_of(name, is_json)
        if label is None or label.kind == "float":
            raise ValueError(
                f"the label list has {short(json.dumps(name), 40)} in it; expected class names or class numbers"
            )
        names.append(label.text)
    if len(names) > len(set(names)) and set(names) <= {"0", "1"}:
        raise ValueError(
            f"the label list {short(json.dumps(value), 40)} repeats 0 or 1; expected the names or numbers of the classes "
            "that the text has, each once"
        )
    return Label("|".join(names), "set", tuple(names))
