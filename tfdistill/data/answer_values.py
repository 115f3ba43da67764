"""Check probabilities or logits, turn them into logits, and average several answers to one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdistill.data.records import kind_of
from tfdistill.errors import listing, nearest

TOLERANCE = 1e-3  # of the sum of probabilities
# Stands for a probability of 0, whose logarithm is not finite; a smaller positive one of the same answer does if there is one.
FLOOR = 1e-7
_NUMBERS = {int, float}
_LARGEST = float(np.finfo(np.float32).max)


class Answers:
    """Collect the logits of texts.

    Args:
        count: the number of texts.
        task: "classification", "multilabel" or "regression".
        width: the number of classes, C; 1 for regression.
        names: the classes in their order; None for regression.
        data: the name of the data, for messages.

    Attributes:
        logits: float32 (count, C).
        known: bool (count,), which texts have an answer.
    """

    def __init__(self, count: int, task: str, width: int, names: Sequence[str] | None, data: str):
        self.task, self.width, self.data = task, width, data
        self.names = None if names is None else tuple(names)
        self._ids = {name: number for number, name in enumerate(names or ())}
        self.logits = np.zeros((count, width), np.float32)
        self.known = np.zeros(count, bool)
        self._sums: dict[int, tuple[np.ndarray, int]] = {}  # of texts with several answers, as probabilities

    def add(self, kind: str, places: Sequence[int | None], values: Sequence[Any]) -> None:
        """Check answers of one kind and store them.

        Args:
            kind: "probs" or "logits".
            places: the numbers of their texts; None only checks the answer.
            values: a list, {class: number}, or for regression a number each.

        Raises:
            WrongAnswer: what is wrong with the first wrong answer. Nothing is stored then.
        """
        numbers = self._checked(kind, values)
        is_probability = kind == "probs" and self.task != "regression"
        logits = self._as_logits(numbers) if is_probability else numbers
        stored = np.array([-1 if place is None else place for place in places], np.int64)
        first = np.zeros(len(stored), bool)
        first[np.unique(stored, return_index=True)[1]] = True
        first &= stored >= 0
        first[first] = ~self.known[stored[first]]
        self.logits[stored[first]] = logits[first]
        self.known[stored[first]] = True
        for row in np.flatnonzero(~first & (stored >= 0)):
            self._average(int(stored[row]), numbers[row] if is_probability else self._as_probabilities(numbers[row]))

    def _average(self, place: int, probabilities: np.ndarray) -> None:
        """Add one more answer to a text that has some."""
        total, count = self._sums.get(place) or (self._as_probabilities(self.logits[place].astype(np.float64)), 1)
        self._sums[place] = total + probabilities, count + 1
        self.logits[place] = self._as_logits((total + probabilities) / (count + 1))

    # --- checks -----------------------------------------------------------------------------------------------------------

    def _checked(self, kind: str, values: Sequence[Any]) -> np.ndarray:
        """Return the numbers of answers in the order of the classes, float64 (n, C)."""
        rows: list[list[Any]] = []
        problem: Exception | None = None
        for value in values:
            try:
                rows.append(self._listed(kind, value))
            except ValueError as error:
                problem = error
                break
        try:
            numbers = np.array(rows, np.float64).reshape(len(rows), self.width)
        except OverflowError:  # an integer that no float can hold
            numbers = np.array([[_as_float(number) for number in row] for row in rows])
        good = np.abs(numbers).max(axis=1, initial=0) <= _LARGEST  # False for NaN
        if kind == "probs" and self.names is not None:
            good &= numbers.min(axis=1, initial=1) >= 0
            if self.task == "multilabel":
                good &= numbers.max(axis=1, initial=0) <= 1
            else:
                good &= np.abs(numbers.sum(axis=1) - 1) <= TOLERANCE
        if not good.all():
            row = int(good.argmin())
            raise WrongAnswer(row, self._problem(kind, numbers[row]))
        if problem is not None:
            raise WrongAnswer(len(rows), str(problem)) from problem
        return numbers

    def _problem(self, kind: str, numbers: np.ndarray) -> str:
        if not np.abs(numbers).max() <= _LARGEST:
            return f"'{kind}' has a number that is NaN, infinite or too large. Give finite numbers."
        if numbers.min() < 0:
            return f"the probability {numbers.min():g} is negative. Give numbers from 0 to 1."
        if self.task == "multilabel":
            return f"the probability {numbers.max():g} is above 1. Give numbers from 0 to 1."
        return f"the probabilities sum to {numbers.sum():g}. Expected 1, or give 'logits' instead."

    def _listed(self, kind: str, value: Any) -> list[Any]:
        """Return the numbers of one answer in the order of the classes."""
        if isinstance(value, dict) and self.names is not None:
            value = self._by_name(kind, value)
        elif self.names is None and _is_number(value):
            value = [value]
        if not isinstance(value, list):
            expected = "a number" if self.names is None else "a list or an object {class: number}"
            raise ValueError(f"'{kind}' is {kind_of(value)}. Expected {expected}.")
        if len(value) != self.width:
            expected = "one number" if self.names is None else f"one for each class, {listing(self.names)}"
            raise ValueError(f"'{kind}' has {len(value)} numbers, and {self.data} needs {self.width}: {expected}.")
        if not _NUMBERS.issuperset(map(type, value)):
            wrong = next(each for each in value if not _is_number(each))
            raise ValueError(f"'{kind}' has {kind_of(wrong)} in it. Give numbers only.")
        return value

    def _by_name(self, kind: str, value: dict[str, Any]) -> list[Any]:
        """Return the values of {class: value} as a list. Probabilities of classes that are left out share the rest."""
        assert self.names is not None
        if not value:
            raise ValueError(f"'{kind}' has no classes. Name at least one.")
        numbers: list[Any] = [None] * self.width
        for name, number in value.items():
            if number is None:  # Parquet has a null for each class that a row leaves out.
                continue
            place = self._ids.get(name)
            if place is None:
                raise ValueError(
                    f"'{kind}' has the class '{name}'{nearest(name, self.names)}, and {self.data} has "
                    f"{listing(self.names)}. Use the same classes."
                )
            if not _is_number(number):
                raise ValueError(f"'{kind}' has {kind_of(number)} for '{name}'. Give a number.")
            numbers[place] = number
        missing = [name for name, number in zip(self.names, numbers, strict=True) if number is None]
        if missing:
            if kind == "logits" or self.task == "multilabel":
                what = "logit" if kind == "logits" else "multi-label probability"
                raise ValueError(f"{what} is missing for {listing(missing)}. Give one for each class.")
            rest = max(0.0, 1.0 - sum(number for number in numbers if number is not None)) / len(missing)
            numbers = [rest if number is None else number for number in numbers]
        return numbers

    # --- probabilities and logits -----------------------------------------------------------------------------------------

    def _as_logits(self, values: np.ndarray) -> np.ndarray:
        """Return log p less its mean over the last axis; log-odds of multi-label probabilities; regression as it is."""
        if self.task == "regression":
            return values
        if self.task == "multilabel":
            odds = np.where(values <= 0, FLOOR, np.where(values >= 1, 1 - FLOOR, values))
            return np.asarray(np.log(odds) - np.log1p(-odds))
        if not values.all():
            smallest = np.where(values > 0, values, FLOOR).min(axis=-1, keepdims=True)
            values = np.where(values == 0, np.minimum(smallest, FLOOR), values)
        logs = np.log(values)
        return np.asarray(logs - logs.mean(axis=-1, keepdims=True))

    def _as_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of the logits of one answer; regression as it is."""
        if self.task == "regression":
            return logits
        if self.task == "multilabel":
            return np.asarray(np.exp(-np.logaddexp(0, -logits)))
        exponents = np.exp(logits - logits.max())
        return np.asarray(exponents / exponents.sum())


class WrongAnswer(ValueError):
    """An answer that cannot be used.

    Args:
        row: its number among those that were added together, from 0.
        problem: what is wrong with it.
    """

    def __init__(self, row: int, problem: str):
        super().__init__(problem)
        self.row = row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")
