"""SQuAD (Rajpurkar et al. 2016, 2018): its JSON files, and windows over long contexts.

Windows follow BERT (Devlin et al. 2019, section 4.2 and its SQuAD example).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfdistill.data.records import decoded, read_bytes
from tfdistill.errors import UserError, listing
from tfdistill.text.encoded import Encoded, Tokens
from tfdistill.text.tokenizer import Tokenizer


class Answer(NamedTuple):
    """An answer is context[start:start + len(text)]."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """One question. Without answers it cannot be answered from its context (SQuAD 2.0)."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] = ()


def load_squad(path: str | Path) -> list[Question]:
    """The questions of a SQuAD 1.1 or 2.0 file, in its order.

    An answer whose place is some characters off (the files have a few) is moved to the nearest one of its text.

    Raises UserError for a file that is missing or no SQuAD JSON, an id that occurs twice, and an answer that does not
    stand in its context.
    """
    path = Path(path)
    try:
        content = json.loads(decoded(path, path.read_bytes()))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a SQuAD .json file") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); expected a SQuAD 1.1 or 2.0 file, fetch it again") from error
    questions: dict[str, Question] = {}
    for number, article in enumerate(_field(path, "the file", content, "data", list)):
        for place, paragraph in enumerate(_field(path, f"data[{number}]", article, "paragraphs", list)):
            where = f"data[{number}].paragraphs[{place}]"
            context = _field(path, where, paragraph, "context", str)
            for asked in _field(path, where, paragraph, "qas", list):
                question = _question(path, where, asked, context)
                if question.id in questions:
                    raise UserError(f"{path}: the question id '{question.id}' occurs twice; expected ids of their own")
                questions[question.id] = question
    if not questions:
        raise UserError(f"{path} has no questions; expected SQuAD's data, paragraphs and qas")
    return list(questions.values())


def _field(path: Path, where: str, value: Any, name: str, kind: type) -> Any:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        there = f"found {listing(value) or 'none'}" if isinstance(value, dict) else f"found {type(value).__name__}"
        raise UserError(
            f"{path}: {where} has no '{name}' ({kind.__name__}), {there}; expected SQuAD's data, paragraphs, context and qas"
        )
    return found


def _question(path: Path, where: str, asked: Any, context: str) -> Question:
    name = str(_field(path, f"a question of {where}", asked, "id", str))
    text = _field(path, f"question '{name}'", asked, "question", str)
    answers = []
    # In SQuAD 2.0 a question that cannot be answered has plausible answers only, which do not count.
    for answer in [] if asked.get("is_impossible") else _field(path, f"question '{name}'", asked, "answers", list):
        said = _field(path, f"an answer of question '{name}'", answer, "text", str)
        start = _field(path, f"an answer of question '{name}'", answer, "answer_start", int)
        if said.strip():
            answers.append(Answer(said, _place(path, name, context, said, start)))
    return Question(name, text, context, tuple(answers))


def _place(path: Path, name: str, context: str, said: str, start: int) -> int:
    if start >= 0 and context.startswith(said, start):
        return start
    places = [at for at in range(len(context)) if context.startswith(said, at)]
    if not places:
        raise UserError(f"{path}: the answer '{said[:40]}' of question '{name}' is not in its context; mend or drop it")
    return min(places, key=lambda at: abs(at - start))


# --- windows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """[CLS] question [SEP] part of the context [SEP], one row a window; long contexts have several that overlap.

    encoded: the rows. question (rows,) int64: which question each is of. spans (rows, 2) int64: first and last token of the
    answer in the row, both 0 ([CLS]) where the window does not hold the whole answer. starts, ends (total,) int32: the
    characters of the context that a token stands for, −1 outside of it. best (total,) bool: whether of all windows this
    one shows the most around that token.
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
        stride: tokens of the context that each window begins after the one before.
        max_question_length: tokens of a question that are kept.

    Raises:
        UserError: `max_length` leaves no room for `stride` tokens of context, so that some would be in no window.
    """
    room = max_length - max_question_length - 3
    if stride < 1 or max_question_length < 1 or room < stride:
        raise UserError(
            f"max_length {max_length} leaves {room} tokens for the context with stride {stride}; expected at least the "
            f"stride: give a max_length of {max_question_length + 3 + max(stride, 1)} or more, or a shorter stride"
        )
    asked = tokenizer.tokens([question.question for question in questions])
    contexts = list(dict.fromkeys(question.context for question in questions))
    number = {context: place for place, context in enumerate(contexts)}
    read = tokenizer.tokens(contexts)
    rows: list[tuple[np.ndarray, ...]] = []
    owners, spans = [], []
    for owner, question in enumerate(questions):
        head = asked.ids[asked.offsets[owner] : asked.offsets[owner + 1]][:max_question_length]
        context = read.row(number[question.context])
        answer = _tokens_of(context, question.answers[0]) if question.answers else None
        size = max_length - len(head) - 3
        begins = [0]
        while begins[-1] + size < len(context.ids):
            begins.append(begins[-1] + stride)
        for begin in begins:
            end = min(begin + size, len(context.ids))
            rows.append(_row(tokenizer, head, context, begin, end, _best(begins, size, len(context.ids), begin, end)))
            owners.append(owner)
            inside = answer is not None and begin <= answer[0] and answer[1] < end
            spans.append([a - begin + len(head) + 2 for a in answer] if answer and inside else [0, 0])
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
    """For each token of the window from `begin`: whether no other window shows more around it (the first, of equals)."""
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
    before, span = len(head) + 2, slice(begin, end)
    nothing = np.full(before, -1, np.int32)
    return (
        np.concatenate([[tokenizer.cls_id], head, [tokenizer.sep_id], context.ids[span], [tokenizer.sep_id]]).astype(
            np.int32
        ),
        np.concatenate([np.zeros(before), np.ones(end - begin + 1)]).astype(np.int32),
        np.concatenate([nothing, context.starts[span], [-1]]).astype(np.int32),
        np.concatenate([nothing, context.ends[span], [-1]]).astype(np.int32),
        np.concatenate([np.zeros(before), best, [0]]).astype(np.int32),
    )
