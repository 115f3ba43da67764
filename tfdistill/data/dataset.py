"""The interface of a labelled data set: splits that a tokenizer turns into rows, and rows that turn logits into scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from tfdistill.data.batching import Examples
from tfdistill.data.cut_texts import cut_line
from tfdistill.data.splits import labelled_rows
from tfdistill.errors import UserError
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer


class AnySplit(Protocol):
    """Examples of one split."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int] | np.ndarray, /) -> Self:
        """Return the examples at `indices`, in that order."""


@dataclass(frozen=True, eq=False)
class Rows(ABC):
    """A split as one tokenizer reads it. Subclasses know what the logits of a row mean.

    `labels` has one entry for each row; `token_labels` (total,) one for each token instead, -100 for tokens that do not count.
    """

    encoded: Encoded
    labels: np.ndarray | None
    token_labels: np.ndarray | None

    @property
    def examples(self) -> Examples:
        """The rows as `tfdistill.data.batching.dataset` takes them."""
        return Examples(self.encoded, self.labels, token_labels=self.token_labels)

    @property
    def labelled(self) -> np.ndarray:
        """Which rows have a label, (rows,) bool."""
        if self.token_labels is not None:
            return np.ones(len(self.encoded), bool)
        return labelled_rows(self.labels, len(self.encoded))

    def cut_line(self, max_length: int, *, option: str = "", longest: int | None = None) -> str | None:
        """Return a line about rows that were cut to `max_length`, as `tfdistill.data.cut_texts.cut_line` does."""
        return cut_line(self.encoded, max_length, option=option, longest=longest)

    @abstractmethod
    def score(self, logits: np.ndarray) -> dict[str, float]:
        """Return the scores of logits, the main one first.

        Args:
            logits: (rows, outputs), or (rows, tokens or more, outputs) for tags and answers.

        Raises:
            UserError: the split has no labels, or the logits have another shape or are not finite.
        """

    @abstractmethod
    def predictions(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """Return one JSON object for each text, sentence or question of the split. `logits` as for `score`."""


S = TypeVar("S", bound=AnySplit)


class Dataset(ABC, Generic[S]):
    """A labelled data set. The kinds are `TextData`, `TaggedData` and `QuestionData`, all frozen dataclasses.

    Attributes:
        name: where the data come from, for messages.
        splits: the examples, by name: "train", "dev", "test", "unlabelled" or others.
        label_names: the names of the classes or tags, by number; None if there are no classes.
        metrics: names of the scores that count for this data, the one that selects models first; empty for the usual ones.
        per_token: whether a model gives logits for each token, (rows, tokens, outputs), instead of (rows, outputs). Such data
            cannot be augmented, have no extra columns, and both models must read the same tokens.
    """

    name: str
    splits: dict[str, S]
    label_names: tuple[str, ...] | None
    metrics: tuple[str, ...]
    per_token: ClassVar[bool] = False

    def __repr__(self) -> str:
        """Return the name, the task, the number of classes and of examples, but no texts."""
        classes = "" if self.label_names is None else f"{len(self.label_names)} classes, "
        sizes = ", ".join(f"{name}: {len(split):,}" for name, split in self.splits.items())
        return f"{type(self).__name__}({self.name!r}, {self.task}, {classes}{sizes})"

    @property
    @abstractmethod
    def task(self) -> str:
        """The task of a model for this data, such as "classification"."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """The width of the model's output."""

    @property
    @abstractmethod
    def is_pair(self) -> bool:
        """Whether a row has two texts."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over the content as hexadecimal text; the name and the order of the splits do not count."""

    @abstractmethod
    def encode(self, split: S, tokenizer: Tokenizer, max_length: int) -> Rows:
        """Tokenize one of `splits`, or some of its examples, to rows of at most `max_length` tokens.

        Longer texts are cut, or become several windows. Raises UserError if `max_length` is too short.
        """

    def encode_for_teacher(self, split: S, tokenizer: Tokenizer, max_length: int, *, privileged: bool) -> Encoded:
        """Tokenize a split for a teacher that reads other tokens than the student, or extra columns (`privileged`).

        Raises UserError for data that are labelled token by token, or have no extra columns.
        """
        raise UserError(
            f"{self.name} is learned token by token, and the teacher has another vocabulary than the student. "
            "Use a student with the teacher's vocabulary."
        )

    def has_labels(self, split: str) -> bool:
        """Return whether a split has labels, so that logits can be scored."""
        return True

    def has_extra(self, split: str) -> bool:
        """Return whether a split has extra columns, which only a teacher may read (privileged information)."""
        return False

    def with_extra(self) -> Self:
        """Return the data with the extra columns as second text; splits without them are dropped.

        Raises UserError if the training split has no extra columns.
        """
        raise UserError(f"{self.name} has no column text_extra. Add it, or train without privileged=true.")

    def training_split(self, augment: Callable[[S], S] | None) -> S:
        """Return what a student trains on: the split "train", copies that `augment` makes, and the split "unlabelled".

        Raises UserError if the splits "train" or "dev" have no labels.
        """
        return self.splits["train"]

    def first(self, count: int) -> Self:
        """Return the data with the first `count` examples of each split."""
        splits = {name: split.take(range(min(len(split), count))) for name, split in self.splits.items()}
        return replace(self, splits=splits)  # type: ignore[type-var]


Data = Dataset[Any]
