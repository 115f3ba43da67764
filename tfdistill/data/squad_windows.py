"""Cut long contexts of questions into overlapping windows, as BERT does (Devlin et al. 2019, section 4.2 and its SQuAD example)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from tfdistill.data.squad import Answer, Question
from tfdistill.errors import UserError
from tfdistill.system.console import task
from tfdistill.text.encoded import Encoded, Tokens
from tfdistill.text.tokenizer import Tokenizer

_MANY = 2_000_000  # tokens of all contexts, from which on progress is shown


def _silent() -> None:
    pass


@dataclass(frozen=True)
class Windows:
    """[CLS] question [SEP] part of the context [SEP], one row for each window; long contexts have several that overlap.

    Args:
        encoded: the rows.
        question: (rows,) int64, the number of the question.
        spans: (rows, 2) int64, first and last token of the answer; both 0 ([CLS]) if the window does not hold all of it.
        starts: (total,) int32, the first character of each token in the context, -1 outside of the context.
        ends: (total,) int32, the character after its last one, -1 outside of the context.
        best: (total,) bool, whether this window shows more around the token than any other.
    """

    encoded: Encoded
    question: np.ndarray
    spans: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    best: np.ndarray

    def __len__(self) -> int:
        return len(self.encoded)


def windows(
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    max_length: int = 384,
    stride: int = 128,
    max_question_length: int = 64,
) -> Windows:
    """Cut questions and contexts into rows of at most `max_length` tokens.

    Args:
        tokenizer: of the model.
        questions: with their contexts.
        max_length: tokens of a row.
        stride: tokens of the context between the beginnings of two windows.
        max_question_length: tokens of a question that are kept.

    Raises:
        UserError: `max_length` leaves no room for `stride` tokens of context, so that some tokens would be in no window.
    """
    special = 2 + tokenizer.separators
    room = max_length - max_question_length - special
    if stride < 1 or max_question_length < 1 or room < stride:
        raise UserError(
            f"max_length {max_length} leaves {room} tokens for the context with stride {stride}; expected at least the "
            f"stride. Use a max_length of {max_question_length + special + max(stride, 1)} or more, or a shorter stride."
        )
    heads = tokenizer.tokens([question.question for question in questions])
    contexts = list(dict.fromkeys(question.context for question in questions))
    number = {context: place for place, context in enumerate(contexts)}
    read = tokenizer.tokens(contexts)
    rows: list[tuple[np.ndarray, ...]] = []
    owners, spans = [], []
    total = sum(len(read.row(number[question.context]).ids) for question in questions)
    with task("cutting contexts into windows", len(questions)) if total > _MANY else nullcontext(_silent) as advance:
        for owner, question in enumerate(questions):
            advance()
            head = heads.ids[heads.offsets[owner] : heads.offsets[owner + 1]][:max_question_length]
            context = read.row(number[question.context])
            answer = _tokens_of(context, question.answers[0]) if question.answers else None
            size = max_length - len(head) - special
            begins = [0]
            while begins[-1] + size < len(context.ids):
                begins.append(begins[-1] + stride)
            reach = size // stride + 1  # windows farther away do not overlap
            for number_of_window, begin in enumerate(begins):
                end = min(begin + size, len(context.ids))
                near = begins[max(0, number_of_window - reach) : number_of_window + reach + 1]
                rows.append(_row(tokenizer, head, context, begin, end, _best(near, size, len(context.ids), begin, end)))
                owners.append(owner)
                inside = answer is not None and begin <= answer[0] and answer[1] < end
                spans.append([a - begin + len(head) + special - 1 for a in answer] if answer and inside else [0, 0])
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)] if rows else [np.zeros(0, np.int32)] * 5
    offsets = np.concatenate([[0], np.cumsum([len(row[0]) for row in rows])]).astype(np.int64)
    return Windows(
        Encoded(columns[0], columns[1], offsets),
        np.array(owners, np.int64),
        np.array(spans, np.int64).reshape(-1, 2),
        columns[2],
        columns[3],
        columns[4].astype(bool),
    )


def _tokens_of(context: Tokens, answer: Answer) -> tuple[int, int] | None:
    """First and last piece that has a character of the answer; None where the tokenizer left nothing of it."""
    inside = np.flatnonzero((context.ends > answer.start) & (context.starts < answer.start + len(answer.text)))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _best(begins: list[int], size: int, total: int, begin: int, end: int) -> np.ndarray:
    """Return for each token of the window from `begin` whether no other window shows more around it (the first, of equals).

    `begins` are the windows that overlap with it, itself among them.
    """
    place = np.arange(begin, end)
    scores = []
    for other in begins:
        last = min(other + size, total) - 1
        around = np.minimum(place - other, last - place) + 0.01 * (last - other + 1)
        scores.append(np.where((place >= other) & (place <= last), around, -np.inf))
    return np.argmax(scores, axis=0) == begins.index(begin)


def _row(
    tokenizer: Tokenizer, head: np.ndarray, context: Tokens, begin: int, end: int, best: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Ids, segments, first characters, ends, and `best` of one window."""
    before, span = len(head) + 1 + tokenizer.separators, slice(begin, end)
    nothing, between = np.full(before, -1, np.int32), [tokenizer.sep_id] * tokenizer.separators
    second = np.full(end - begin + 1, int(tokenizer.segments))
    return (
        np.concatenate([[tokenizer.cls_id], head, between, context.ids[span], [tokenizer.sep_id]]).astype(np.int32),
        np.concatenate([np.zeros(before), second]).astype(np.int32),
        np.concatenate([nothing, context.starts[span], [-1]]).astype(np.int32),
        np.concatenate([nothing, context.ends[span], [-1]]).astype(np.int32),
        np.concatenate([np.zeros(before), best, [0]]).astype(np.int32),
    )
