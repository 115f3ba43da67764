"""Exact match and F1 of SQuAD 1.1 (Rajpurkar et al. 2016) and 2.0 (Rajpurkar et al. 2018), by their official rules."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from tfdistill.errors import UserError
from tfdistill.system.console import say

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII's alone, as in the official rules


def normalize_answer(text: str) -> str:
    """Small letters, no ASCII punctuation, no articles, single spaces; in this order."""
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 when both are the same after normalisation."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1(prediction: str, answer: str, *, no_answer: bool = True) -> float:
    """F1 over the words that both have, each as often as both have it.

    Where one of them has no words: 1.0 if neither has, else 0.0 (SQuAD 2.0); always 0.0 unless `no_answer` (SQuAD 1.1).
    """
    said, right = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not said or not right:
        return float(no_answer and said == right)
    same = sum((Counter(said) & Counter(right)).values())
    return 2 * same / (len(said) + len(right))


def squad_scores(
    predictions: Mapping[str, str], answers: Mapping[str, Sequence[str]], *, version_2: bool | None = None
) -> dict[str, float]:
    """Means over all questions of the best score against any of its answers, from 0 to 1: f1, exact_match.

    Args:
        predictions: question id → answer, "" for none. Ids that are not in `answers` do not count.
        answers: question id → right answers; none for a question without an answer.
        version_2: by SQuAD 2.0's rules, with f1_answerable, exact_match_answerable and f1_unanswerable beside; by default
            when there is a question without an answer.

    Raises:
        UserError: no questions, or no prediction for any of them.
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
            f"none of {len(answers)} questions has a prediction, such as '{missing[0]}'; expected their ids"
        )
    found: dict[str, tuple[float, float]] = {}
    answerable: dict[str, bool] = {}
    for question, right in answers.items():
        if not version_2 and not right:
            raise UserError(f"question '{question}' has no answer; expected one in SQuAD 1.1: score it by 2.0's rules")
        # An answer that is nothing but articles and punctuation is none in SQuAD 2.0.
        kept = [answer for answer in right if normalize_answer(answer)] or [""] if version_2 else right
        answerable[question] = bool(right)
        if question not in predictions:
            if not version_2:
                found[question] = (0.0, 0.0)
            continue
        said = predictions[question]
        found[question] = (
            max(f1(said, answer, no_answer=version_2) for answer in kept),
            max(exact_match(said, answer) for answer in kept),
        )

    def means(questions: Sequence[str], end: str) -> dict[str, float]:
        names = ("f1" + end, "exact_match" + end)
        return {name: sum(found[q][n] for q in questions) / len(questions) for n, name in enumerate(names) if questions}

    scores = means([*found], "")
    if version_2:
        scores |= means([q for q in found if answerable[q]], "_answerable")
        scores |= means([q for q in found if not answerable[q]], "_unanswerable")
    return scores
