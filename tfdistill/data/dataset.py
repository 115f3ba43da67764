"""Data of any kind as training and scoring need it: rows of ids with their labels, and the scores of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdistill.data import conll, squad, squad_answers
from tfdistill.data.batching import Examples
from tfdistill.data.conll import TaggedData, TaggedSplit
from tfdistill.data.splits import Split, TextData
from tfdistill.data.squad import QuestionData, QuestionSplit
from tfdistill.data.squad_answers import Prediction
from tfdistill.data.text_sources import load_data
from tfdistill.metrics.scores import score
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer

Data = TextData | TaggedData | QuestionData
AnySplit = Split | TaggedSplit | QuestionSplit


def load_any(spec: str, *, label_names: Sequence[str] | None = None, separate_unlabelled: bool = False) -> Data:
    """`load_data`, and also `conll:DIR` (see `tfdistill.data.conll`) and `squad:DIR` (see `tfdistill.data.squad`).

    Raises UserError as these do.
    """
    kind, _, name = spec.partition(":")
    if kind == "conll":
        return conll.load_conll(name, label_names=label_names)
    if kind == "squad":
        return squad.load_squad_directory(name)
    return load_data(spec, label_names=label_names, separate_unlabelled=separate_unlabelled)


@dataclass(frozen=True)
class Rows:
    """A split as one tokenizer reads it.

    labels: one entry a row, as in the split, or the first and last token of an answer (rows, 2). token_labels (total,): one for
    each token, −100 where none counts. made: the rows with what scores need beside them, for tags and answers.
    """

    encoded: Encoded
    labels: np.ndarray | None = None
    token_labels: np.ndarray | None = None
    made: Any = None

    @property
    def examples(self) -> Examples:
        """For `dataset`."""
        return Examples(self.encoded, self.labels, token_labels=self.token_labels)


def read_split(data: Data, split: AnySplit, tokenizer: Tokenizer, max_length: int) -> Rows:
    """Tokenize a split of `data`. Contexts of questions become windows, as the data's `reading` says.

    Raises UserError when `max_length` is too short for a question with some of its context.
    """
    if isinstance(data, TaggedData):
        assert isinstance(split, TaggedSplit)
        tagged = conll.tagged_rows(tokenizer, split, data.label_names, max_length=max_length)
        return Rows(tagged.encoded, token_labels=tagged.labels, made=tagged)
    if isinstance(data, QuestionData):
        assert isinstance(split, QuestionSplit)
        windows = squad.windows(tokenizer, split.questions, **data.reading.sizes(max_length))
        return Rows(windows.encoded, labels=windows.spans, made=windows)
    assert isinstance(split, Split)
    return Rows(tokenizer.encode(split.texts, split.texts_b, max_length=max_length), labels=split.labels)


def answers_in(data: QuestionData, split: QuestionSplit, rows: Rows, logits: np.ndarray) -> dict[str, Prediction]:
    """Answers by question id, chosen as the data's `reading` says."""
    chosen = data.reading.model_dump(include={"n_best", "max_answer_length", "threshold"})
    return squad_answers.predict_answers(split.questions, rows.made, logits, **chosen)


def has_labels(split: AnySplit) -> bool:
    """Whether logits on the split can be scored; tags and answers always can."""
    return not isinstance(split, Split) or split.labels is not None


def scores_of(data: Data, split: AnySplit, rows: Rows, logits: np.ndarray) -> dict[str, float]:
    """Scores of logits on a labelled split, the main one first.

    Args:
        rows: of `read_split`.
        logits: (rows, outputs), or (rows, tokens or more, outputs) of tags and answers.
    """
    if isinstance(data, TaggedData):
        assert isinstance(split, TaggedSplit)
        return conll.scores_of(split, rows.made, logits, data.label_names)
    if isinstance(data, QuestionData):
        assert isinstance(split, QuestionSplit)
        return squad_answers.scores_of(split.questions, answers_in(data, split, rows, logits))
    assert isinstance(split, Split)
    return score(data.task, split.known_labels, logits, data.metrics)
