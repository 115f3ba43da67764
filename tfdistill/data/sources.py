"""Where text data comes from: `load_data` of "demo:movie-snippets", "tfds:glue/sst2", a directory or a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tfdistill.data import demo, tfds_source
from tfdistill.data.tables import SUFFIXES, Label, Table, read_table
from tfdistill.data.textdata import Split, TextData, listing, nearest, random_split, with_label_names
from tfdistill.errors import UserError

__all__ = ["Split", "TextData", "load_data"]

_DEMOS = {"movie-snippets": demo.movie_snippets, "movie-snippets-rating": demo.movie_snippets_rating}
_SPLITS = {"train": "train", "dev": "dev", "test": "test", "validation": "dev", "valid": "dev", "val": "dev"}


def load_data(
    spec: str, *, seed: int = 13, label_names: Sequence[str] | None = None, splits: Sequence[str] | None = None
) -> TextData:
    """Load a data set.

    spec:
        `demo:movie-snippets`, `demo:movie-snippets-rating`: see `tfdistill.data.demo`; their split is fixed.
        `tfds:<name>`: see `tfdistill.data.tfds_source`; GLUE, and other sets with one or two texts and one label.
        a directory with train, dev and test files (.tsv, .csv or .jsonl; validation, valid and val count as dev) and
        perhaps a labels.txt, one class name a line.
        one such file: split 80/10/10 by `numpy.random.default_rng(seed).permutation`, see `random_split`.
    label_names: the classes in the order to number them, such as a teacher's. Without them labels.txt decides, or else
        the train labels.
    splits: the splits to return; all there are when None.

    Labels, decided by the train file: numbers with a float among them (written with a point or an exponent) are
    regression targets. Integers are class numbers into labels.txt or `label_names` where one is given, else class names
    of their own, in numerical order ("0", "1", … or "1" … "5"). Anything else is a class name; names without a list are
    sorted.
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
    else:
        data = _from_files(spec, seed, label_names)
    if splits is None:
        return data
    for split in splits:
        if split not in data.splits:
            raise UserError(
                f"{spec} has no split '{split}'; found {listing(data.splits)}: ask for one of these or add the file"
            )
    return TextData(data.name, {split: data.splits[split] for split in splits}, data.label_names)


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


def _from_files(spec: str, seed: int, label_names: tuple[str, ...] | None) -> TextData:
    path = Path(spec).expanduser()
    if path.is_dir():
        return _from_directory(spec, path, label_names)
    if path.is_file():
        table = read_table(path)
        names, by_number = _classes(table, label_names)
        whole = _split(table, names, by_number)
        splits = random_split(whole, seed)
        if names is not None:
            _check_rare(table, whole, splits["train"], names)
        return TextData(spec, splits, names)
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {path.parent / close[0]}?" if close else ""
    raise UserError(
        f"no data at '{spec}'; expected a directory, a .tsv, .csv or .jsonl file, demo:<name> or tfds:<name>{hint}"
    )


def _from_directory(spec: str, path: Path, label_names: tuple[str, ...] | None) -> TextData:
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        split = _SPLITS.get(file.stem.lower())
        if split is None or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if split in files:
            raise UserError(
                f"{path} has {files[split].name} and {file.name}, both for the {split} split; expected one: "
                "remove or rename one"
            )
        files[split] = file
    if not files:
        there = listing(sorted(file.name for file in path.iterdir())) or "nothing"
        raise UserError(
            f"{path} has no data files, it has {there}; expected train, dev and test files ending in .tsv, .csv or "
            ".jsonl: name them so"
        )
    tables: dict[str, Table] = {
        split: read_table(files[split], labels_needed=split != "test")
        for split in ("train", "dev", "test")
        if split in files
    }
    reference = next((table for table in tables.values() if table.labels is not None), None)
    listed = _labels_file(path / "labels.txt")
    given = listed or label_names
    _check_pairs(tables)
    is_regression = reference is not None and any(label.kind == "float" for label in reference.labels or [])
    if given is None and "train" not in tables and not is_regression:
        raise UserError(
            f"{path} has no train file and no labels.txt, so its classes are unknown; expected one of them: add it"
        )
    names, by_number = (given, False) if reference is None else _classes(reference, given)
    splits = {split: _split(table, names, by_number) for split, table in tables.items()}
    if names is not None and "train" in tables:
        _check_unseen(tables, splits, names)
    data = TextData(spec, splits, names)
    return data if listed is None or label_names is None else with_label_names(data, label_names)


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


def _check_pairs(tables: dict[str, Table]) -> None:
    first, *others = tables.values()
    for table in others:
        if (table.texts_b is None) != (first.texts_b is None):
            with_b, without = (table, first) if first.texts_b is None else (first, table)
            raise UserError(
                f"{with_b.path} has text_b and {without.path} has none; expected it in every file or in none"
            )


def _classes(table: Table, given: tuple[str, ...] | None) -> tuple[tuple[str, ...] | None, bool]:
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


def _split(table: Table, names: tuple[str, ...] | None, by_number: bool) -> Split:
    if table.labels is None:
        return Split(table.texts, table.texts_b, None)
    if names is None:
        for row, label in enumerate(table.labels):
            if label.kind == "name":
                raise table.error(
                    row, f"label '{label.text}' is a name; expected a number, as in the train labels (regression)"
                )
        return Split(
            table.texts, table.texts_b, np.array([float(label.text) for label in table.labels], dtype=np.float32)
        )
    numbers = {str(i) if by_number else name: i for i, name in enumerate(names)}
    labels = np.empty(len(table.labels), dtype=np.int64)
    for row, label in enumerate(table.labels):
        if label.text not in numbers:
            raise table.error(row, _unknown(label, names, by_number))
        labels[row] = numbers[label.text]
    return Split(table.texts, table.texts_b, labels)


def _unknown(label: Label, names: tuple[str, ...], by_number: bool) -> str:
    if by_number:
        return f"label '{label.text}' is no class number; expected 0 to {len(names) - 1} ({listing(names)}): mend it"
    close = nearest(label.text, names)
    return f"label '{label.text}' is not a known class; expected one of {listing(names)}{close}: mend it"


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
