"""Read the TSV files of GLUE (Wang et al. 2019), and name the scores of its nine tasks.

Class names and their order are the same as in TensorFlow Datasets (`tfds:glue/mrpc`), so that models trained on either fit both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdistill.data.delimited import lines_of, say_returns
from tfdistill.data.records import decoded, read_bytes
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError, listing, nearest, short
from tfdistill.system.console import say

_ENTAILS = ("entailment", "not_entailment")
_FILES = (("train", "train.tsv"), ("dev", "dev.tsv"), ("test", "test.tsv"))
_MNLI_FILES = (
    ("train", "train.tsv"),
    ("dev", "dev_matched.tsv"),
    ("dev_mismatched", "dev_mismatched.tsv"),
    ("test", "test_matched.tsv"),
    ("test_mismatched", "test_mismatched.tsv"),
)


@dataclass(frozen=True)
class Task:
    """One task of GLUE.

    Args:
        folder: GLUE's name of its directory.
        columns: the text columns.
        label: the label column.
        labels: the class name of each label in the file; None for regression.
        metrics: names of `tfdistill.metrics.scores.score`.
        files: pairs of split and file name.
    """

    folder: str
    columns: tuple[str, ...]
    label: str
    labels: dict[str, str] | None
    metrics: tuple[str, ...] = ("accuracy",)
    files: tuple[tuple[str, str], ...] = _FILES


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


GLUE = {
    "cola": Task("CoLA", ("sentence",), "label", {"0": "unacceptable", "1": "acceptable"}, ("matthews",)),
    "sst2": Task("SST-2", ("sentence",), "label", {"0": "negative", "1": "positive"}),
    "mrpc": Task(
        "MRPC", ("#1 String", "#2 String"), "Quality", {"0": "not_equivalent", "1": "equivalent"}, ("f1", "accuracy")
    ),
    "stsb": Task("STS-B", ("sentence1", "sentence2"), "score", None, ("spearman", "pearson")),
    "qqp": Task(
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        {"0": "not_duplicate", "1": "duplicate"},
        ("f1", "accuracy"),
    ),
    "mnli": Task(
        "MNLI",
        ("sentence1", "sentence2"),
        "gold_label",
        _same("entailment", "neutral", "contradiction"),
        files=_MNLI_FILES,
    ),
    "qnli": Task("QNLI", ("question", "sentence"), "label", _same(*_ENTAILS)),
    "rte": Task("RTE", ("sentence1", "sentence2"), "label", _same(*_ENTAILS)),
    "wnli": Task("WNLI", ("sentence1", "sentence2"), "label", {"0": "not_entailment", "1": "entailment"}),
}
# CoLA's train and dev files have no header line.
_COLA = ["source", "label", "mark", "sentence"]


def metrics(task: str) -> tuple[str, ...]:
    """Return the names of the scores of a GLUE task, the one that selects models first; () for other tasks."""
    return GLUE[task].metrics if task in GLUE else ()


def load(name: str) -> TextData:
    """Load the data "TASK:DIR".

    The splits are train, dev and test, as far as the files exist; the dev and test of MNLI are the matched ones, next to
    dev_mismatched and test_mismatched. GLUE's test files have no labels. The few rows of QQP that are cut short are skipped.

    Args:
        name: the task and the directory of its files, or a directory that has it under GLUE's name.

    Raises:
        UserError: unknown task, missing or damaged files, or labels of another task.
    """
    task_name, colon, folder = name.partition(":")
    if task_name not in GLUE:
        raise UserError(f"got glue:{name}; expected glue:TASK:DIR, one of {listing(GLUE)}{nearest(task_name, GLUE)}")
    if not colon or not folder:
        raise UserError(f"got glue:{name} without a directory; expected glue:{name}:DIR with GLUE's .tsv files")
    task = GLUE[task_name]
    directory = Path(folder).expanduser()
    if (directory / task.folder).is_dir():
        directory = directory / task.folder
    splits = {}
    for split, file in task.files:
        if (directory / file).is_file():
            splits[split] = _read(directory / file, task_name, task, "test" not in split)
    if not splits:
        raise UserError(f"no GLUE files in {directory}; expected {listing(file for _, file in task.files)}")
    names = None if task.labels is None else tuple(task.labels.values())
    return TextData(f"glue:{task_name}", splits, names, metrics=task.metrics)


def _read(path: Path, task_name: str, task: Task, labelled: bool) -> Split:
    rows = [
        (number, line.split("\t")) for number, line in enumerate(lines_of(decoded(path, read_bytes(path))), start=1)
    ]
    say_returns(path, rows)
    header = rows.pop(0)[1] if task_name != "cola" or not labelled else _COLA
    columns = [*task.columns, *([task.label] if labelled else [])]
    for column in columns:
        if column not in header:
            raise UserError(
                f"{path}, line 1: no column '{column}'; found {listing(header)}{nearest(column, header)}. "
                f"Use GLUE's own {task.folder} file."
            )
    places = [header.index(column) for column in columns]
    if task_name == "qqp":  # a few rows are cut short, since their questions have line ends in them
        whole = [(number, cells) for number, cells in rows if len(cells) > max(places)]
        if len(whole) < len(rows):
            say(f"{path}: {len(rows) - len(whole)} rows are cut short and are not read")
        rows = whole
    texts: list[tuple[str, ...]] = []
    labels: list[float] = []
    for number, cells in rows:
        if len(cells) <= max(places):
            raise UserError(f"{path}, line {number}: got {len(cells)} cells; expected {len(header)}")
        texts.append(tuple(cells[place] for place in places[: len(task.columns)]))
        if labelled:
            labels.append(_label(path, number, task, cells[places[-1]].strip()))
    if not texts:
        raise UserError(f"{path} has a header and no rows; expected examples. Fetch the file again.")
    first, *second = (list(column) for column in zip(*texts, strict=True))
    kind = np.float32 if task.labels is None else np.int64
    return Split(first, second[0] if second else None, np.array(labels, kind) if labelled else None)


def _label(path: Path, line: int, task: Task, text: str) -> float:
    if task.labels is None:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if 0 <= value <= 5:
            return value
        if value == -1:  # no label
            return float("nan")
        raise UserError(f"{path}, line {line}: {task.label} is '{short(text)}'; expected a number from 0 to 5")
    if text == "-1":  # no label
        return -1
    if text not in task.labels:
        raise UserError(f"{path}, line {line}: {task.label} is '{short(text)}'; expected one of {listing(task.labels)}")
    return list(task.labels).index(text)
