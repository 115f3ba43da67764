"""Compare scores with chance, and see whether a training has levelled off. Pure functions of scores and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tfdistill.data.dataset import Rows
from tfdistill.data.question_data import QuestionRows
from tfdistill.data.tagged_data import TaggedRows
from tfdistill.data.text_data import TextRows

_GUESSES = 20  # constant answers that are tried, of the most frequent classes
_MOST_VALUES = 10_000_000  # logits of a guess that are scored
_LEAST_GAIN = 0.005  # half a point: less than this in the last evaluation is level


def chance(rows: Rows) -> float:
    """Return the main score of the best constant answer, which needs no model.

    For accuracy this is the share of the most frequent class; for F1 and other scores of classes, tags or sets of classes
    the best of answering one class (or the k most frequent ones) always. Correlations with a constant are 0. For questions
    it is the share that has no answer.
    """
    if isinstance(rows, QuestionRows):
        questions = rows.split.questions
        return sum(not question.answers for question in questions) / max(len(questions), 1)
    guesses = _constants(rows)
    if not len(guesses):
        return 0.0
    shape: tuple[int, ...] = (len(rows.encoded), guesses.shape[1])
    if isinstance(rows, TaggedRows):
        shape = (shape[0], int(rows.encoded.lengths.max(initial=1)), shape[1])
    return max(next(iter(rows.score(np.broadcast_to(guess, shape)).values())) for guess in guesses)


def _constants(rows: Rows) -> np.ndarray:
    """Return the logits of constant answers, (guesses, outputs)."""
    if isinstance(rows, TaggedRows):
        tags = Counter(tag for row in rows.split.tags for tag in row)
        return _one_hot(np.array([tags[name] for name in rows.label_names]), _GUESSES)
    if not isinstance(rows, TextRows) or rows.data.task == "regression":
        return np.zeros((0, 1), np.float32)
    labels, outputs = rows.split.known_labels, rows.data.num_outputs
    guesses = max(1, min(_GUESSES, _MOST_VALUES // max(1, len(labels) * outputs)))
    if rows.data.task == "classification":
        accuracy = (*rows.data.metrics, "accuracy")[0] == "accuracy"
        return _one_hot(np.bincount(labels, minlength=outputs), 1 if accuracy else guesses)
    frequent = np.argsort(-labels.sum(axis=0), kind="stable")[:guesses]
    return np.stack(
        [np.where(np.isin(np.arange(outputs), frequent[:k]), 1.0, -1.0) for k in range(1, len(frequent) + 1)]
    )


def _one_hot(counts: np.ndarray, most: int) -> np.ndarray:
    """Return logits that answer each of the most frequent classes."""
    frequent = np.argsort(-counts, kind="stable")[:most]
    return (np.arange(len(counts)) == frequent[:, None]).astype(np.float32)


def noise(score: float, rows: int) -> float:
    """Return the standard error of a share of `rows` examples."""
    share = min(max(score, 0.0), 1.0)
    return float(np.sqrt(share * (1 - share) / max(rows, 1)))


def is_at_chance(score: float, by_chance: float, rows: int) -> bool:
    """Return whether a score of `rows` examples is not clearly above chance: by two standard errors of chance.

    A score that is more than half-way between chance and 1 is above it, however few the examples are.
    """
    error = noise(by_chance, rows) if by_chance > 0 else min(float(1 / np.sqrt(max(rows, 1))), 0.05)
    return score <= by_chance + min(2 * error, (1 - by_chance) / 2)


def is_above(score: float, other: float, rows: int, of: int) -> bool:
    """Return whether a score of `of` examples exceeds one that was measured on `rows` of them by more than noise.

    On the same examples the noise of the difference is about one standard error of a score, else about two.
    """
    return score > other + max(0.01, (1 if rows >= of else 2) * noise(other, rows))


def still_improving(scores: Sequence[float], rows: int) -> bool:
    """Return whether the last evaluation on `rows` examples is the best by more than noise and half a point."""
    if len(scores) < 2 or not rows:
        return False
    before = max(scores[:-1])
    return scores[-1] > before + max(_LEAST_GAIN, noise(before, rows) / 2)
