"""Training and dev examples of a recipe: its texts, augmented and tokenized for the student and for the teachers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.data.batching import Examples
from tfdistill.data.dataset import Rows
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.limits import check_encoded
from tfdistill.system.console import task
from tfdistill.text.alignment import align_words
from tfdistill.text.encoded import Encoded
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


@dataclass(frozen=True)
class Prepared:
    """Training and dev examples of a recipe as token ids.

    Args:
        texts: the training split, then its augmented copies, then examples without labels; None for a recipe without data.
        train: the same examples as the student reads them; None for a recipe without data.
        dev: the dev split as the student reads it; None for a recipe without data.
        teacher_logits: (n, C) mean of the teachers' logits, if they are known already, so that several runs share them.
        read_by_teachers: the training examples by vocabulary, and whether with the extra columns; filled when needed.
    """

    texts: Any
    train: Rows | None
    dev: Rows | None
    teacher_logits: np.ndarray | None = None
    read_by_teachers: dict[tuple[str, bool], Encoded] = field(default_factory=dict)

    def __len__(self) -> int:
        return 0 if self.train is None else len(self.train.encoded)

    def read_by(self, recipe: Recipe, teacher: TextModel) -> Encoded | None:
        """Return the training examples as `teacher` reads them; None if the student reads the same.

        Raises UserError for labels of tokens if the two models have different vocabularies.
        """
        key = (teacher.tokenizer.fingerprint, recipe.privileged)
        if key == (recipe.student.tokenizer.fingerprint, False):
            return None
        if key not in self.read_by_teachers:
            self.read_by_teachers[key] = read_for_teacher(recipe, teacher, self.texts)
        return self.read_by_teachers[key]

    def first(self, count: int) -> Prepared:
        """Return the first `count` training examples; with the size of the training split, those without augmentation."""
        rows, train = np.arange(count), self.train
        assert train is not None and train.token_labels is None, "examples with tags do not correspond to texts"
        labels = None if train.labels is None else train.labels[:count]
        return replace(
            self,
            texts=self.texts.take(rows),
            train=replace(train, encoded=train.encoded.take(rows), labels=labels),
            teacher_logits=None if self.teacher_logits is None else self.teacher_logits[:count],
            read_by_teachers={key: read.take(rows) for key, read in self.read_by_teachers.items()},
        )

    def rows(self, which: str) -> np.ndarray:
        """Return the numbers of the "labelled", "unlabelled" or "all" examples. Raises UserError if there are none."""
        assert self.train is not None
        known = self.train.labelled
        rows = np.flatnonzero({"labelled": known, "unlabelled": ~known, "all": np.ones_like(known)}[which])
        if not len(rows):
            raise UserError(f"A stage trains on {which} rows, and the data has none. Add a split or file '{which}'.")
        return rows


def read_for_teacher(recipe: Recipe, teacher: TextModel, split: Any) -> Encoded:
    """Encode a split of the recipe's data as `teacher` reads it."""
    assert recipe.data is not None
    length = recipe.teacher_length
    return recipe.data.encode_for_teacher(split, teacher.tokenizer, length, privileged=recipe.privileged)


def prepare(recipe: Recipe, seed: int) -> Prepared:
    """Augment and tokenize. The result depends on the data, `recipe.augment` and `seed` only, so that runs may share it."""
    data, tokenizer = recipe.data, recipe.student.tokenizer
    if data is None:
        return Prepared(None, None, None)
    dev = data.encode(data.splits["dev"], tokenizer, recipe.max_length)
    texts = data.training_split(None if recipe.augment is None else partial(_augmented, recipe, seed))
    train = data.encode(texts, tokenizer, recipe.max_length)
    for rows in (train, dev):
        check_encoded(recipe.student.config, rows.encoded, "student")
    return Prepared(texts, train, dev)


def _augmented(recipe: Recipe, seed: int, split: Split) -> Split:
    assert recipe.augment is not None
    with task("augmenting", None):
        return recipe.augment(split, seed)


def take(examples: Examples, rows: np.ndarray) -> Examples:
    """Return some of the examples, in the order of `rows`."""
    ids, tags = examples.student, examples.token_labels
    return replace(
        examples,
        student=ids.take(rows),
        token_labels=None if tags is None else replace(ids, token_ids=tags).take(rows).token_ids,
        labels=None if examples.labels is None else examples.labels[rows],
        teacher=None if examples.teacher is None else examples.teacher.take(rows),
        teacher_features={name: value[rows] for name, value in examples.teacher_features.items()},
        stored=tuple(stored.take(rows) for stored in examples.stored),
    )


def aligned(examples: Examples, stage: Stage, student: TextModel, teacher: TextModel) -> Examples:
    """Add the words that both models share, if they read different tokens and a term compares token by token."""
    if examples.teacher is None or not stage.by_token:
        return examples
    student_ids, teacher_ids = align_words(examples.student, student.tokenizer, examples.teacher, teacher.tokenizer)
    return replace(examples, student=student_ids, teacher=teacher_ids)
