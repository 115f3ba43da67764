"""Where text data comes from: `load_data` of "demo:movie-snippets", "tfds:glue/sst2", "glue:sst2:DIR", a directory or a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdistill.data import demo, glue
from tfdistill.data import tfds as tfds_source
from tfdistill.data.splits import Split, random_split
from tfdistill.data.table_files import PLAIN_SUFFIXES, SUFFIXES, Labels, Table, read_plain, read_table
from tfdistill.data.text_data import TEXT_TASKS, TextData, with_label_names
from tfdistill.errors import UserError, listing, nearest

__all__ = ["Split", "TextData", "load_data"]

_DEMOS = {"movie-snippets": demo.movie_snippets, "movie-snippets-rating": demo.movie_snippets_rating}
_SPLITS = {"train": "train", "dev": "dev", "test": "test", "validation": "dev", "valid": "dev", "val": "dev"}
_UNLABELLED = ("unlabelled", "unlabeled")


def load_data(
    spec: str,
    *,
    seed: int = 13,
    label_names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    task: str | None = None,
    separate_unlabelled: bool = False,
) -> TextData:
    """Load a data set.

    spec:
        `demo:movie-snippets`, `demo:movie-snippets-rating`: see `tfdistill.data.demo`; their split is fixed.
        `tfds:<name>`: see `tfdistill.data.tfds`; GLUE, and other sets with one or two texts and one label.
        `glue:<task>:<directory>`: GLUE's own files, see `tfdistill.data.glue`.
        a directory with train, dev and test files (.tsv, .csv or .jsonl; validation, valid and val count as dev),
        perhaps a labels.txt, one class name a line, and perhaps a file "unlabelled" of texts without labels (also .txt or
        .txt.gz, one text a line), which becomes the split of that name.
        one such file: split 80/10/10 by `numpy.random.default_rng(seed).permutation`, see `random_split`.
    label_names: the classes in the order to number them, such as a teacher's. Without them labels.txt decides, or else
        the train labels.
    splits: the splits to return; all there are when None.
    task: "classification", "regression" or "multilabel", for files; the labels decide when None.
    separate_unlabelled: train rows without a label, which are an error otherwise, go to the split "unlabelled".

    Labels, decided by the train file: numbers with a float among them (written with a point or an exponent) are
    regression targets. Integers are class numbers into labels.txt or `label_names` where one is given, else class names
    of their own, in numerical order ("0", "1", … or "1" … "5"). Anything else is a class name; names without a list are
    sorted. Several classes in one cell ("a|b"; in JSONL a list) make the data multi-label; "|" alone and [] are none of
    the classes.
    Only test may go without labels; its labels are then None.

    Raises UserError, in one line with file and line number, for data that is missing or does not hold to this;
    MissingExtra when a library for the source is not installed.
    """
    if not spec.strip():
        raise UserError("got an empty data name; expected a directory, a file, demo:<name> or tfds:<name>")
    if label_names is not None:
        label_names = _checked_names(label_names, "label_names")
    kind, _, name = spec.partition(":")
    if kind == "demo":
        if name not in _DEMOS:
            raise UserError(f"unknown demo data '{name}'; expected {listing(_DEMOS)}{nearest(name, _DEMOS)}")
        data = _named(_DEMOS[name](), label_names)
    elif kind == "tfds":
        data = _named(tfds_source.load(name, splits), label_names)
    elif kind == "glue":
        data = _named(glue.load(name), label_names)
    elif kind in ("conll", "squad"):
        raise UserError(
            f"got {spec}; expected texts with labels here; finetune, train and evaluate take tags and answers"
        )
    else:
        if task not in (None, *TEXT_TASKS):
            raise UserError(f"got the task '{task}'; expected {listing(TEXT_TASKS)}{nearest(str(task), TEXT_TASKS)}")
        data = _from_files(spec, seed, label_names, task, separate_unlabelled)
    if splits is None:
        return data
    for split in splits:
        if split not in data.splits:
            raise UserError(
                f"{spec} has no split '{split}'; found {listing(data.splits)}: ask for one of these or add the file"
            )
    return replace(data, splits={split: data.splits[split] for split in splits})


def _named(data: TextData, label_names: Sequence[str] | None) -> TextData:
    return data if label_names is None else with_label_names(data, label_names)


def _checked_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    names = tuple(names)
    if len(names) < 2:
        raise UserError(f"{origin} has {len(names)} class names; expected 2 or more, one a line")
    for name in names:
        if not name.strip():
            raise UserError(f"{origin} has an empty class name; expected a name on each line")
        if names.count(name) > 1:
            raise UserError(f"{origin} has '{name}' {names.count(name)} times; expected each class once")
    return names


def _from_files(
    spec: str, seed: int, label_names: tuple[str, ...] | None, task: str | None, separate: bool
) -> TextData:
    path = Path(spec).expanduser()
    if path.is_dir():
        return _from_directory(spec, path, label_names, task, separate)
    if path.is_file():
        table = read_table(path, labels="separate" if separate else "needed")
        classes = _classes(table, label_names, task)
        whole = _split(table, classes)
        splits = random_split(whole, seed)
        if classes.names is not None and not classes.multilabel and label_names is None:
            _check_rare(table, whole, splits["train"], classes.names)
        if table.unlabelled is not None:
            splits["unlabelled"] = _split(table.unlabelled, classes)
        return TextData(spec, splits, classes.names, classes.multilabel)
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {path.parent / close[0]}?" if close else ""
    raise UserError(
        f"no data at '{spec}'; expected a directory, a .tsv, .csv or .jsonl file, demo:<name> or tfds:<name>{hint}"
    )


def _from_directory(
    spec: str, path: Path, label_names: tuple[str, ...] | None, task: str | None, separate: bool
) -> TextData:
    files = _files(path)
    kinds: dict[str, Labels] = {"train": "separate" if separate else "needed", "dev": "needed", "test": "optional"}
    tables = {split: read_table(files[split], labels=kind) for split, kind in kinds.items() if split in files}
    reference = next((table for table in tables.values() if table.labels is not None), None)
    listed = _labels_file(path / "labels.txt")
    given = listed or label_names
    unlabelled = _unlabelled(path, tables, files.get("unlabelled"))
    _check_columns({**tables, **({} if unlabelled is None else {"unlabelled": unlabelled})})
    is_regression = task == "regression" or (
        task is None and reference is not None and any(label.kind == "float" for label in reference.labels or [])
    )
    if given is None and "train" not in tables and not is_regression:
        raise UserError(
            f"{path} has no train file and no labels.txt, so its classes are unknown; expected one of them: add it"
        )
    classes = Classes(given, False, task == "multilabel") if reference is None else _classes(reference, given, task)
    splits = {split: _split(table, classes) for split, table in tables.items()}
    # A model that gives its own classes knows those that train lacks.
    if classes.names is not None and "train" in tables and not classes.multilabel and label_names is None:
        _check_unseen(tables, splits, classes.names)
    if unlabelled is not None:
        splits["unlabelled"] = Split(unlabelled.texts, unlabelled.texts_b, None, tuple(unlabelled.extra.values()))
    data = TextData(spec, splits, classes.names, classes.multilabel)
    return data if listed is None or label_names is None else with_label_names(data, label_names)


def _files(path: Path) -> dict[str, Path]:
    """The file of each split."""
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        stem, dot, suffix = file.name.lower().partition(".")
        is_unlabelled = stem in _UNLABELLED
        split = "unlabelled" if is_unlabelled else _SPLITS.get(stem)
        if (
            split is None
            or dot + suffix not in (SUFFIXES + PLAIN_SUFFIXES if is_unlabelled else SUFFIXES)
            or not file.is_file()
        ):
            continue
        if split in files:
            raise UserError(
                f"{path} has {files[split].name} and {file.name}, both for the {split} split; expected one: "
                "remove or rename one"
            )
        files[split] = file
    if not files.keys() - {"unlabelled"}:
        there = listing(sorted(file.name for file in path.iterdir())) or "nothing"
        raise UserError(
            f"{path} has no data files, it has {there}; expected train, dev and test files ending in .tsv, .csv or "
            ".jsonl: name them so"
        )
    return files


def _unlabelled(path: Path, tables: dict[str, Table], file: Path | None) -> Table | None:
    """The texts without labels: of their own file, or rows of the train file."""
    separated = tables["train"].unlabelled if "train" in tables else None
    if file is None:
        return separated
    if separated is not None:
        raise UserError(
            f"{path} has {file.name}, and rows without a label in {tables['train'].path.name}; expected them in one "
            "place: move the rows"
        )
    if file.name.lower().endswith(PLAIN_SUFFIXES):
        return read_plain(file)
    return read_table(file, labels="ignored")


def _labels_file(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; expected UTF-8 text with one class name a line") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return _checked_names([line.strip() for line in lines], str(path))


def _check_columns(tables: dict[str, Table]) -> None:
    """A second text in all files or in none; extra texts in train if anywhere, and all of train's where there are any."""
    first, *others = tables.values()
    for table in others:
        if (table.texts_b is None) != (first.texts_b is None):
            with_b, without = (table, first) if first.texts_b is None else (first, table)
            raise UserError(
                f"{with_b.path} has text_b and {without.path} has none; expected it in every file or in none"
            )
    train = tables.get("train")
    for table in others if train is not None else ():
        if table.extra and train is not None and list(table.extra) != list(train.extra):
            raise UserError(
                f"{table.path} has {listing(table.extra)} and {train.path} {listing(train.extra) or 'no text_extra'}; "
                "expected the same columns as in train, or none: name them so"
            )


