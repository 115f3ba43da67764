"""Check the probabilities or logits of one answer at a time, and average several answers to one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdistill.data.records import kind_of
from tfdistill.errors import listing, nearest

TOLERANCE = 1e-3  # of the sum of probabilities
# Stands for a probability of 0, whose logarithm is not finite; a smaller positive one of the same answer does if there is one.
FLOOR = 1e-7
_LARGEST = float(np.finfo(np.float32).max)


class Answers:
    """Collect the logits of `count` texts.

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

    def add(self, place: int | None, kind: str, value: Any) -> None:
        """Check one answer and store it for the text with the number `place`; None only checks it.

        Args:
            place: the number of the text.
            kind: "probs" or "logits".
            value: a list, {class: number}, or for regression a number.

        Raises:
            ValueError: what is wrong with the value.
        """
        numbers = self._numbers(kind, value)
        is_probability = kind == "probs" and self.task != "regression"
        if place is None:
            return
        if not self.known[place]:
            self.known[place] = True
            self.logits[place] = self._as_logits(numbers) if is_probability else numbers
            return
        total, count = self._sums.get(place) or (self._as_probabilities(self.logits[place].astype(np.float64)), 1)
        total = total + (numbers if is_probability else self._as_probabilities(numbers))
        self._sums[place] = total, count + 1
        self.logits[place] = self._as_logits(total / (count + 1))

    # --- one answer -----------------------------------------------------------------------------------------------------

    def _numbers(self, kind: str, value: Any) -> np.ndarray:
        """Return the numbers of one answer in the order of the classes, float64 (C,)."""
        if value == {}:
            raise ValueError(f"'{kind}' has no classes. Name at least one.")
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
        if not set(map(type, value)) <= {int, float}:
            wrong = next(each for each in value if not _is_number(each))
            raise ValueError(f"'{kind}' has {kind_of(wrong)} in it. Give numbers only.")
        try:
            numbers = np.array(value, np.float64)
        except OverflowError:
            numbers = np.array([np.inf])
        if not np.abs(numbers).max() <= _LARGEST:  # also true for NaN
            raise ValueError(f"'{kind}' has a number that is NaN, infinite or too large. Give finite numbers.")
        if kind == "probs" and self.names is not None:
            self._check_probabilities(numbers)
        return numbers

    def _by_name(self, kind: str, value: dict[str, Any]) -> list[Any]:
        """Return the values of {class: value} as a list. Probabilities of classes that are left out share the rest."""
        assert self.names is not None
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
                raise ValueError(f"there is no {what} for {listing(missing)}. Give one for each class.")
            rest = max(0.0, 1.0 - sum(number for number in numbers if number is not None)) / len(missing)
            numbers = [rest if number is None else number for number in numbers]
        return numbers

    def _check_probabilities(self, numbers: np.ndarray) -> None:
        if numbers.min() < 0:
            raise ValueError(f"the probability {numbers.min():g} is negative. Give numbers from 0 to 1.")
        if self.task == "multilabel":
            if numbers.max() > 1:
                raise ValueError(f"the probability {numbers.max():g} is above 1. Give numbers from 0 to 1.")
        elif abs(numbers.sum() - 1) > TOLERANCE:
            raise ValueError(f"the probabilities sum to {numbers.sum():g}. Expected 1, or give 'logits' instead.")

    # --- probabilities and logits -----------------------------------------------------------------------------------------

    def _as_logits(self, values: np.ndarray) -> np.ndarray:
        """Return log p less its mean over the classes; log-odds of multi-label probabilities; regression as it is."""
        if self.task == "regression":
            return values
        if self.task == "multilabel":
            odds = np.where(values <= 0, FLOOR, np.where(values >= 1, 1 - FLOOR, values))
            return np.log(odds) - np.log1p(-odds)
        if not values.all():
            values = np.where(values == 0, min(FLOOR, values[values > 0].min()), values)
        logs = np.log(values)
        return logs - logs.mean()

    def _as_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of logits; regression as it is."""
        if self.task == "regression":
            return logits
        if self.task == "multilabel":
            return np.exp(-np.logaddexp(0, -logits))
        exponents = np.exp(logits - logits.max())
        return exponents / exponents.sum()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
