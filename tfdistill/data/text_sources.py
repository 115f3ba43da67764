"""Load text data by name: "demo:movie-snippets", "tfds:glue/sst2", "glue:sst2:DIR", a directory or a file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdistill.data import demo, glue
from tfdistill.data import tfds as tfds_source
from tfdistill.data.class_labels import Classes, check_rare, check_unseen, checked_names, classes_of, split_of
from tfdistill.data.columns import Columns, split_name
from tfdistill.data.delimited import lines_of
from tfdistill.data.doubtful_texts import check_spread, say_about_texts
from tfdistill.data.records import SUFFIXES, names_in, split_files
from tfdistill.data.splits import concatenate, random_split
from tfdistill.data.table_files import PLAIN_SUFFIXES, Labels, Table, read_plain, read_table
from tfdistill.data.text_data import TEXT_TASKS, TextData, with_label_names, without_missing_labels
from tfdistill.errors import UserError, listing, nearest, short
from tfdistill.system.console import say

_DEMOS = {"movie-snippets": demo.movie_snippets, "movie-snippets-rating": demo.movie_snippets_rating}
_SPLITS = {
    **{name: name for name in ("train", "dev", "test", "unlabelled")},
    **dict.fromkeys(("validation", "valid", "val"), "dev"),
    "unlabeled": "unlabelled",
}


def load_data(
    spec: str,
    *,
    seed: int = 13,
    label_names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    task: str | None = None,
    separate_unlabelled: bool = False,
) -> TextData:
    """Load a data set of texts with labels.

    Labels are decided by the training file. Numbers with a float among them (written with a point or an exponent) are
    regression targets. Integers are class numbers into labels.txt or `label_names`, or without these class names, in numerical
    order. Anything else is a class name; without a list, names are sorted. Several classes in one cell ("a|b", or a list in JSON
    or Python), or one column of 0 and 1 for each class, make the data multi-label; "|" alone and [] mean none of the classes.
    The label -1 means "no label", unless it is one of the classes. What was guessed is printed.

    Args:
        spec: one of
            `demo:movie-snippets`, `demo:movie-snippets-rating`: see `tfdistill.data.demo`.
            `tfds:NAME`: see `tfdistill.data.tfds`; GLUE, and other sets with one or two texts and one label.
            `glue:TASK:DIR`: GLUE's own files, see `tfdistill.data.glue`.
            a directory with train, dev and test files (.tsv, .csv or .jsonl; validation, valid and val mean dev), optionally
            labels.txt with one class name a line, and a file "unlabelled" of texts without labels (also .txt or .txt.gz, one
            text a line). Only test may have no labels.
            one such file: split 80/10/10, see `random_split`.
            Files may be followed by a task and by the names of their columns, as in "DIR?task=classification" and
            "data.csv?text=utterance&label=intent" (also text_b); "%3F" in a name is "?", "%26" is "&".
        seed: of the random split.
        label_names: the classes in the order to number them, such as a teacher's. By default labels.txt, else the labels of train.
        splits: the splits to return; None for all.
        task: "classification", "regression" or "multilabel", for files; None lets the labels decide.
        separate_unlabelled: move train rows without a label, otherwise an error, to the split "unlabelled".

    Raises:
        UserError: data that are missing or wrong, in one line with file and line number.
        MissingExtra: a library for the source is not installed.
    """
    if not spec.strip():
        raise UserError("got an empty data name; expected a directory, a file, demo:NAME or tfds:NAME")
    if label_names is not None:
        label_names = checked_names(label_names, "label_names")
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
            f"got {spec}; expected texts with labels. Tags and answers work in finetune, train and evaluate."
        )
    else:
        data = _from_files(_files_of(spec, task), seed, label_names, separate_unlabelled)
    data = without_missing_labels(data)
    if splits is None:
        return data
    for split in splits:
        if split not in data.splits:
            raise UserError(f"{spec} has no split '{split}'; expected one of {listing(data.splits)}")
    return replace(data, splits={split: data.splits[split] for split in splits})


def _named(data: TextData, label_names: Sequence[str] | None) -> TextData:
    return data if label_names is None else with_label_names(data, label_names)


class _Files(NamedTuple):
    """Files of data, and how they are read.

    Args:
        spec: the name that was given.
        path: the directory or the file.
        task: the task, or None if the labels decide.
        columns: the names of the columns for text, text_b and label, if they are others.
    """

    spec: str
    path: Path
    task: str | None
    columns: Columns


def _files_of(spec: str, task: str | None) -> _Files:
    """Parse the name of files, such as "PATH?task=TASK&text=COLUMN"."""
    name, chosen = split_name(spec)
    named = chosen.pop("task", None)
    if named is not None and task not in (None, named):
        raise UserError(f"{spec} is for the task {named}; expected {task}, the task of the model")
    task = named or task
    if task is not None and task not in TEXT_TASKS:
        raise UserError(f"got the task '{short(task)}'; expected {listing(TEXT_TASKS)}{nearest(task, TEXT_TASKS)}")
    return _Files(spec, Path(name).expanduser(), task, chosen)


def _from_files(files: _Files, seed: int, label_names: tuple[str, ...] | None, separate: bool) -> TextData:
    path = files.path
    if path.is_dir():
        return _from_directory(files, label_names, separate)
    if path.is_file():
        return _from_file(files, seed, label_names, separate)
    if os.path.lexists(path):
        raise UserError(f"{path} is not a regular file or a directory. Give a .tsv, .csv or .jsonl file.")
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"; did you mean {path.parent / close[0]}?" if close else ""
    raise UserError(f"no data at '{path}'; expected a directory, a file, demo:NAME or tfds:NAME{hint}")


def _from_file(files: _Files, seed: int, label_names: tuple[str, ...] | None, separate: bool) -> TextData:
    path = files.path
    table = read_table(path, labels="separate" if separate else "needed", columns=files.columns)
    classes = classes_of(table, label_names, files.task)
    whole = split_of(table, classes)
    labelled = whole.take(np.flatnonzero(whole.labelled))
    splits = random_split(labelled, seed)
    if classes.names is not None and not classes.multilabel and label_names is None:
        check_rare(table, whole, splits["train"], classes.names)
    if classes.names is None:
        for name, split in splits.items():
            check_spread(path, name, split)
    say_about_texts({"train": table})
    without = [] if table.unlabelled is None else [table.unlabelled.split(None)]
    if len(labelled) < len(whole):
        say(
            f"{path}: {len(whole) - len(labelled)} rows have the label -1, which means no label; they become unlabelled"
        )
        without.append(replace(whole.take(np.flatnonzero(~whole.labelled)), labels=None))
    if without:
        splits["unlabelled"] = concatenate(without)
    counts = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    say(f"{path} is one file, split at random, always in the same way: {counts}")
    return TextData(files.spec, splits, classes.names, classes.multilabel)


def _from_directory(named: _Files, label_names: tuple[str, ...] | None, separate: bool) -> TextData:
    path, task = named.path, named.task
    files = split_files(path, _split_of)
    if not files.keys() - {"unlabelled"}:
        raise UserError(
            f"{path} has {names_in(path)}; expected train, dev and test files ending in {', '.join(SUFFIXES)}"
        )
    kinds: dict[str, Labels] = {"train": "separate" if separate else "needed", "dev": "needed", "test": "optional"}
    tables = {
        split: read_table(files[split], labels=kind, columns=named.columns)
        for split, kind in kinds.items()
        if split in files
    }
    train = tables.get("train")
    # Without a column "label", columns of 0 and 1 are classes only if train has such.
    tables = {
        name: table if train is None or train.classes or not table.classes else table.without_labels()
        for name, table in tables.items()
    }
    reference = next((table for table in tables.values() if table.labels is not None), None)
    listed = _labels_file(path / "labels.txt")
    known = listed or label_names
    unlabelled = _unlabelled(named, tables, files.get("unlabelled"))
    _check_columns({**tables, **({} if unlabelled is None else {"unlabelled": unlabelled})})
    is_regression = task == "regression" or (
        task is None and reference is not None and any(label.kind == "float" for label in reference.labels or [])
    )
    if known is None and "train" not in tables and not is_regression:
        raise UserError(f"{path} has no train file and no labels.txt, so its classes are unknown. Add one of them.")
    classes = Classes(known, False, task == "multilabel") if reference is None else classes_of(reference, known, task)
    splits = {split: split_of(table, classes) for split, table in tables.items()}
    # `label_names` come from a model, which knows classes that train may lack.
    if classes.names is not None and "train" in tables and not classes.multilabel and label_names is None:
        check_unseen(tables, splits, classes.names)
    if classes.names is None:
        for name, split in splits.items():
            check_spread(tables[name].path, name, split)
    say_about_texts(tables)
    if unlabelled is not None:
        splits["unlabelled"] = unlabelled.split(None)
    data = TextData(named.spec, splits, classes.names, classes.multilabel)
    return data if listed is None or label_names is None else with_label_names(data, label_names)


def _split_of(file: Path) -> str | None:
    stem, dot, suffix = file.name.lower().partition(".")
    split = _SPLITS.get(stem)
    suffixes = (*SUFFIXES, *PLAIN_SUFFIXES) if split == "unlabelled" else SUFFIXES
    return split if dot + suffix in suffixes else None


def _unlabelled(files: _Files, tables: dict[str, Table], file: Path | None) -> Table | None:
    """Return the texts without labels, from a separate file or from rows of the training file."""
    separated = tables["train"].unlabelled if "train" in tables else None
    if file is None:
        return separated
    if separated is not None:
        raise UserError(
            f"{files.path} has {file.name}, and {separated.path.name} has rows without a label. Move them to one file."
        )
    if file.name.lower().endswith(PLAIN_SUFFIXES):
        return read_plain(file)
    return read_table(file, labels="ignored", columns=files.columns)


def _labels_file(path: Path) -> tuple[str, ...] | None:
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise UserError(f"{path} is not a regular file. Replace it by a file with one class name a line, or remove it.")
    try:
        lines = lines_of(path.read_bytes().decode("utf-8-sig"))
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; expected UTF-8 text with one class name a line") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return checked_names([line.strip() for line in lines], str(path))


def _check_columns(tables: dict[str, Table]) -> None:
    """Check that all files have a second text or none, and that files with extra columns have those of train."""
    first, *others = tables.values()
    train = tables.get("train")
    for table in others:
        if (table.texts_b is None) != (first.texts_b is None):
            with_b, without = (table, first) if first.texts_b is None else (first, table)
            raise UserError(f"{with_b.path} has text_b and {without.path} has none; expected it in all files or none")
        if train is not None and table.extra and table.extra != train.extra:
            columns = listing(train.extra) or "no text_extra"
            raise UserError(
                f"{table.path} has {listing(table.extra)} and {train.path} {columns}; expected the same columns"
            )
