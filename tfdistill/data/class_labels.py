"""Decide from the labels of a file whether they are classes, several classes or numbers, and turn them into arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tfdistill.data.cell_labels import Label, valid_name
from tfdistill.data.doubtful_labels import DECIMAL_COMMA, refuse_joined, say_classes, say_numbers
from tfdistill.data.splits import Split
from tfdistill.data.table_files import Table
from tfdistill.errors import UserError, listing, nearest, short
from tfdistill.system.console import say

NO_CLASS = "-1"  # what data sets write for "no label", where it is not one of the classes


class Classes(NamedTuple):
    """The names of the classes (None for regression), and whether labels are numbers into them, or sets of them."""

    names: tuple[str, ...] | None
    by_number: bool = False
    multilabel: bool = False


def checked_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    """Return class names as a tuple; raises UserError for fewer than two, empty or repeated names."""
    names = tuple(names)
    if len(names) < 2:
        raise UserError(f"{origin} has {len(names)} class names; expected 2 or more, one a line")
    for name, count in Counter(names).items():
        if not name.strip():
            raise UserError(f"{origin} has an empty class name; expected a name on each line")
        if count > 1:
            raise UserError(f"{origin} has '{short(name)}' {count} times; expected each class once")
        try:
            valid_name("a class name", name)
        except ValueError as error:
            raise UserError(f"{origin}: {error}") from error
    return names


def classes_of(table: Table, known: tuple[str, ...] | None, task: str | None) -> Classes:
    """Decide what the labels of a table are.

    Args:
        table: the training file, with labels.
        known: the class names, if they are known.
        task: "classification", "regression" or "multilabel"; None lets the labels decide.

    Raises:
        UserError: labels that do not fit each other, the class names or the task.
    """
    labels = table.labels or []
    sets = [label.kind == "set" or (bool(label.names) and label.text not in (known or ())) for label in labels]
    if task == "regression":
        return Classes(None)
    if task == "multilabel" or (task is None and any(sets)):
        return _multilabel(table, known, task is None)
    for row, label in enumerate(labels):
        if label.kind == "set":
            raise table.error(row, "the label is a list of classes; expected one class. Load it as task 'multilabel'.")
    if known is not None:
        return Classes(known, _are_numbers(table, labels, known))
    names = _single(table, labels, task)
    if task is None:
        say_numbers(table, labels) if names is None else say_classes(table, labels, names)
    return Classes(names)


def _names_in(label: Label) -> tuple[str, ...]:
    return label.names or (() if label.kind == "set" else (label.text,))


def _multilabel(table: Table, known: tuple[str, ...] | None, by_labels: bool) -> Classes:
    used = {name for label in table.labels or () for name in _names_in(label)} | set(table.classes)
    used = _without_no_class(used, known)
    numbers = bool(used) and all(_is_digits(name) for name in used)
    if known is not None:
        return Classes(known, numbers and not used & set(known), True)
    refuse_joined(table, [(row, name) for row, label in enumerate(table.labels or ()) for name in _names_in(label)])
    if table.classes:
        say(f"{table.path}: the columns {listing(table.classes)} are read as classes, several for each text")
    elif by_labels:
        say(f"{table.path}: the labels are read as several classes for each text ({len(used)} classes)")
    if len(used) < 2:
        raise table.error(0, f"the label is a list, and the file has {len(used)} classes; expected 2 or more")
    return Classes(tuple(sorted(used, key=_by_number) if numbers else sorted(used)), False, True)


def _is_digits(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _without_no_class(used: set[str], known: Sequence[str] | None = None) -> set[str]:
    """Return the classes without -1, if the others are numbers from 0 on, so that it means "no label"."""
    others = used - {NO_CLASS}
    is_none = NO_CLASS not in (known or ()) and "0" in others and all(map(_is_digits, others))
    return others if is_none else used


def _by_number(name: str) -> tuple[int, str]:
    return int(name), name


def _are_numbers(table: Table, labels: Sequence[Label], known: tuple[str, ...]) -> bool:
    """Return whether labels are numbers into the names of classes, rather than names."""
    if {_whole(label) or label.text for label in labels} & set(known):
        return False
    kinds = ["integer" if _whole(label) else label.kind for label in labels]
    if "float" in kinds and "name" not in kinds:
        row = kinds.index("float")
        raise table.error(
            row,
            f"label {short(labels[row].text)} is a number (regression); expected one of the classes {listing(known)}. "
            "Use data and a model for the same task.",
        )
    return all(kind == "integer" for kind in kinds)


def _whole(label: Label) -> str | None:
    """Return the whole number that a number is, without a point; None for other labels."""
    if label.kind == "float" and float(label.text).is_integer() and abs(float(label.text)) < 1e15:
        return str(int(float(label.text)))
    return None


def _single(table: Table, labels: Sequence[Label], task: str | None) -> tuple[str, ...] | None:
    """Return the sorted class names, or None for regression."""
    is_name = [label.kind == "name" for label in labels]
    if any(is_name) and not all(is_name):
        odd = is_name.index(not is_name[0])
        kinds = ("a name", "a number") if is_name[odd] else ("a number", "a name")
        raise table.error(
            odd,
            f"label '{short(labels[odd].text)}' is {kinds[0]}; expected {kinds[1]}, as on line {table.rows[0].line} "
            f"('{short(labels[0].text)}'). Write all labels in one way.",
        )
    fractions = [label.kind == "float" and (task is None or _whole(label) is None) for label in labels]
    if any(fractions):
        if task is None:
            return None
        raise table.error(
            fractions.index(True),
            f"label {labels[fractions.index(True)].text} is a number (regression); expected class names or whole class numbers",
        )
    texts = _without_no_class({_whole(label) or label.text for label in labels})
    numbers = not any(is_name)
    names = tuple(sorted(texts, key=_by_number) if numbers else sorted(texts))
    for one, other in pairwise(names):
        if numbers and int(one) == int(other):
            raise UserError(f"{table.path} has the labels '{one}' and '{other}', the same number. Write it in one way.")
    if task is None and not numbers:
        refuse_joined(table, [(row, label.text) for row, label in enumerate(labels)])
    _check_two(table, names)
    return names


def split_of(table: Table, classes: Classes) -> Split:
    """Return the texts of a table with their labels as numbers.

    Raises:
        UserError: a label is not one of the classes, or not a number.
    """
    return table.split(None if table.labels is None else _numbers(table, table.labels, classes))


def _numbers(table: Table, labels: list[Label], classes: Classes) -> np.ndarray:
    names, by_number, multilabel = classes
    if names is None:
        return np.array([_number(table, row, label) for row, label in enumerate(labels)], np.float32)
    numbers = {str(number) if by_number else name: number for number, name in enumerate(names)}

    def number(row: int, name: str) -> int:
        if name not in numbers and name == NO_CLASS:
            return -1
        if name not in numbers:
            expected = f"0 to {len(names) - 1} ({listing(names)})" if by_number else f"one of {listing(names)}"
            close = "" if by_number else nearest(name, names)
            raise table.error(row, f"label '{short(name)}' is not a known class; expected {expected}{close}")
        return numbers[name]

    if not multilabel:
        texts = (label.text if label.text in numbers else _whole(label) or label.text for label in labels)
        return np.array([number(row, text) for row, text in enumerate(texts)], np.int64)
    targets = np.zeros((len(labels), len(names)), np.float32)
    for row, label in enumerate(labels):
        places = [number(row, name) for name in _names_in(label)]
        if -1 in places:
            targets[row] = -1
        else:
            targets[row, places] = 1
    return targets


def _number(table: Table, row: int, label: Label) -> float:
    if label.kind in ("name", "set") and not DECIMAL_COMMA.fullmatch(label.text):
        raise table.error(row, f"label '{short(label.text)}' is a name; expected a number, as in the training file")
    return float(label.text.replace(",", "."))


def _check_two(table: Table, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise UserError(
            f"{table.path} has only the class '{short(names[0])}'; expected two or more. Add examples of another."
        )


def check_unseen(tables: dict[str, Table], splits: dict[str, Split], names: tuple[str, ...]) -> None:
    """Check that train has two classes or more, and all classes of dev and test; raises UserError otherwise."""
    seen = _seen(splits["train"])
    _check_two(tables["train"], [names[number] for number in seen])
    for split, table in tables.items():
        labels = splits[split].labels
        if labels is None:
            continue
        for row in np.flatnonzero((labels >= 0) & ~np.isin(labels, seen)):
            raise table.error(
                int(row),
                f"label '{short(names[labels[row]])}' never occurs in {tables['train'].path.name}; expected one of "
                f"{listing(names[number] for number in seen)}. Add training examples of it or remove it.",
            )


def check_rare(table: Table, whole: Split, train: Split, names: tuple[str, ...]) -> None:
    """Check after a random split of one file that train has all its classes, and two at least; raises UserError otherwise."""
    seen = _seen(train)
    for number in sorted(set(_seen(whole)) - set(seen)):
        raise table.error(
            int(np.flatnonzero(whole.labels == number)[0]),
            f"label '{short(names[number])}' is so rare that no example of it is in train. Add examples of it, take another seed, "
            "or provide train, dev and test files.",
        )
    _check_two(table, [names[number] for number in seen])


def _seen(split: Split) -> list[int]:
    return [] if split.labels is None else sorted(set(split.labels[split.labelled].tolist()))