class Classes(NamedTuple):
    """names: None for regression. by_number: labels are numbers into the names rather than names."""

    names: tuple[str, ...] | None
    by_number: bool = False
    multilabel: bool = False


def _classes(table: Table, given: tuple[str, ...] | None, task: str | None) -> Classes:
    labels = table.labels
    assert labels is not None
    known = set(given or ())
    is_set = [label.kind == "set" or (bool(label.names) and label.text not in known) for label in labels]
    if task == "regression":
        return Classes(None)
    if task == "multilabel" or (task is None and any(is_set)):
        return _multilabel(table, given)
    if any(label.kind == "set" for label in labels):
        row = next(row for row, label in enumerate(labels) if label.kind == "set")
        raise table.error(row, "the label is a list of classes; expected one class: load it as task 'multilabel'")
    names, by_number = _single(table, given)
    if names is None and task == "classification":
        raise UserError(f"{table.path} has numbers as labels (regression); expected class names or whole class numbers")
    return Classes(names, by_number)


def _multilabel(table: Table, given: tuple[str, ...] | None) -> Classes:
    """The classes of labels that are sets of names."""
    used = {
        name for label in table.labels or () for name in label.names or (() if label.kind == "set" else (label.text,))
    }
    numbers = bool(used) and all(name.isascii() and name.isdigit() for name in used)
    if given is not None:
        return Classes(given, numbers and not used & set(given), True)
    names = tuple(sorted(used, key=lambda name: (int(name), name)) if numbers else sorted(used))
    if len(names) < 2:
        raise table.error(
            0, f"the label is a list, of classes of which there are {len(names)} in all; expected 2 or more"
        )
    return Classes(names, False, True)


