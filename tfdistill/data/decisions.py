"""Turn the logits of one text into an answer: classes, a number, entities or tags, or a span of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdistill.metrics.entities import Entity, entities, scheme_of
from tfdistill.metrics.scores import softmax
from tfdistill.text.words import word_spans


def decide(task: str, logits: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return the answer that the logits of a text, or of a pair of texts, give.

    Args:
        task: "classification", "next_sentence", "multilabel" or "regression".
        logits: (C,).
        names: the C class names; not read for regression.

    Returns:
        For classes `label` and `score`, its probability; for several labels `labels`, those with a probability above one
        half; both with `probabilities` by class, the largest first. For regression `value`.
    """
    logits = np.asarray(logits, np.float64)
    if task == "regression":
        return {"value": float(logits[0])}
    several = task == "multilabel"
    shares = 1 / (1 + np.exp(-np.clip(logits, -700, None))) if several else softmax(logits)
    order = np.argsort(-shares, kind="stable")
    probabilities = {names[place]: float(shares[place]) for place in order}
    if several:
        return {"labels": [names[place] for place in order if logits[place] > 0], "probabilities": probabilities}
    best = order[0]
    return {"label": names[best], "score": float(shares[best]), "probabilities": probabilities}


def words_of(text: str) -> list[tuple[int, int]]:
    """Return first and last character (exclusive) of each word that a model of tags reads: letters in a row or a mark."""
    return word_spans(text)


def decide_tags(
    text: str, spans: Sequence[tuple[int, int]], logits: Sequence[np.ndarray], names: Sequence[str]
) -> dict[str, Any]:
    """Return what the tags of a text's words mean.

    Args:
        text: the text.
        spans: first and last character (exclusive) of each word that was read.
        logits: of the first token of each of these words, (tags,) each.
        names: the tags.

    Returns:
        `entities`, each with `entity` (its kind), `text`, `start`, `end` (exclusive) and `score`, the mean probability of
        its tags; or `tags` of all words for tags that are no entities, such as parts of speech.
    """
    shares = [softmax(np.asarray(each, np.float64)) for each in logits]
    tags = [names[int(each.argmax())] for each in shares]
    scores = [float(each.max()) for each in shares]
    if scheme_of(names) == "plain" and "O" not in names:
        rows = zip(tags, spans, scores, strict=True)
        return {"tags": [{"tag": tag, **_span(text, *span), "score": score} for tag, span, score in rows]}

    def entry(entity: Entity) -> dict[str, Any]:
        span = _span(text, spans[entity.first][0], spans[entity.last][1])
        return {"entity": entity.kind, **span, "score": float(np.mean(scores[entity.first : entity.last + 1]))}

    # The scheme is that of all tags: the few of one text may look like another one.
    return {"entities": [entry(each) for each in entities(tags, scheme_of(names))]}


def _span(text: str, start: int, end: int) -> dict[str, Any]:
    return {"text": text[start:end], "start": start, "end": end}
