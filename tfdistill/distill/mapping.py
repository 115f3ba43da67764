"""Map student layers to the teacher layers they learn from.

Every mapping takes the number of student layers M and of teacher layers N and returns pairs (student, teacher),
numbered from 1. Layer 0 is the embedding output; match it by `on="embeddings"`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tfdistill.errors import UserError

Pairs = tuple[tuple[int, int], ...]


def _check(student: int, teacher: int) -> None:
    if not 1 <= student <= teacher:
        raise UserError(
            f"a mapping from {student} student layers to {teacher} teacher layers; "
            "expected 1 <= student layers <= teacher layers"
        )


def uniform(student: int, teacher: int) -> Pairs:
    """Return g(m) = m·N/M, rounded (TinyBERT, Jiao et al. 2020, section 4.2). The last layers are always a pair.

    >>> uniform(4, 12)
    ((1, 3), (2, 6), (3, 9), (4, 12))
    """
    _check(student, teacher)
    return tuple((m, round(m * teacher / student)) for m in range(1, student + 1))


def top(student: int, teacher: int) -> Pairs:
    """Return g(m) = m + N - M: the student learns from the topmost layers (TinyBERT, appendix)."""
    _check(student, teacher)
    return tuple((m, m + teacher - student) for m in range(1, student + 1))


def bottom(student: int, teacher: int) -> Pairs:
    """Return g(m) = m: the student learns from the lowest layers (TinyBERT, appendix)."""
    _check(student, teacher)
    return tuple((m, m) for m in range(1, student + 1))


def last(student: int, teacher: int) -> Pairs:
    """Return the pair of the two last layers."""
    _check(student, teacher)
    return ((student, teacher),)


def patient_skip(student: int, teacher: int) -> Pairs:
    """Return every (N/M)-th layer without the last pair (PKD-skip, Sun et al. 2019, section 3.2).

    >>> patient_skip(6, 12)
    ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))
    """
    return _below_last(uniform(student, teacher))


def patient_last(student: int, teacher: int) -> Pairs:
    """Return the layers right below the last ones (PKD-last, Sun et al. 2019, section 3.2).

    >>> patient_last(6, 12)
    ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))
    """
    return _below_last(top(student, teacher))


def _below_last(pairs: Pairs) -> Pairs:
    if len(pairs) < 2:
        raise UserError("patient distillation matches the layers below the student's last; it needs at least 2 layers")
    return pairs[:-1]


def alternate(student: int, teacher: int) -> tuple[int, ...]:
    """Return the teacher layers that a student is initialised with.

    For 6 of 12 these are DistilBERT's 1, 3, 5, 8, 10, 12 (Sanh et al. 2019; their script counts from 0), else evenly
    spaced layers with the first and the last among them.

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
    """Return `pairs` as integers. Raises UserError for a layer that one of the models does not have."""
    checked = tuple((int(s), int(t)) for s, t in pairs)
    for s, t in checked:
        if not (1 <= s <= student and 1 <= t <= teacher):
            raise UserError(f"layer pair ({s}, {t}): expected 1..{student} (student) and 1..{teacher} (teacher)")
    return checked
