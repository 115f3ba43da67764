"""Precision, recall and F1 of entities in tagged words, as the CoNLL shared tasks score them (`conlleval`).

These are the default rules of the package seqeval: lenient, so that IOB1, IOB2, IOBES and tags that break their scheme all
give entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tfdistill.errors import UserError

_PREFIXES = "BIES"


class Entity(NamedTuple):
    """Words first to last, both included."""

    kind: str
    first: int
    last: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, in order.

    A tag is "O", or B, I, E or S with "-" and a kind ("B-PER"; a bare prefix has the kind "_"). An entity ends after E or
    S, before B, S and O, and where the kind changes; whatever else follows O, E, S or another kind begins one.

    Raises UserError for any other tag.
    """
    found: list[Entity] = []
    before, kind_before, first = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = _parts(tag)
        changes = kind != kind_before
        if before != "O" and (before in "ES" or prefix in "BSO" or changes):
            found.append(Entity(kind_before, first, place - 1))
        if prefix != "O" and (prefix in "BS" or before in "ESO" or changes):
            first = place
        before, kind_before = prefix, kind
    return found


def entity_scores(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """f1, precision and recall over all entities (a right one has the same kind and the same words), and token accuracy.

    Both are tags of the same sentences. What has no entities scores 0.0.

    Raises UserError when numbers of sentences or words differ.
    """
    counts = _counts(labels, predictions)
    total = tuple(sum(values[n] for values in counts.values()) for n in range(3))
    same = sum(a == b for row, other in zip(labels, predictions, strict=True) for a, b in zip(row, other, strict=True))
    return {**_scores(*total), "accuracy": same / sum(map(len, labels))}


def entity_scores_by_kind(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """f1, precision, recall and support (entities in the labels) of each kind, by name."""
    counts = _counts(labels, predictions)
    return {kind: {**_scores(*counts[kind]), "support": float(counts[kind][1])} for kind in sorted(counts)}


def _counts(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, tuple[int, int, int]]:
    """Of each kind: entities right, in the labels, and predicted."""
    if len(labels) != len(predictions):
        raise UserError(
            f"got tags of {len(labels)} sentences and {len(predictions)} predictions; expected as many of each"
        )
    if not any(len(row) for row in labels):
        raise UserError("got no tagged words; expected at least one sentence")
    counts: dict[str, tuple[int, int, int]] = {}
    for number, (row, other) in enumerate(zip(labels, predictions, strict=True)):
        if len(row) != len(other):
            raise UserError(
                f"sentence {number} has {len(row)} words and {len(other)} predictions; expected one for each"
            )
        actual, predicted = set(entities(row)), set(entities(other))
        for kind in {entity.kind for entity in actual | predicted}:
            mine, theirs = ({entity for entity in side if entity.kind == kind} for side in (actual, predicted))
            right, there, said = counts.get(kind, (0, 0, 0))
            counts[kind] = (right + len(mine & theirs), there + len(mine), said + len(theirs))
    return counts


def _scores(right: int, actual: int, predicted: int) -> dict[str, float]:
    return {
        "f1": 2 * right / (actual + predicted) if actual + predicted else 0.0,
        "precision": right / predicted if predicted else 0.0,
        "recall": right / actual if actual else 0.0,
    }


def _parts(tag: str) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    prefix, dash, kind = tag.partition("-")
    if len(prefix) != 1 or prefix not in _PREFIXES or (dash and not kind):
        raise UserError(f"got the tag '{tag}'; expected O, or B, I, E or S with a kind such as B-PER")
    return prefix, kind or "_"
