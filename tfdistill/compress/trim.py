"""Trim a vocabulary to the word pieces that texts use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any


def texts_of(split: Any) -> list[str]:
    """All texts of a split, first and second."""
    return [*split.texts, *(split.texts_b or [])]


def trim_model(
    model: Any,
    data: Any,
    *,
    more: Iterator[str] | None = None,
    min_count: int = 1,
    at_least: int = 0,
    embedding_size: int | None = None,
    max_length: int = 64,
) -> tuple[Any, dict[str, Any]]:
    """`model` with the pieces that the train and unlabelled texts of `data` use, and a report.

    Args:
        more: further texts whose pieces stay.
        min_count: pieces that occur less often go.
        at_least: so many pieces stay, as for `pieces_to_keep`.
        embedding_size: columns of the word table, which becomes a product of two matrices; None leaves it whole.
        max_length: tokens in a row, for the comparison.

    Returns:
        (the small model, {"pieces", "parameters": [before, after], "embedding_loss", "splits": for dev and test, where
        they are, the fields of `compress.vocabulary.Segmentation` and `Parity`, and "scores": [before, after]}).

    Raises:
        UserError: as `pieces_to_keep`, `trim_vocabulary` and `factorise_embedding`.
    """
    from tfdistill.compress.embedding import factorise_embedding
    from tfdistill.compress.vocabulary import compare_models, compare_segmentation, pieces_to_keep, trim_vocabulary
    from tfdistill.models.predict import evaluate

    read = [text for name in ("train", "unlabelled") if name in data.splits for text in texts_of(data.splits[name])]
    kept = pieces_to_keep(model.tokenizer, [*read, *(more or ())], min_count=min_count, at_least=at_least)
    small = trim_vocabulary(model, kept)
    report: dict[str, Any] = {
        "pieces": [len(model.tokenizer.vocabulary), len(kept)],
        "embedding_loss": None,
        "splits": {},
    }
    if embedding_size is not None:
        small, report["embedding_loss"] = factorise_embedding(small, embedding_size)
    report["parameters"] = [model.count_params(), small.count_params()]
    for name in ("dev", "test"):
        split = data.splits.get(name)
        if split is None:
            continue
        segmentation = compare_segmentation(model.tokenizer, small.tokenizer, texts_of(split))
        parity = compare_models(model, small, split.texts, split.texts_b, max_length=max_length)
        scores = None
        if split.labels is not None:
            scores = [evaluate(each, data, name, max_length=max_length) for each in (model, small)]
        report["splits"][name] = {**asdict(segmentation), **asdict(parity), "scores": scores}
    return small, report
