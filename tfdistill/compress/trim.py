"""Trim the vocabulary of a model to the word pieces that its data use, and report what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any


def texts_of(split: Any) -> list[str]:
    """Return all texts of a split, first and second ones."""
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
    """Return a model with the word pieces that the train and unlabelled texts of its data use, and a report.

    Args:
        model: the model, with its tokenizer.
        data: the data it was trained on.
        more: further texts whose tokens stay.
        min_count: drop pieces that occur less often.
        at_least: the smallest size of the vocabulary, as for `pieces_to_keep`.
        embedding_size: columns of the word table, which is then factorised; None keeps the table whole.
        max_length: the largest number of tokens of an example, for the comparison.

    Returns:
        The small model, and {"pieces": [before, after], "parameters": [before, after], "embedding_loss",
            "splits"}. For dev and test, if they exist, "splits" has the fields of `Segmentation` and
            `Parity` in `tfdistill.compress.vocabulary`, and "scores": [before, after].

    Raises:
        UserError: as for `pieces_to_keep`, `trim_vocabulary` and `factorise_embedding`.
    """
    from tfdistill.compress.embedding import factorise_embedding
    from tfdistill.compress.vocabulary import compare_models, compare_segmentation, pieces_to_keep, trim_vocabulary
    from tfdistill.models.predict import evaluate

    model.require_layers()
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
            # The comparison reads the same texts, so that one line about cut texts is enough.
            options = {"": model, None: small}
            scores = [
                evaluate(each, data, name, max_length=max_length, cut_option=option) for option, each in options.items()
            ]
        report["splits"][name] = {**asdict(segmentation), **asdict(parity), "scores": scores}
    return small, report
