"""Say what doubtful labels were taken for, and refuse cells that look like several classes in one name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfdistill.data.cell_labels import Label
from tfdistill.errors import listing, short
from tfdistill.system.console import say

if TYPE_CHECKING:
    from tfdistill.data.table_files import Table

DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?")
_SEPARATORS = {",": "a comma", ";": "a semicolon", "#": "'#'", "/": "'/'", "+": "'+'", "&": "'&'", "\\": "a backslash"}
_USUAL_SEPARATORS = ",;#"
_NO_LABEL = {"none", "null", "nil", "na", "n/a", "nan", "<na>", "unknown", "-1", "?", "-"}
_AS_CLASSES, _AS_NUMBERS = "?task=classification", "?task=regression"


def refuse_joined(table: Table, names: Sequence[tuple[int, str]]) -> None:
    """Check that names of classes are not several classes, or numbers with a decimal comma.

    Names whose parts are classes elsewhere are refused. Where most rows have a separator, a line says that they are one class.

    Args:
        table: the training file.
        names: the number of a row, from 0, and the name of a class in it.

    Raises:
        UserError: such a label, with its line and what to write instead.
    """
    counts = Counter(name for _, name in names)
    if counts and all(map(DECIMAL_COMMA.fullmatch, counts)):
        raise table.error(
            names[0][0],
            f"label '{short(names[0][1])}' may be a number with a decimal comma or two classes. Write 0.5 for numbers (or add "
            f"{_AS_NUMBERS} to the name of the data), a|b for several classes, or add {_AS_CLASSES}.",
        )
    for text in counts:
        separator = _separator_in(text, counts)
        if separator is not None:
            raise table.error(
                next(row for row, name in names if name == text),
                f"label '{short(text)}' has {separator} between names of classes. Write a|b for several classes; if it is "
                f"one class, add {_AS_CLASSES} to the name of the data.",
            )
    for separator in _USUAL_SEPARATORS:
        joined = {text: _parts(text, separator) for text in counts if separator in text}
        repeated = Counter(part for parts in joined.values() for part in set(parts))
        if 2 * sum(counts[text] for text in joined) > len(names) and max(repeated.values(), default=0) > 1:
            say(
                f"{table.path}: most labels have {_SEPARATORS[separator]} in them, such as '{short(next(iter(joined)))}', and "
                "are read as one class each; write a|b for several classes"
            )


def _separator_in(text: str, names: Counter[str]) -> str | None:
    """Return how a message calls the separator of classes in a label; None if it is one class."""
    if text[0] == "[" and text[-1] == "]" and "," in text:
        return "a comma (in brackets, but without quotes)"
    for separator, called in _SEPARATORS.items():
        parts = _parts(text, separator)
        if len(parts) > 1 and all(part in names and part != text for part in parts):
            return called
    return None


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator)]


def say_numbers(table: Table, labels: Sequence[Label]) -> None:
    """Say that labels are numbers to predict."""
    values = {float(label.text): label.text for label in labels}
    shown = f" ({listing([values[value] for value in sorted(values)])})" if len(values) <= 10 else ""
    classes = f"; add {_AS_CLASSES} for classes" if all(value.is_integer() for value in values) else ""
    say(f"{table.path}: the labels are {len(values)} different numbers{shown} and are read as regression{classes}")


def say_classes(table: Table, labels: Sequence[Label], names: Sequence[str]) -> None:
    """Say what the classes are if they may be meant as something else."""
    what = f"{len(names)} classes ({listing(names)})"
    if labels[0].kind == "name":
        if {name.lower() for name in names} <= {"true", "false", "yes", "no", "t", "f", "y", "n"}:
            say(f"{table.path}: the labels are read as the names of {what}")
        if all(map(_NUMBER.fullmatch, names)) and any("." in name for name in names):
            say(f"{table.path}: the labels are strings and are read as the names of {what}; numbers have no quotes")
        for name in names:
            if name.lower() in _NO_LABEL:
                say(
                    f"{table.path}: '{name}' is read as the name of a class; leave the label empty for a row without one"
                )
        for same in _same_but_for_case(names):
            say(f"{table.path}: the classes {listing(same)} differ in case only and are read as {len(same)} classes")
    elif set(names) != {"0", "1"}:
        say(f"{table.path}: the labels are whole numbers and are read as {what}; add {_AS_NUMBERS} for regression")


def _same_but_for_case(names: Sequence[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
