"""Count the labels of splits, and see what is off with them. Pure functions of the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdistill.data.dataset import Data
from tfdistill.data.question_data import QuestionSplit
from tfdistill.data.splits import Split
from tfdistill.data.tagged_data import TaggedSplit

FEW_DEV_ROWS = 50  # fewer say little: one row is two points or more
_SHOWN, _RAREST = 12, 3  # classes that are counted one by one, and those named of more
_FEW_VALUES = 10  # different whole numbers that look like classes
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def label_counts(split: Any, data: Data) -> dict[str, int] | None:
    """Return how often each class, tag or kind of question occurs in a split; None without labels, or for numbers."""
    if isinstance(split, QuestionSplit):
        answered = sum(bool(question.answers) for question in split.questions)
        return {"with answer": answered, "without answer": len(split) - answered}
    if isinstance(split, TaggedSplit):
        counts = Counter(tag for row in split.tags for tag in row)
        return {name: counts[name] for name in data.label_names or ()}
    if not isinstance(split, Split) or split.labels is None or data.label_names is None:
        return None
    labels = split.labels[split.labelled]
    numbers = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(data.label_names))
    return {name: int(number) for name, number in zip(data.label_names, numbers, strict=True)}


def describe_split(split: Any, data: Data) -> dict[str, Any]:
    """Return the number of rows, of rows without a label, and the label counts in short."""
    known = split.labelled if isinstance(split, Split) else np.ones(len(split), bool)
    about: dict[str, Any] = {"rows": len(split), "without_label": int((~known).sum())}
    counts = label_counts(split, data)
    if counts is not None:
        return {**about, "labels": short(counts)}
    if isinstance(split, Split) and split.labels is not None and known.any():
        values = split.labels[known]
        about["values"] = {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}
    return about


def short(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the counts themselves, or for many classes their minimum, median and maximum and the rarest ones."""
    if len(counts) <= _SHOWN:
        return dict(counts)
    numbers = list(counts.values())
    rarest = sorted(counts, key=lambda name: counts[name])[:_RAREST]
    middle = {"min": min(numbers), "median": float(np.median(numbers)), "max": max(numbers)}
    return {"classes": len(counts), **middle, "rarest": {name: counts[name] for name in rarest}}


def label_warnings(data: Data) -> list[str]:
    """Return what is off with the labels: classes without rows, few dev rows, labels that look like the other kind."""
    warnings = []
    for name in ("train", "dev"):
        counts = label_counts(data.splits[name], data) if data.task != "question_answering" else None
        empty = [label for label, count in (counts or {}).items() if not count]
        if empty:
            warnings.append(f"{name} has no row of {_named(empty)}.")
    rows = len(data.splits["dev"])
    if rows < FEW_DEV_ROWS:
        warnings.append(f"dev has {rows} rows, each worth {100 / max(rows, 1):.1f} points: scores say little.")
    kind = other_kind(data)
    return [*warnings, kind] if kind else warnings


def other_kind(data: Data) -> str:
    """Return a warning about classes that look like numbers, or numbers that look like classes; "" for others."""
    names: Sequence[str] = data.label_names or ()
    numbered = list(names) == [str(number) for number in range(len(names))]  # class numbers, not quantities
    if names and not numbered and all(_NUMBER.fullmatch(name.strip()) for name in names):
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        return f"The labels of the {len(names)} classes look like numbers ({shown}). Are they numbers to predict?"
    labels = getattr(data.splits["train"], "labels", None)
    if data.task == "regression" and labels is not None:
        values = np.unique(labels[~np.isnan(labels)])
        if len(values) <= min(_FEW_VALUES, len(labels) // 2) and np.array_equal(values, np.round(values)):
            shown = ", ".join(f"{value:g}" for value in values)
            return f"The numbers to predict are only {shown}. Are they classes?"
    return ""


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_RAREST])
    more = f" and {len(names) - _RAREST} more" if len(names) > _RAREST else ""
    return f"{'class' if len(names) == 1 else 'the classes'} {shown}{more}"
