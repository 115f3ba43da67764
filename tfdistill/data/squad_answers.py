"""Choose answers from start and end logits, as BERT's SQuAD example does (Devlin et al. 2019, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfdistill.data.squad import Question
from tfdistill.data.squad_windows import Windows
from tfdistill.errors import UserError
from tfdistill.metrics.scores import softmax
from tfdistill.metrics.squad import squad_scores


class Candidate(NamedTuple):
    """A possible answer, "" for no answer; `score` is the sum of two logits, `probability` that among the n best."""

    text: str
    score: float
    probability: float


class _Span(NamedTuple):
    """A span of a context."""

    score: float
    text: str
    start: int


@dataclass(frozen=True)
class Prediction:
    """The answer, the best candidates, and by how much "no answer" scores above the best answer.

    `start` is the first character of the answer in the context, None for no answer.
    """

    text: str
    n_best: tuple[Candidate, ...]
    no_answer_score: float
    start: int | None = None


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
    """Return the answers by question id.

    Args:
        questions: the questions.
        rows: their windows.
        logits: (rows, tokens or more, 2), start and end logits; positions after a row's tokens are not read.
        n_best: starts and ends that are tried, and candidates that are listed.
        max_answer_length: tokens of the longest answer.
        may_be_unanswerable: whether "" may be the answer (SQuAD 2.0); by default if a question has no answers.
        threshold: "" is the answer if `no_answer_score` is above it.

    Raises:
        UserError: the logits have another shape or are not finite.
    """
    lengths = rows.encoded.lengths
    if (
        logits.ndim != 3
        or logits.shape[0] != len(rows)
        or logits.shape[2] != 2
        or logits.shape[1] < lengths.max(initial=0)
    ):
        raise UserError(
            f"got logits of shape {logits.shape}; expected ({len(rows)}, {lengths.max(initial=0)} or more, 2)"
        )
    if may_be_unanswerable is None:
        may_be_unanswerable = not all(question.answers for question in questions)
    candidates: list[list[_Span]] = [[] for _ in questions]
    no_answer = np.full(len(questions), np.inf)
    for row, owner in enumerate(rows.question):
        begin, end = rows.encoded.offsets[row], rows.encoded.offsets[row + 1]
        start_logits, end_logits = np.asarray(logits[row, : end - begin], np.float64).T
        if not (np.isfinite(start_logits).all() and np.isfinite(end_logits).all()):
            raise UserError(f"the logits of row {row} are NaN or infinite. The model diverged.")
        no_answer[owner] = min(no_answer[owner], start_logits[0] + end_logits[0])
        starts, ends, best = (column[begin:end] for column in (rows.starts, rows.ends, rows.best))
        likely_starts, likely_ends = (np.argsort(-side, kind="stable")[:n_best] for side in (start_logits, end_logits))
        for first in likely_starts:
            if starts[first] < 0 or not best[first]:
                continue
            for last in likely_ends:
                if first <= last < first + max_answer_length and starts[last] >= 0:
                    text = questions[owner].context[starts[first] : ends[last]]
                    candidates[owner].append(
                        _Span(float(start_logits[first] + end_logits[last]), text, int(starts[first]))
                    )
    return {
        question.id: _choose(of_question, float(none), n_best, may_be_unanswerable, threshold)
        for question, of_question, none in zip(questions, candidates, no_answer, strict=True)
    }


def _choose(
    candidates: list[_Span], none: float, n_best: int, may_be_unanswerable: bool, threshold: float
) -> Prediction:
    kept: dict[str, float] = {}  # the best score of each text, best first
    places: dict[str, int] = {}
    for score, text, start in sorted(candidates, key=lambda span: -span.score):
        if len(kept) < n_best and text not in kept:
            kept[text], places[text] = score, start
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
    if may_be_unanswerable and beyond > threshold:
        return Prediction("", listed, beyond)
    return Prediction(answer.text, listed, beyond, places[answer.text])


def scores_of(questions: Sequence[Question], predictions: Mapping[str, Prediction]) -> dict[str, float]:
    """Return F1 and exact match of predictions by the rules of the SQuAD version of the questions."""
    answers = {question.id: [answer.text for answer in question.answers] for question in questions}
    return squad_scores({name: prediction.text for name, prediction in predictions.items()}, answers)
