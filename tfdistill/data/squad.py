"""SQuAD (Rajpurkar et al. 2016, 2018): its JSON files, windows over long contexts, and answers from start and end logits.

Windows and n-best answers follow BERT (Devlin et al. 2019, section 4.2 and its SQuAD example).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfdistill.data.metrics import softmax
from tfdistill.data.offsets import Pieces, pieces_with_offsets
from tfdistill.data.squad_metrics import squad_scores
from tfdistill.data.tables import decoded
from tfdistill.data.textdata import listing
from tfdistill.data.tokenize import Encoded, Tokenizer
from tfdistill.errors import UserError


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


@dataclass(frozen=True)
class QuestionSplit:
    """The questions of one split."""

    questions: list[Question]

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, indices: Iterable[int]) -> QuestionSplit:
        """The questions at `indices`, in that order."""
        return QuestionSplit([self.questions[i] for i in indices])


@dataclass(frozen=True)
class QuestionData:
    """Splits by name; the model gives a start and an end logit for each token."""

    name: str
    splits: dict[str, QuestionSplit]
    task: str = "question_answering"
    label_names: None = None
    num_outputs: int = 2
    metrics: tuple[str, ...] = ()
    is_pair: bool = True

    @property
    def fingerprint(self) -> str:
        """SHA-256 over questions, contexts and answers, as hexadecimal text."""
        said = [
            [name, [astuple(question) for question in split.questions]] for name, split in sorted(self.splits.items())
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def load_squad_directory(path: str | Path) -> QuestionData:
    """The splits of a directory with train*.json and dev*.json (and test*.json), such as train-v1.1.json and dev-v1.1.json.

    Raises UserError when there is none, or two for one split, and as `load_squad`.
    """
    path = Path(path).expanduser()
    files: dict[str, Path] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else []:
        split = next((name for name in ("train", "dev", "test") if file.name.lower().startswith(name)), None)
        if split in files:
            raise UserError(
                f"{path} has {files[split].name} and {file.name}, both for the {split} split; expected one: remove one"
            )
        if split is not None:
            files[split] = file
    if not files:
        raise UserError(f"no SQuAD files at '{path}'; expected a directory with train*.json and dev*.json")
    return QuestionData(str(path), {name: QuestionSplit(load_squad(file)) for name, file in files.items()})


def answers_of(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Right answers by question id, as `squad_metrics.squad_scores` takes them."""
    return {question.id: [answer.text for answer in question.answers] for question in questions}


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
    asked = pieces_with_offsets(tokenizer, [question.question for question in questions])
    contexts = list(dict.fromkeys(question.context for question in questions))
    number = {context: place for place, context in enumerate(contexts)}
    read = pieces_with_offsets(tokenizer, contexts)
    rows: list[tuple[np.ndarray, ...]] = []
    owners, spans = [], []
    for owner, question in enumerate(questions):
        head = asked.ids[asked.offsets[owner] : asked.offsets[owner + 1]][:max_question_length]
        context = _part(read, number[question.context])
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


def _part(pieces: Pieces, number: int) -> Pieces:
    span = slice(pieces.offsets[number], pieces.offsets[number + 1])
    return Pieces(pieces.ids[span], pieces.starts[span], pieces.ends[span], pieces.words[span], np.array([0]))


def _tokens_of(context: Pieces, answer: Answer) -> tuple[int, int] | None:
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
    tokenizer: Tokenizer, head: np.ndarray, context: Pieces, begin: int, end: int, best: np.ndarray
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


# --- answers --------------------------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A possible answer: "" for none. score: the sum of its start and end logit; probability: among the n best."""

    text: str
    score: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """text: the answer. n_best: best first. no_answer_score: by how much "no answer" scores above the best answer."""

    text: str
    n_best: tuple[Candidate, ...]
    no_answer_score: float


def predict_answers(
    questions: Sequence[Question],
    rows: Windows,
    logits: np.ndarray,
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
    may_be_unanswerable: bool | None = None,
    threshold: float = 0.0,
) -> dict[str, Prediction]:
    """Answers by question id.

    Args:
        logits: (rows, length or more, 2), start and end logits for each row of `rows`; what lies behind its tokens is
            not read.
        max_answer_length: tokens of the longest answer.
        may_be_unanswerable: whether "" may be the answer (SQuAD 2.0); by default when a question has no answers.
        threshold: "" is the answer when `no_answer_score` is above it.

    Raises:
        UserError: logits of another shape, or not finite.
    """
    lengths = rows.encoded.lengths
    if (
        logits.ndim != 3
        or logits.shape[0] != len(rows)
        or logits.shape[2] != 2
        or logits.shape[1] < lengths.max(initial=0)
    ):
        raise UserError(
            f"got logits of shape {logits.shape}; expected ({len(rows)}, {lengths.max(initial=0)} or more, 2), "
            "a start and an end logit for each token of each window"
        )
    if may_be_unanswerable is None:
        may_be_unanswerable = not all(question.answers for question in questions)
    found: list[list[tuple[float, str]]] = [[] for _ in questions]
    nothing = np.full(len(questions), np.inf)
    for row, owner in enumerate(rows.question):
        begin, end = rows.encoded.offsets[row], rows.encoded.offsets[row + 1]
        start_logits, end_logits = np.asarray(logits[row, : end - begin], np.float64).T
        if not (np.isfinite(start_logits).all() and np.isfinite(end_logits).all()):
            raise UserError(f"the logits of row {row} are NaN or infinite; expected finite numbers: the model diverged")
        nothing[owner] = min(nothing[owner], start_logits[0] + end_logits[0])
        starts, ends, best = (column[begin:end] for column in (rows.starts, rows.ends, rows.best))
        likely_starts, likely_ends = (np.argsort(-side, kind="stable")[:n_best] for side in (start_logits, end_logits))
        for first in likely_starts:
            if starts[first] < 0 or not best[first]:
                continue
            for last in likely_ends:
                if first <= last < first + max_answer_length and starts[last] >= 0:
                    text = questions[owner].context[starts[first] : ends[last]]
                    found[owner].append((float(start_logits[first] + end_logits[last]), text))
    return {
        question.id: _choose(candidates, float(none), n_best, may_be_unanswerable, threshold)
        for question, candidates, none in zip(questions, found, nothing, strict=True)
    }


def _choose(
    candidates: list[tuple[float, str]], none: float, n_best: int, may_be_unanswerable: bool, threshold: float
) -> Prediction:
    kept: dict[str, float] = {}  # the best score of each text, best first
    for score, text in sorted(candidates, key=lambda pair: -pair[0]):
        if len(kept) < n_best:
            kept.setdefault(text, score)
    if may_be_unanswerable:
        kept.setdefault("", none)
    if not kept:
        kept[""] = none if np.isfinite(none) else 0.0
    ordered = sorted(kept.items(), key=lambda pair: -pair[1])
    probabilities = softmax([score for _, score in ordered])
    listed = tuple(
        Candidate(text, score, float(share)) for (text, score), share in zip(ordered, probabilities, strict=True)
    )
    answer = next((candidate for candidate in listed if candidate.text), None)
    if answer is None:
        return Prediction("", listed, np.inf if may_be_unanswerable else 0.0)
    beyond = none - answer.score
    return Prediction("" if may_be_unanswerable and beyond > threshold else answer.text, listed, beyond)


def scores_of(questions: Sequence[Question], predictions: Mapping[str, Prediction]) -> dict[str, float]:
    """F1 and exact match of predictions, by the rules of the SQuAD version that the questions are of."""
    return squad_scores({name: prediction.text for name, prediction in predictions.items()}, answers_of(questions))
