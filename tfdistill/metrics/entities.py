"""Entity scores of tagged words, as the CoNLL shared tasks compute them (`conlleval`).

The rules are the default ones of the package seqeval: lenient, so that IOB1, IOB2, IOBES and tags that break their scheme
all give entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tfdistill.errors import UserError

_PREFIXES = "BIES"


class Entity(NamedTuple):
    """The words `first` to `last`, both included."""

    kind: str
    first: int
    last: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of one sentence, in order.

    An entity ends after E or S, before B, S and O, and where the kind changes. Any other tag after O, E, S or another kind
    begins one.

    Args:
        tags: "O", or B, I, E or S with "-" and a kind ("B-PER"); the kind of a prefix alone is "_".

    Raises:
        UserError: another tag.
    """
    entities: list[Entity] = []
    before, kind_before, first = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = _parts(tag)
        changes = kind != kind_before
        if before != "O" and (before in "ES" or prefix in "BSO" or changes):
            entities.append(Entity(kind_before, first, place - 1))
        if prefix != "O" and (prefix in "BS" or before in "ESO" or changes):
            first = place
        before, kind_before = prefix, kind
    return entities


def entity_scores(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return f1, precision and recall of entities, and the accuracy of words.

    An entity is right if its kind and its words are. Scores without any entities are 0.0.

    Args:
        labels: the true tags of each sentence.
        predictions: the predicted tags of the same sentences.

    Raises:
        UserError: the numbers of sentences or words differ, or there are no words.
    """
    if len(labels) != len(predictions):
        raise UserError(f"got tags of {len(labels)} sentences and {len(predictions)} predictions")
    if not any(len(row) for row in labels):
        raise UserError("got no tagged words; expected at least one sentence")
    right = actual = predicted = same = 0
    for number, (row, other) in enumerate(zip(labels, predictions, strict=True)):
        if len(row) != len(other):
            raise UserError(f"sentence {number} has {len(row)} words and {len(other)} predictions")
        expected, found = set(entities(row)), set(entities(other))
        right, actual, predicted = right + len(expected & found), actual + len(expected), predicted + len(found)
        same += sum(tag == other_tag for tag, other_tag in zip(row, other, strict=True))
    return {
        "f1": 2 * right / (actual + predicted) if actual + predicted else 0.0,
        "precision": right / predicted if predicted else 0.0,
        "recall": right / actual if actual else 0.0,
        "accuracy": same / sum(map(len, labels)),
    }


def _parts(tag: str) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    prefix, dash, kind = tag.partition("-")
    if len(prefix) != 1 or prefix not in _PREFIXES or (dash and not kind):
        raise UserError(f"got the tag '{tag}'; expected O, or B, I, E or S with a kind such as B-PER")
    return prefix, kind or "_"