def _single(table: Table, given: tuple[str, ...] | None) -> tuple[tuple[str, ...] | None, bool]:
    """Class names, or None for regression, and whether labels are numbers into the names rather than names."""
    labels = table.labels
    assert labels is not None
    kinds = [label.kind for label in labels]
    if given is not None:
        known = set(given)
        if all(kind == "integer" for kind in kinds) and not any(label.text in known for label in labels):
            return given, True
        if "float" in kinds and "name" not in kinds and not any(label.text in known for label in labels):
            row = kinds.index("float")
            raise table.error(
                row,
                f"label {labels[row].text} is a number (regression); expected one of the classes {listing(given)}: "
                "use data and model for the same task",
            )
        return given, False
    is_name = [kind == "name" for kind in kinds]
    if any(is_name) and not all(is_name):
        odd = is_name.index(not is_name[0])
        got, expected = ("a name", "a number") if is_name[odd] else ("a number", "a name")
        raise table.error(
            odd,
            f"label '{labels[odd].text}' is {got}; expected {expected}, as on line {table.lines[0]} "
            f"('{labels[0].text}'): write all labels in one way",
        )
    if "float" in kinds:
        return None, False
    texts = {label.text for label in labels}
    names = tuple(sorted(texts) if any(is_name) else sorted(texts, key=lambda text: (int(text), text)))
    for one, other in pairwise(names):
        if not any(is_name) and int(one) == int(other):
            raise UserError(
                f"{table.path} has the labels '{one}' and '{other}', the same number; expected one way of writing it"
            )
    _check_two(table, set(range(len(names))), names)
    return names, False


