"""What a recipe trains on: its texts augmented and tokenized, for the student and for the teachers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tfdistill.data.batching import Examples
from tfdistill.data.dataset import AnySplit, Rows, read_split
from tfdistill.data.splits import Split, concatenate
from tfdistill.errors import UserError
from tfdistill.models.predict import encode
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import task
from tfdistill.text.alignment import align_words
from tfdistill.text.encoded import Encoded
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage


@dataclass
class Prepared:
    """Training and dev rows of a recipe as ids, and the teacher's logits once they were asked for.

    The rows of `texts`, `train`, `labels`: the training split, its augmented copies, rows without labels.
    """

    texts: AnySplit
    train: Encoded
    labels: np.ndarray | None
    dev: Rows
    teacher_length: int
    teacher_logits: np.ndarray | None = None
    token_labels: np.ndarray | None = None
    read_by_teachers: dict[tuple[str, bool], Encoded] = field(default_factory=dict)

    def read_by(self, teacher: TextModel, student: TextModel, privileged: bool) -> Encoded | None:
        """What `teacher` reads of the training rows; None where that is the same as what the student reads."""
        key = (teacher.tokenizer.fingerprint, privileged)
        if key == (student.tokenizer.fingerprint, False):
            return None
        if not isinstance(self.texts, Split):
            raise UserError(
                "tags and answers are learned piece by piece, and the teacher reads other pieces than the student; use a "
                "student with the teacher's vocabulary"
            )
        if key not in self.read_by_teachers:
            self.read_by_teachers[key] = encode_for(teacher, self.texts, self.teacher_length, privileged)
        return self.read_by_teachers[key]

    def first(self, count: int) -> Prepared:
        """The first `count` training rows, with their logits; as many as the training split has leave out all others."""
        rows = np.arange(count)
        assert self.token_labels is None, "rows of tags are not one for each of the texts"
        return replace(
            self,
            texts=self.texts.take(rows),
            train=self.train.take(rows),
            labels=None if self.labels is None else self.labels[:count],
            teacher_logits=None if self.teacher_logits is None else self.teacher_logits[:count],
            read_by_teachers={key: read.take(rows) for key, read in self.read_by_teachers.items()},
        )

    def rows(self, which: str) -> np.ndarray:
        """Numbers of the rows that a stage trains on. Raises UserError when there are none."""
        known = self.texts.labelled if isinstance(self.texts, Split) else np.ones(len(self.train), bool)
        rows = np.flatnonzero({"labelled": known, "unlabelled": ~known, "all": np.ones_like(known)}[which])
        if not len(rows):
            raise UserError(f"a stage trains on {which} rows, the data has none; add a split or file '{which}'")
        return rows


def encode_for(teacher: TextModel, split: Split, max_length: int, privileged: bool) -> Encoded:
    """What `teacher` reads of a split."""
    return encode(teacher, split.with_extra() if privileged else split, max_length)


def prepare(recipe: Recipe, seed: int) -> Prepared:
    """Augment and tokenize. Depends on the data, `recipe.augment` and `seed` only, so that runs may share it."""
    train, dev = recipe.data.splits["train"], recipe.data.splits["dev"]
    tokenizer = recipe.student.tokenizer
    read_dev = read_split(recipe.data, dev, tokenizer, recipe.max_length)
    if not isinstance(train, Split):
        rows = read_split(recipe.data, train, tokenizer, recipe.max_length)
        return Prepared(
            train, rows.encoded, rows.labels, read_dev, recipe.teacher_length, token_labels=rows.token_labels
        )
    assert isinstance(dev, Split)
    if train.labels is None or dev.labels is None:
        raise UserError(f"{recipe.data.name}: train and dev need labels; received none")
    parts = [train]
    if recipe.augment is not None:
        with task("augmenting", None):
            parts.append(recipe.augment(train, seed))
    unlabelled = recipe.data.splits.get("unlabelled")
    if isinstance(unlabelled, Split):
        parts.append(unlabelled)
    texts = concatenate(parts)
    return Prepared(
        texts=texts,
        train=encode(recipe.student, texts, recipe.max_length),
        labels=texts.labels,
        dev=read_dev,
        teacher_length=recipe.teacher_length,
    )


def take(examples: Examples, rows: np.ndarray) -> Examples:
    """Some of the rows, in that order."""
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
    """With the words that both share, where the teacher reads other pieces and a term compares token by token."""
    if examples.teacher is None or not any(term.by_token for term in stage.terms):
        return examples
    ours, theirs = align_words(examples.student, student.tokenizer, examples.teacher, teacher.tokenizer)
    return replace(examples, student=ours, teacher=theirs)
