"""Exact match and F1 by the official rules of SQuAD 1.1 (Rajpurkar et al. 2016) and 2.0 (Rajpurkar et al. 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from tfdistill.errors import UserError
from tfdistill.system.console import say

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)  # only ASCII, as in the official rules


def normalize_answer(text: str) -> str:
    """Lower-case a text and remove ASCII punctuation, articles and repeated spaces, in this order."""
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answer: str) -> float:
    """Return 1.0 if both are the same after normalisation."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1(prediction: str, answer: str, *, no_answer: bool = True) -> float:
    """Return F1 over the words, each counted as often as both texts have it.

    Args:
        prediction: the predicted answer.
        answer: the true answer.
        no_answer: two texts without words score 1.0 (SQuAD 2.0), instead of 0.0 (SQuAD 1.1).
    """
    predicted, right = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not predicted or not right:
        return float(no_answer and predicted == right)
    same = sum((Counter(predicted) & Counter(right)).values())
    return 2 * same / (len(predicted) + len(right))


def squad_scores(
    predictions: Mapping[str, str], answers: Mapping[str, Sequence[str]], *, version_2: bool | None = None
) -> dict[str, float]:
    """Return f1 and exact_match, from 0 to 1: means over the questions of the best score against any answer.

    Args:
        predictions: answer by question id, "" for no answer. Ids that are not in `answers` do not count.
        answers: right answers by question id; empty for a question without an answer.
        version_2: use SQuAD 2.0's rules and add f1_answerable, exact_match_answerable and the same for unanswerable questions;
            by default if there is a question without an answer.

    Raises:
        UserError: there are no questions, or no prediction for any of them.
    """
    if not answers:
        raise UserError("got no questions; expected at least one")
    if version_2 is None:
        version_2 = not all(answers.values())
    missing = [question for question in answers if question not in predictions]
    if missing:
        counts = "do not count, by the rules of SQuAD 2.0" if version_2 else "count as wrong, by the rules of SQuAD 1.1"
        say(f"{len(missing)} of {len(answers)} questions have no prediction, such as '{missing[0]}', and {counts}")
    if len(missing) == len(answers):
        raise UserError(
            f"none of {len(answers)} questions has a prediction, such as '{missing[0]}'; expected predictions by question id"
        )
    scored: dict[str, tuple[float, float]] = {}
    answerable: dict[str, bool] = {}
    for question, right in answers.items():
        if not version_2 and not right:
            raise UserError(f"question '{question}' has no answer; expected one in SQuAD 1.1. Use SQuAD 2.0's rules.")
        # In SQuAD 2.0 an answer of articles and punctuation alone does not count.
        kept = [answer for answer in right if normalize_answer(answer)] or [""] if version_2 else right
        answerable[question] = bool(right)
        if question not in predictions:
            if not version_2:
                scored[question] = (0.0, 0.0)
            continue
        predicted = predictions[question]
        scored[question] = (
            max(f1(predicted, answer, no_answer=version_2) for answer in kept),
            max(exact_match(predicted, answer) for answer in kept),
        )

    def means(questions: Sequence[str], end: str) -> dict[str, float]:
        names = ("f1" + end, "exact_match" + end)
        return {
            name: sum(scored[q][n] for q in questions) / len(questions) for n, name in enumerate(names) if questions
        }

    scores = means([*scored], "")
    if version_2:
        scores |= means([q for q in scored if answerable[q]], "_answerable")
        scores |= means([q for q in scored if not answerable[q]], "_unanswerable")
    return scores
