"""What every data source returns: texts, labels and the names of the classes. No file formats here."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from tfdistill.errors import UserError

Task = Literal["classification", "regression"]


def nearest(name: str, choices: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the closest of `choices`, or "" when none is close: a part of an error message."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean '{by_lower[found[0]]}'?)" if found else ""


def listing(names: Iterable[str], limit: int = 10) -> str:
    """The names with commas between them, at most `limit`, for error messages."""
    names = list(names)
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")


@dataclass(frozen=True, eq=False)
class Split:
    """Examples of one split, all three sequences of one length.

    texts: the text, or the first of two. texts_b: the second text of each pair, or None.
    labels: int64 class numbers, float32 targets for regression, or None when the split has no labels.
    """

    texts: list[str]
    texts_b: list[str] | None = None
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, values in (("texts_b", self.texts_b), ("labels", self.labels)):
            if values is not None and len(values) != len(self.texts):
                raise ValueError(f"{name} has {len(values)} entries; expected {len(self.texts)}, as many as texts")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def known_labels(self) -> np.ndarray:
        """The labels. Raises UserError when the split has none."""
        if self.labels is None:
            raise UserError("this split has no labels; expected a 'label' column, choose another split or add it")
        return self.labels

    def take(self, indices: Sequence[int] | np.ndarray) -> Split:
        """The examples at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        return Split(
            [self.texts[i] for i in indices],
            None if self.texts_b is None else [self.texts_b[i] for i in indices],
            None if self.labels is None else self.labels[indices],
        )


@dataclass(frozen=True, eq=False)
class TextData:
    """A data set. `label_names[i]` is the name of class i; None means regression."""

    name: str
    splits: dict[str, Split]
    label_names: tuple[str, ...] | None

    @property
    def task(self) -> Task:
        return "regression" if self.label_names is None else "classification"

    @property
    def is_pair(self) -> bool:
        return any(split.texts_b is not None for split in self.splits.values())

    @property
    def num_outputs(self) -> int:
        """Width of the model's output: the number of classes, or 1 for regression."""
        return 1 if self.label_names is None else len(self.label_names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over class names, texts and labels, as hexadecimal text. Name and order of splits do not count."""
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
            if split.labels is not None:
                kind = "<f4" if self.label_names is None else "<i8"
                add(np.ascontiguousarray(split.labels, dtype=kind).tobytes())
        return digest.hexdigest()


def random_split(split: Split, seed: int) -> dict[str, Split]:
    """Cut one split into train, dev and test, 80/10/10: the first tenth of `default_rng(seed).permutation(n)`, rounded
    down, is test, the next tenth dev, and the rest train.

    Raises UserError with fewer than 10 examples.
    """
    count = len(split)
    if count < 10:
        raise UserError(
            f"got {count} examples to split 80/10/10; expected at least 10: give more, or a file for each split"
        )
    order = np.random.default_rng(seed).permutation(count)
    tenth = count // 10
    parts = {"train": order[2 * tenth :], "dev": order[tenth : 2 * tenth], "test": order[:tenth]}
    return {name: split.take(indices) for name, indices in parts.items()}


def with_label_names(data: TextData, label_names: Sequence[str]) -> TextData:
    """The same data with its classes numbered as in `label_names`, matched by name.

    Raises UserError when the data has a class that is not in `label_names`, or is no classification.
    """
    names = tuple(label_names)
    if data.label_names is None:
        raise UserError(
            f"{data.name} has numbers as targets (regression); expected the classes {listing(names)}: "
            "use a regression teacher or other data"
        )
    for name in data.label_names:
        if name not in names:
            raise UserError(
                f"{data.name} has the class '{name}'; expected one of {listing(names)}{nearest(name, names)}: "
                "use data and model with the same classes"
            )
    if names == data.label_names:
        return data
    number = np.array([names.index(name) for name in data.label_names], dtype=np.int64)
    splits = {
        key: Split(split.texts, split.texts_b, None if split.labels is None else number[split.labels])
        for key, split in data.splits.items()
    }
    return TextData(data.name, splits, names)