def _split(table: Table, classes: Classes) -> Split:
    labels = None if table.labels is None else _labels(table, classes)
    return Split(table.texts, table.texts_b, labels, tuple(table.extra.values()))


def _labels(table: Table, classes: Classes) -> np.ndarray:
    names, by_number, multilabel = classes
    rows = table.labels or []
    if names is None:
        for row, label in enumerate(rows):
            if label.kind in ("name", "set"):
                raise table.error(
                    row, f"label '{label.text}' is a name; expected a number, as in the train labels (regression)"
                )
        return np.array([float(label.text) for label in rows], dtype=np.float32)
    numbers = {str(i) if by_number else name: i for i, name in enumerate(names)}
    if multilabel:
        targets = np.zeros((len(rows), len(names)), dtype=np.float32)
        for row, label in enumerate(rows):
            for name in label.names or (() if label.kind == "set" else (label.text,)):
                if name not in numbers:
                    raise table.error(row, _unknown(name, names, by_number))
                targets[row, numbers[name]] = 1
        return targets
    labels = np.empty(len(rows), dtype=np.int64)
    for row, label in enumerate(rows):
        if label.text not in numbers:
            raise table.error(row, _unknown(label.text, names, by_number))
        labels[row] = numbers[label.text]
    return labels


def _unknown(label: str, names: tuple[str, ...], by_number: bool) -> str:
    if by_number:
        return f"label '{label}' is no class number; expected 0 to {len(names) - 1} ({listing(names)}): mend it"
    close = nearest(label, names)
    return f"label '{label}' is not a known class; expected one of {listing(names)}{close}: mend it"


def _check_two(table: Table, seen: set[int], names: Sequence[str]) -> None:
    if len(seen) < 2:
        only = names[next(iter(seen))]
        raise UserError(
            f"{table.path} has only the class '{only}'; expected two or more to tell apart: add examples of another"
        )


def _check_unseen(tables: dict[str, Table], splits: dict[str, Split], names: tuple[str, ...]) -> None:
    """Train must have two classes or more, and all that dev and test have."""
    seen = _numbers(splits["train"])
    _check_two(tables["train"], seen, names)
    for split, table in tables.items():
        labels = splits[split].labels
        if labels is None:
            continue
        for row in np.flatnonzero(~np.isin(labels, list(seen))):
            raise table.error(
                int(row),
                f"label '{names[labels[row]]}' never occurs in {tables['train'].path.name}; expected one of "
                f"{listing(names[i] for i in sorted(seen))}: add train examples of it or remove it",
            )


def _check_rare(table: Table, whole: Split, train: Split, names: tuple[str, ...]) -> None:
    """After a random split of one file: every class in it must be in train, and there must be two."""
    seen = _numbers(train)
    for number in sorted(_numbers(whole) - seen):
        raise table.error(
            int(np.flatnonzero(whole.labels == number)[0]),
            f"label '{names[number]}' is so rare that no example of it fell into train; expected some in train: "
            "add examples of it, take another seed, or give train, dev and test files",
        )
    _check_two(table, seen, names)


def _numbers(split: Split) -> set[int]:
    return set() if split.labels is None else set(split.labels.tolist())
