"""Decide from the labels of a file whether they are classes, several classes or numbers, and turn them into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tfdistill.data.splits import Split
from tfdistill.data.table_files import Label, Table
from tfdistill.errors import UserError, listing, nearest


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
    for name in names:
        if not name.strip():
            raise UserError(f"{origin} has an empty class name; expected a name on each line")
        if names.count(name) > 1:
            raise UserError(f"{origin} has '{name}' {names.count(name)} times; expected each class once")
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
        return _multilabel(table, known)
    for row, label in enumerate(labels):
        if label.kind == "set":
            raise table.error(row, "the label is a list of classes; expected one class. Load it as task 'multilabel'.")
    if known is not None:
        return Classes(known, _are_numbers(table, labels, known))
    names = _single(table, labels)
    if names is None and task == "classification":
        raise UserError(f"{table.path} has numbers as labels (regression); expected class names or whole class numbers")
    return Classes(names)


def _names_in(label: Label) -> tuple[str, ...]:
    return label.names or (() if label.kind == "set" else (label.text,))


def _multilabel(table: Table, known: tuple[str, ...] | None) -> Classes:
    used = {name for label in table.labels or () for name in _names_in(label)}
    numbers = bool(used) and all(name.isascii() and name.isdigit() for name in used)
    if known is not None:
        return Classes(known, numbers and not used & set(known), True)
    if len(used) < 2:
        raise table.error(0, f"the label is a list, and the file has {len(used)} classes; expected 2 or more")
    return Classes(tuple(sorted(used, key=_by_number) if numbers else sorted(used)), False, True)


def _by_number(name: str) -> tuple[int, str]:
    return int(name), name


def _are_numbers(table: Table, labels: Sequence[Label], known: tuple[str, ...]) -> bool:
    """Return whether labels are numbers into the names of classes, rather than names."""
    kinds = [label.kind for label in labels]
    if {label.text for label in labels} & set(known):
        return False
    if "float" in kinds and "name" not in kinds:
        row = kinds.index("float")
        raise table.error(
            row,
            f"label {labels[row].text} is a number (regression); expected one of the classes {listing(known)}. "
            "Use data and a model for the same task.",
        )
    return all(kind == "integer" for kind in kinds)


def _single(table: Table, labels: Sequence[Label]) -> tuple[str, ...] | None:
    """Return the sorted class names, or None for regression."""
    is_name = [label.kind == "name" for label in labels]
    if any(is_name) and not all(is_name):
        odd = is_name.index(not is_name[0])
        kinds = ("a name", "a number") if is_name[odd] else ("a number", "a name")
        raise table.error(
            odd,
            f"label '{labels[odd].text}' is {kinds[0]}; expected {kinds[1]}, as on line {table.rows[0].line} "
            f"('{labels[0].text}'). Write all labels in one way.",
        )
    if any(label.kind == "float" for label in labels):
        return None
    texts = {label.text for label in labels}
    names = tuple(sorted(texts) if any(is_name) else sorted(texts, key=_by_number))
    for one, other in pairwise(names):
        if not any(is_name) and int(one) == int(other):
            raise UserError(f"{table.path} has the labels '{one}' and '{other}', the same number. Write it in one way.")
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
        for row, label in enumerate(labels):
            if label.kind in ("name", "set"):
                raise table.error(row, f"label '{label.text}' is a name; expected a number, as in the training file")
        return np.array([float(label.text) for label in labels], np.float32)
    numbers = {str(number) if by_number else name: number for number, name in enumerate(names)}

    def number(row: int, name: str) -> int:
        if name not in numbers:
            expected = f"0 to {len(names) - 1} ({listing(names)})" if by_number else f"one of {listing(names)}"
            close = "" if by_number else nearest(name, names)
            raise table.error(row, f"label '{name}' is not a known class; expected {expected}{close}")
        return numbers[name]

    if not multilabel:
        return np.array([number(row, label.text) for row, label in enumerate(labels)], np.int64)
    targets = np.zeros((len(labels), len(names)), np.float32)
    for row, label in enumerate(labels):
        targets[row, [number(row, name) for name in _names_in(label)]] = 1
    return targets


def _check_two(table: Table, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise UserError(f"{table.path} has only the class '{names[0]}'; expected two or more. Add examples of another.")


def check_unseen(tables: dict[str, Table], splits: dict[str, Split], names: tuple[str, ...]) -> None:
    """Check that train has two classes or more, and all classes of dev and test; raises UserError otherwise."""
    seen = _seen(splits["train"])
    _check_two(tables["train"], [names[number] for number in seen])
    for split, table in tables.items():
        labels = splits[split].labels
        if labels is None:
            continue
        for row in np.flatnonzero(~np.isin(labels, seen)):
            raise table.error(
                int(row),
                f"label '{names[labels[row]]}' never occurs in {tables['train'].path.name}; expected one of "
                f"{listing(names[number] for number in seen)}. Add training examples of it or remove it.",
            )


def check_rare(table: Table, whole: Split, train: Split, names: tuple[str, ...]) -> None:
    """Check after a random split of one file that train has all its classes, and two at least; raises UserError otherwise."""
    seen = _seen(train)
    for number in sorted(set(_seen(whole)) - set(seen)):
        raise table.error(
            int(np.flatnonzero(whole.labels == number)[0]),
            f"label '{names[number]}' is so rare that no example of it is in train. Add examples of it, take another seed, "
            "or provide train, dev and test files.",
        )
    _check_two(table, [names[number] for number in seen])


def _seen(split: Split) -> list[int]:
    return [] if split.labels is None else sorted(set(split.labels.tolist()))
