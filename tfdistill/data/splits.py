"""Texts with labels: one split, and how splits are joined and divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfdistill.errors import UserError

# The tasks whose logits are (rows, tokens, outputs).
PER_TOKEN = ("token_classification", "question_answering")


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples of one split, columns of the same length.

    Args:
        texts: the text, or the first of a pair.
        texts_b: the second text of each pair; None for single texts.
        labels: class numbers (n,) int64; numbers (n,) float32 for regression; 0 or 1 (n, classes) float32 for several classes;
            None without labels. A single row without a label has class -1, the number NaN, or -1 for each class.
        texts_extra: further columns that only a teacher may read (privileged information); "" for a row without.
    """

    texts: list[str]
    texts_b: list[str] | None = None
    labels: np.ndarray | None = None
    texts_extra: tuple[list[str], ...] = ()

    def __post_init__(self) -> None:
        columns: list[tuple[str, Sequence[str] | np.ndarray | None]] = [
            ("texts_b", self.texts_b),
            ("labels", self.labels),
            *(("texts_extra", column) for column in self.texts_extra),
        ]
        for name, values in columns:
            if values is not None and len(values) != len(self.texts):
                raise ValueError(f"{name} has {len(values)} entries; expected {len(self.texts)}, the number of texts")

    def __repr__(self) -> str:
        kind = "texts" if self.texts_b is None else "pairs of texts"
        labels = "without labels" if self.labels is None else f"with {int(self.labelled.sum()):,} labels"
        return f"Split({len(self):,} {kind} {labels})"

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def known_labels(self) -> np.ndarray:
        """The labels; raises UserError if the split has none."""
        if self.labels is None:
            raise UserError("this split has no labels. Choose another split or add a column 'label'.")
        return self.labels

    @property
    def labelled(self) -> np.ndarray:
        """Which rows have a label, (n,) bool."""
        return labelled_rows(self.labels, len(self))

    def with_extra(self) -> Split:
        """Return what a teacher with privileged information reads.

        The second text of a pair becomes text_b and the extra texts, joined by spaces; labels stay.

        Raises:
            UserError: the split has no extra texts.
        """
        if not self.texts_extra:
            raise UserError("this split has no extra texts. Add a column text_extra (text_extra_2, …).")
        columns = ([] if self.texts_b is None else [self.texts_b]) + list(self.texts_extra)
        return Split(self.texts, [" ".join(filter(None, row)) for row in zip(*columns, strict=True)], self.labels)

    def take(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Return the examples at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        return Split(
            [self.texts[i] for i in indices],
            None if self.texts_b is None else [self.texts_b[i] for i in indices],
            None if self.labels is None else self.labels[indices],
            tuple([column[i] for i in indices] for column in self.texts_extra),
        )


def labelled_rows(labels: np.ndarray | None, rows: int) -> np.ndarray:
    """Return which of `rows` rows have a label, (rows,) bool. Missing labels are marked as `concatenate` marks them."""
    if labels is None:
        return np.zeros(rows, bool)
    known = labels >= 0 if labels.dtype.kind == "i" or labels.ndim == 2 else ~np.isnan(labels)
    return np.asarray(known.all(axis=1) if known.ndim == 2 else known)


def concatenate(parts: Sequence[Split]) -> Split:
    """Return the rows of all parts, one after the other; labels are None if no part has any.

    Rows of a part without labels, such as the split "unlabelled", are marked as `Split` says. Missing extra texts become "".

    Raises:
        UserError: only some parts have a second text.
    """
    if len({part.texts_b is None for part in parts}) > 1:
        raise UserError("got rows with and without text_b; expected a second text in all parts or in none")
    known = [part.labels for part in parts if part.labels is not None]

    def labels(part: Split) -> np.ndarray:
        if part.labels is not None:
            return part.labels
        missing = np.nan if known[0].ndim == 1 and known[0].dtype.kind == "f" else -1
        return np.full((len(part), *known[0].shape[1:]), missing, known[0].dtype)

    def extra(part: Split, number: int) -> list[str]:
        return part.texts_extra[number] if number < len(part.texts_extra) else [""] * len(part)

    return Split(
        [text for part in parts for text in part.texts],
        None if not parts or parts[0].texts_b is None else [text for part in parts for text in part.texts_b or []],
        np.concatenate([labels(part) for part in parts]) if known else None,
        tuple(
            [text for part in parts for text in extra(part, number)]
            for number in range(max((len(part.texts_extra) for part in parts), default=0))
        ),
    )


def random_split(split: Split, seed: int) -> dict[str, Split]:
    """Divide a split into train, dev and test, 80/10/10.

    The first tenth of `numpy.random.default_rng(seed).permutation(n)`, rounded down, is test, the next tenth dev, the rest train.

    Raises:
        UserError: there are fewer than 10 examples.
    """
    count = len(split)
    if count < 10:
        raise UserError(f"got {count} examples to split 80/10/10; expected 10 or more")
    order = np.random.default_rng(seed).permutation(count)
    tenth = count // 10
    parts = {"train": order[2 * tenth :], "dev": order[tenth : 2 * tenth], "test": order[:tenth]}
    return {name: split.take(indices) for name, indices in parts.items()}
