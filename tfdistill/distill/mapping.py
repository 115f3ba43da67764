"""Layer mappings: which teacher layer each student layer learns from.

Every function takes the number of student layers M and of teacher layers N and returns pairs (student, teacher),
numbered from 1. Layer 0, the embedding output, is matched by `on="embeddings"`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tfdistill.errors import UserError

Pairs = tuple[tuple[int, int], ...]


def _check(student: int, teacher: int) -> None:
    if not 1 <= student <= teacher:
        raise UserError(
            f"a mapping from {student} student layers to {teacher} teacher layers was asked for; "
            "expected 1 <= student layers <= teacher layers"
        )


def uniform(student: int, teacher: int) -> Pairs:
    """g(m) = m·N/M, rounded (TinyBERT, Jiao et al. 2020, section 4.2). The last layers are always a pair.

    >>> uniform(4, 12)
    ((1, 3), (2, 6), (3, 9), (4, 12))
    """
    _check(student, teacher)
    return tuple((m, round(m * teacher / student)) for m in range(1, student + 1))


def top(student: int, teacher: int) -> Pairs:
    """g(m) = m + N - M: the student learns from the topmost layers (TinyBERT, appendix)."""
    _check(student, teacher)
    return tuple((m, m + teacher - student) for m in range(1, student + 1))


def bottom(student: int, teacher: int) -> Pairs:
    """g(m) = m: the student learns from the lowest layers (TinyBERT, appendix)."""
    _check(student, teacher)
    return tuple((m, m) for m in range(1, student + 1))


def last(student: int, teacher: int) -> Pairs:
    """Only the two last layers are a pair."""
    _check(student, teacher)
    return ((student, teacher),)


def patient_skip(student: int, teacher: int) -> Pairs:
    """Every (N/M)-th layer, without the last pair (PKD-skip, Sun et al. 2019, section 3.2).

    >>> patient_skip(6, 12)
    ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))
    """
    return _patient(uniform(student, teacher))


def patient_last(student: int, teacher: int) -> Pairs:
    """The layers right below the last ones (PKD-last, Sun et al. 2019, section 3.2).

    >>> patient_last(6, 12)
    ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))
    """
    return _patient(top(student, teacher))


def _patient(pairs: Pairs) -> Pairs:
    if len(pairs) < 2:
        raise UserError("patient distillation matches the layers below the student's last; it needs at least 2 layers")
    return pairs[:-1]


def alternate(student: int, teacher: int) -> tuple[int, ...]:
    """Layers of the teacher that a student starts from: DistilBERT's 1, 3, 5, 8, 10, 12 for 6 of 12, else evenly spaced with
    the first and the last among them (Sanh et al. 2019, their extraction script counts from 0).

    >>> alternate(3, 6)
    (1, 3, 6)
    """
    _check(student, teacher)
    if (student, teacher) == (6, 12):
        return (1, 3, 5, 8, 10, 12)
    if student == 1:
        return (teacher,)
    return tuple(1 + int((teacher - 1) * n / (student - 1)) for n in range(student))


def explicit(pairs: Sequence[Sequence[int]], student: int, teacher: int) -> Pairs:
    """`pairs` as given, after a check that both models have these layers."""
    checked = tuple((int(s), int(t)) for s, t in pairs)
    for s, t in checked:
        if not (1 <= s <= student and 1 <= t <= teacher):
            raise UserError(f"the layer pair ({s}, {t}) lies outside 1..{student} (student) and 1..{teacher} (teacher)")
    return checked
