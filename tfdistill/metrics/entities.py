"""Entity scores of tagged words, as the CoNLL shared tasks compute them (`conlleval`).

The rules are the default ones of the package seqeval: lenient, so that IOB1, IOB2, IOBES and tags that break their scheme
all give entities. BILOU is read as well, and so are tags with suffixes and tags without a prefix.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from tfdistill.errors import UserError

# The prefixes of BILOU (last, unit) and BMES (middle) mean the same as those of IOBES.
_SAME_AS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "I", "U": "S", "M": "I"}
PREFIXED = re.compile("[BIESLUM](?:-.*)?", re.DOTALL)
_SUFFIXED = re.compile(".+-[BIESLUM]", re.DOTALL)
Scheme = Literal["prefix", "suffix", "plain"]


class Entity(NamedTuple):
    """The words `first` to `last`, both included."""

    kind: str
    first: int
    last: int


def scheme_of(tags: Collection[str]) -> Scheme:
    """Return how tags mark where an entity begins: by a prefix (B-PER), by a suffix (PER-B), or not at all ("plain")."""
    others = [tag for tag in tags if tag != "O"]
    if others and all(PREFIXED.fullmatch(tag) and "-" in tag for tag in others):
        return "prefix"
    if any(PREFIXED.fullmatch(tag) and "-" in tag and tag[0] in "BISU" for tag in others):
        return "prefix"
    if any(tag in ("B", "I", "S", "U") for tag in others) and all(len(tag) == 1 and tag in _SAME_AS for tag in others):
        return "prefix"
    return "suffix" if others and all(map(_SUFFIXED.fullmatch, others)) else "plain"


def odd_tag(tags: Collection[str]) -> str | None:
    """Return the first tag without a prefix, or with one and no kind, where others have both; None if there is none."""
    if scheme_of(tags) != "prefix":
        return None
    kinds = any("-" in tag for tag in tags if tag != "O")
    return next((tag for tag in tags if tag != "O" and (not PREFIXED.fullmatch(tag) or (kinds and not tag[2:]))), None)


def entities(tags: Sequence[str], scheme: Scheme | None = None) -> list[Entity]:
    """Return the entities of one sentence, in order.

    An entity ends after E or S, before B, S and O, and where the kind changes. Any other tag after O, E, S or another kind
    begins one.

    Args:
        tags: "O", or B, I, E or S with "-" and a kind ("B-PER"); L, U and M mean I, S and I. The kind of a prefix alone is "_".
            Other tags are kinds of which each word is I, unless all tags have a suffix ("PER-B").
        scheme: how tags mark where an entity begins; by default what `scheme_of` makes of these tags.

    Raises:
        UserError: a tag is empty.
    """
    return _entities(tags, scheme or scheme_of(set(tags)))


def _entities(tags: Sequence[str], scheme: Scheme) -> list[Entity]:
    entities: list[Entity] = []
    before, kind_before, first = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = _parts(tag, scheme)
        changes = kind != kind_before
        if before != "O" and (before in "ES" or prefix in "BSO" or changes):
            entities.append(Entity(kind_before, first, place - 1))
        if prefix != "O" and (prefix in "BS" or before in "ESO" or changes):
            first = place
        before, kind_before = prefix, kind
    return entities


def entity_scores(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return f1, precision and recall of entities, and the accuracy of words.

    An entity is right if its kind and its words are. Scores without any entities are 0.0. Accuracy comes first for tags that are
    not entities, such as parts of speech: tags without a prefix, and no label "O".

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
    known = {tag for row in labels for tag in row}
    scheme = scheme_of(known | {tag for row in predictions for tag in row})
    right = actual = predicted = same = 0
    for number, (row, other) in enumerate(zip(labels, predictions, strict=True)):
        if len(row) != len(other):
            raise UserError(f"sentence {number} has {len(row)} words and {len(other)} predictions")
        expected, found = set(_entities(row, scheme)), set(_entities(other, scheme))
        right, actual, predicted = right + len(expected & found), actual + len(expected), predicted + len(found)
        same += sum(tag == other_tag for tag, other_tag in zip(row, other, strict=True))
    scores = {
        "f1": 2 * right / (actual + predicted) if actual + predicted else 0.0,
        "precision": right / predicted if predicted else 0.0,
        "recall": right / actual if actual else 0.0,
        "accuracy": same / sum(map(len, labels)),
    }
    if scheme == "plain" and "O" not in known:
        scores = {"accuracy": scores["accuracy"], **scores}
    return scores


def _parts(tag: str, scheme: Scheme) -> tuple[str, str]:
    if not tag:
        raise UserError("got an empty tag; expected O, or B, I, E or S with a kind such as B-PER")
    if tag == "O":
        return "O", ""
    if scheme == "suffix" and _SUFFIXED.fullmatch(tag):
        return _SAME_AS[tag[-1]], tag[:-2]
    if scheme == "prefix" and PREFIXED.fullmatch(tag):
        return _SAME_AS[tag[0]], tag[2:] or "_"
    return "I", tag
