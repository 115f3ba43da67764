"""What a model says of each row of a split, as plain values for a file: labels, tags, or answers with the n best."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfdistill.data import conll
from tfdistill.data.conll import TaggedData, TaggedSplit
from tfdistill.data.dataset import AnySplit, Data, Rows, answers_in
from tfdistill.data.splits import Split
from tfdistill.data.squad import QuestionData, QuestionSplit
from tfdistill.metrics.scores import softmax


def predictions_of(data: Data, split: AnySplit, rows: Rows, logits: np.ndarray) -> list[dict[str, Any]]:
    """An object for each text, sentence or question of the split, in its order.

    Texts: text, text_b, label where it is known, predicted, and of classes the probabilities. Tags: words, tags, predicted. Questions:
    id, answers, predicted, no_answer_score (none where it is no number), and n_best with text, score and probability.

    Args:
        rows, logits: as `tfdistill.data.dataset.scores_of` takes them.
    """
    if isinstance(data, TaggedData):
        assert isinstance(split, TaggedSplit)
        predicted = conll.tags_from_logits(split, rows.made, logits, data.label_names)
        return [
            {"words": words, "tags": tags, "predicted": said}
            for words, tags, said in zip(split.words, split.tags, predicted, strict=True)
        ]
    if isinstance(data, QuestionData):
        assert isinstance(split, QuestionSplit)
        answers = answers_in(data, split, rows, logits)
        return [
            {
                "id": question.id,
                "answers": [answer.text for answer in question.answers],
                "predicted": answers[question.id].text,
                "no_answer_score": _finite(answers[question.id].no_answer_score),
                "n_best": [candidate._asdict() for candidate in answers[question.id].n_best],
            }
            for question in split.questions
        ]
    assert isinstance(split, Split)
    found = []
    for number, row in enumerate(np.asarray(logits, np.float64)):
        said: dict[str, Any] = {"text": split.texts[number]}
        if split.texts_b is not None:
            said["text_b"] = split.texts_b[number]
        if split.labels is not None:
            said["label"] = _label(data.label_names, split.labels[number])
        found.append(said | _said(data.task, data.label_names, row))
    return found


def _said(task: str, names: tuple[str, ...] | None, row: np.ndarray) -> dict[str, Any]:
    if task == "regression":
        return {"predicted": float(row[0])}
    if task == "multilabel":
        probabilities = 1 / (1 + np.exp(-row))
        return {"predicted": _label(names, row > 0), "probabilities": _by_name(names, probabilities)}
    return {"predicted": _label(names, row.argmax()), "probabilities": _by_name(names, softmax(row))}


def _label(names: tuple[str, ...] | None, label: Any) -> Any:
    """A class by its name, the classes of several, or a number."""
    label = np.asarray(label)
    if names is None:
        return label.item()
    return [name for name, there in zip(names, label, strict=True) if there] if label.ndim else names[int(label)]


def _by_name(names: tuple[str, ...] | None, values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names or map(str, range(len(values))), values, strict=False)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
