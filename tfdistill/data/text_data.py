"""Data of one or two texts and one label each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from tfdistill.data.dataset import Dataset, Rows
from tfdistill.data.splits import Split, concatenate
from tfdistill.errors import UserError, listing, nearest, short
from tfdistill.metrics.scores import score, softmax
from tfdistill.system.console import say
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer

TextTask = Literal["classification", "regression", "multilabel"]
TEXT_TASKS: tuple[TextTask, ...] = ("classification", "regression", "multilabel")


@dataclass(frozen=True, eq=False, repr=False)
class TextData(Dataset[Split]):
    """Texts, or pairs of texts, with a class, a number or several classes each.

    Without `label_names` the labels are numbers (regression); with `multilabel` an example has any number of the classes.
    `metrics` are names of `tfdistill.metrics.scores.score`.
    """

    name: str
    splits: dict[str, Split]
    label_names: tuple[str, ...] | None
    multilabel: bool = False
    metrics: tuple[str, ...] = ()

    @property
    def task(self) -> TextTask:
        if self.label_names is None:
            return "regression"
        return "multilabel" if self.multilabel else "classification"

    @property
    def is_pair(self) -> bool:
        return any(split.texts_b is not None for split in self.splits.values())

    @property
    def num_outputs(self) -> int:
        return 1 if self.label_names is None else len(self.label_names)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()

        def add(content: bytes) -> None:
            digest.update(len(content).to_bytes(8, "little"))  # the length first: no two contents run together
            digest.update(content)

        for name in self.label_names or ():
            add(name.encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            add(f"{name} {len(split)} {split.texts_b is not None} {split.labels is not None}".encode())
            for text in split.texts + (split.texts_b or []):
                add(text.encode("utf-8", "surrogatepass"))
            for number, column in enumerate(split.texts_extra, start=1):
                add(f"extra {number}".encode())
                for text in column:
                    add(text.encode("utf-8", "surrogatepass"))
            if split.labels is not None:
                kind = "<i8" if self.task == "classification" else "<f4"
                add(np.ascontiguousarray(split.labels, dtype=kind).tobytes())
        return digest.hexdigest()

    def encode(self, split: Split, tokenizer: Tokenizer, max_length: int) -> TextRows:
        encoded = tokenizer.encode(split.texts, split.texts_b, max_length=max_length)
        return TextRows(encoded, split.labels, None, split, self)

    def encode_for_teacher(self, split: Split, tokenizer: Tokenizer, max_length: int, *, privileged: bool) -> Encoded:
        return self.encode(split.with_extra() if privileged else split, tokenizer, max_length).encoded

    def has_labels(self, split: str) -> bool:
        return self.splits[split].labels is not None

    def has_extra(self, split: str) -> bool:
        return bool(self.splits[split].texts_extra)

    def with_extra(self) -> Self:
        if not self.has_extra("train"):
            return super().with_extra()
        return replace(
            self, splits={name: self.splits[name].with_extra() for name in self.splits if self.has_extra(name)}
        )

    def training_split(self, augment: Callable[[Split], Split] | None) -> Split:
        train = self.splits["train"]
        if train.labels is None or self.splits["dev"].labels is None:
            raise UserError(f"{self.name}: the splits train and dev need labels. Add a column 'label'.")
        parts = [train] if augment is None else [train, augment(train)]
        return concatenate(parts + [self.splits[name] for name in ("unlabelled",) if name in self.splits])


@dataclass(frozen=True, eq=False)
class TextRows(Rows):
    """One row for each text or pair of `split`; logits are (rows, outputs)."""

    split: Split
    data: TextData

    def score(self, logits: np.ndarray) -> dict[str, float]:
        return score(self.data.task, self.split.known_labels, logits, self.data.metrics)

    def predictions(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """Return text, text_b, label if it is known, predicted, and for classes their probabilities."""
        rows = []
        for number, outputs in enumerate(np.asarray(logits, np.float64)):
            row: dict[str, Any] = {"text": self.split.texts[number]}
            if self.split.texts_b is not None:
                row["text_b"] = self.split.texts_b[number]
            if self.split.labels is not None:
                row["label"] = self._label(self.split.labels[number])
            rows.append(row | self._predicted(outputs))
        return rows

    def _predicted(self, outputs: np.ndarray) -> dict[str, Any]:
        names = self.data.label_names
        if names is None:
            return {"predicted": float(outputs[0])}
        if self.data.multilabel:
            predicted, probabilities = self._label(outputs > 0), 1 / (1 + np.exp(-outputs))
        else:
            predicted, probabilities = names[outputs.argmax()], softmax(outputs)
        return {
            "predicted": predicted,
            "probabilities": {name: float(value) for name, value in zip(names, probabilities, strict=True)},
        }

    def _label(self, label: Any) -> Any:
        """Return a class by its name, the names of several classes, or a number."""
        names, label = self.data.label_names, np.asarray(label)
        if names is None:
            return label.item()
        return [name for name, has in zip(names, label, strict=True) if has] if label.ndim else names[int(label)]


def with_label_names(data: TextData, label_names: Sequence[str]) -> TextData:
    """Return the data with its classes numbered as in `label_names`, matched by name.

    Raises:
        UserError: the data have a class that is not in `label_names`, or no classes.
    """
    names, places = tuple(label_names), {name: place for place, name in enumerate(label_names)}
    if data.label_names is None:
        raise UserError(f"{data.name} has numbers as labels (regression); expected the classes {listing(names)}")
    for name in data.label_names:
        if name not in places:
            raise UserError(
                f"{data.name} has the class '{short(name)}'; expected one of {listing(names)}{nearest(name, names)}"
            )
    if names == data.label_names:
        return data
    number = np.array([places[name] for name in data.label_names], dtype=np.int64)

    def renumbered(labels: np.ndarray) -> np.ndarray:
        if not data.multilabel:
            return np.where(labels < 0, labels, number[labels])
        moved = np.zeros((len(labels), len(names)), labels.dtype)
        moved[:, number] = labels
        moved[(labels < 0).any(axis=1)] = -1
        return moved

    splits = {
        key: replace(split, labels=None if split.labels is None else renumbered(split.labels))
        for key, split in data.splits.items()
    }
    return replace(data, splits=splits, label_names=names)


def without_missing_labels(data: TextData) -> TextData:
    """Return the data with labels in every row of the splits that have labels.

    Rows whose label is missing (class -1, the number NaN) move from train to "unlabelled", and are dropped from other splits. A
    split without any label has None; so has a test split for regression in which every label is -1. Lines say so.
    """
    splits, moved = dict(data.splits), []
    for name, split in data.splits.items():
        if split.labels is None:
            continue
        known = split.labelled
        if data.label_names is None and name.startswith("test") and (split.labels == -1).all():
            known = np.zeros(len(split), bool)
        missing = int((~known).sum())
        if not missing:
            continue
        if missing == len(split):
            splits[name], done = replace(split, labels=None), "the split has no labels"
        else:
            splits[name], done = split.take(np.flatnonzero(known)), "they are not read"
            if name == "train":
                moved, done = [replace(split.take(np.flatnonzero(~known)), labels=None)], "they move to unlabelled"
        say(f"{data.name}: {missing} rows of {name} have the label -1, which means no label; {done}")
    if moved:
        splits["unlabelled"] = concatenate([*(data.splits[name] for name in ("unlabelled",) if name in splits), *moved])
    return replace(data, splits=splits)
