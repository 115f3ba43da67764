"""GLUE (Wang et al. 2019): its own TSV files, as its download script leaves them, and the scores of its nine tasks.

`load_data("glue:mrpc:DIR")` reads them; class names and their order are those of TensorFlow Datasets (`tfds:glue/mrpc`),
so that models trained on either fit both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdistill.data.splits import Split
from tfdistill.data.records import decoded, read_bytes
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError, listing, nearest

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
    """One task. labels: what stands in the file → class name; None for regression. metrics: see `metrics.score`. files:
    (split, file name) each."""

    folder: str
    columns: tuple[str, ...]
    label: str
    labels: dict[str, str] | None
    metrics: tuple[str, ...] = ("accuracy",)
    files: tuple[tuple[str, str], ...] = _FILES


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


TASKS = {
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
    """Names of the scores of a GLUE task, the one to select models by first; () for a task that has none of its own."""
    return TASKS[task].metrics if task in TASKS else ()


def load(name: str) -> TextData:
    """The data of "<task>:<directory>". The directory is the task's own, or one that holds it under GLUE's name for it.

    Splits: train, dev and test, of which any may be missing but not all; MNLI also has dev_mismatched and
    test_mismatched, its dev and test being the matched ones. GLUE's test files have no labels: theirs are None. QQP's
    few rows that are cut short are left out, as everywhere.

    Raises UserError for an unknown task, missing or damaged files, and labels that are not the task's.
    """
    task_name, colon, folder = name.partition(":")
    if task_name not in TASKS:
        raise UserError(
            f"unknown GLUE task '{task_name}'; expected glue:<task>:<directory> with one of "
            f"{listing(TASKS)}{nearest(task_name, TASKS)}"
        )
    if not colon or not folder:
        raise UserError(f"got glue:{name} without a directory; expected glue:{name}:<directory> with GLUE's .tsv files")
    task = TASKS[task_name]
    directory = Path(folder).expanduser()
    if (directory / task.folder).is_dir():
        directory = directory / task.folder
    splits = {}
    for split, file in task.files:
        if (directory / file).is_file():
            splits[split] = _read(directory / file, task_name, task, "test" not in split)
    if not splits:
        raise UserError(
            f"no GLUE files in {directory}; expected {listing(file for _, file in task.files)}: "
            "give the directory that GLUE's download made"
        )
    names = None if task.labels is None else tuple(task.labels.values())
    return TextData(f"glue:{task_name}", splits, names, metrics=task.metrics)


def _read(path: Path, task_name: str, task: Task, labelled: bool) -> Split:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a readable file") from error
    lines = [line.removesuffix("\r") for line in decoded(path, content).rstrip("\r\n").split("\n")]
    first = 1
    header = _COLA
    if task_name != "cola" or not labelled:
        header, first = lines[0].split("\t"), 2
    wanted = [*task.columns, *([task.label] if labelled else [])]
    for column in wanted:
        if column not in header:
            raise UserError(
                f"{path}, line 1: no column '{column}'; found {listing(header)}{nearest(column, header)}: "
                f"expected GLUE's own {task.folder} file"
            )
    places = [header.index(column) for column in wanted]
    rows: list[list[str]] = []
    labels: list[float] = []
    for number, line in enumerate(lines[first - 1 :], start=first):
        cells = line.split("\t")
        if len(cells) <= max(places):
            if task_name == "qqp":  # some questions have line ends in them
                continue
            raise UserError(
                f"{path}, line {number}: got {len(cells)} cells; expected {len(header)}: fetch the file again"
            )
        found = [cells[place] for place in places]
        rows.append(found[: len(task.columns)])
        if labelled:
            labels.append(_label(path, number, task, found[-1].strip()))
    if not rows:
        raise UserError(f"{path} has a header and no rows; expected examples: fetch the file again")
    columns = [list(column) for column in zip(*rows, strict=True)]
    kind = np.float32 if task.labels is None else np.int64
    return Split(columns[0], columns[1] if len(columns) == 2 else None, np.array(labels, kind) if labelled else None)


def _label(path: Path, line: int, task: Task, text: str) -> float:
    if task.labels is None:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if 0 <= value <= 5:
            return value
        raise UserError(f"{path}, line {line}: {task.label} is '{text}'; expected a number from 0 to 5")
    if text not in task.labels:
        raise UserError(f"{path}, line {line}: {task.label} is '{text}'; expected one of {listing(task.labels)}")
    return list(task.labels).index(text)
