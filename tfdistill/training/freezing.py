"""Name, freeze and copy the parts of a student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel


def parts_of(student: TextModel) -> tuple[str, ...]:
    """Names of the student's parts from the bottom up: embeddings, layers, pooler, head."""
    encoder = student.encoder
    layers = len(encoder.blocks) if hasattr(encoder, "blocks") else len(encoder.forward)
    pooler = ("pooler",) if _pooler(encoder) is not None else ()
    return ("embeddings", *(f"layer_{n}" for n in range(1, layers + 1)), *pooler, "head")


def layers_of(student: TextModel, part: str) -> list[keras.layers.Layer]:
    """The Keras layers that a part's name stands for. Raises UserError for a part the student does not have."""
    encoder = student.encoder
    if part == "encoder":
        return [encoder]
    if part == "head":
        return [student.head]
    if part in ("embeddings", "word_embeddings"):
        if not hasattr(encoder, "embeddings"):
            return [encoder.embedding]
        return [encoder.embeddings if part == "embeddings" else encoder.embeddings.word]
    if part == "pooler" and _pooler(encoder) is not None:
        return [_pooler(encoder)]
    if part in parts_of(student) and part.startswith("layer_"):
        number = int(part.removeprefix("layer_")) - 1
        return (
            [encoder.blocks[number]]
            if hasattr(encoder, "blocks")
            else [encoder.forward[number], encoder.backward[number]]
        )
    raise UserError(
        f"freeze=('{part}',): expected 'encoder', 'word_embeddings' or some of {', '.join(parts_of(student))}"
    )


def _pooler(encoder: Any) -> Any:
    return getattr(encoder, "pooler", None) or getattr(encoder, "dense", None)


@contextmanager
def frozen(student: TextModel, parts: Sequence[str]) -> Iterator[None]:
    """Keep `parts` of the student as they are inside the block. Raises UserError for a part it does not have."""
    layers = [layer for part in parts for layer in layers_of(student, part)]
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def copy_encoder(source: TextModel, target: TextModel) -> None:
    """Give `target` the encoder weights of `source`, part by part. A pooler that only one of them has stays as it is.

    Raises UserError where the two are not of one architecture.
    """
    for part in parts_of(source):
        if part == "head" or (part == "pooler" and "pooler" not in parts_of(target)):
            continue
        for theirs, ours in zip(layers_of(source, part), layers_of(target, part), strict=True):
            if [w.shape for w in theirs.weights] != [w.shape for w in ours.weights]:
                raise UserError(f"{part} cannot be copied: the two models are not of one architecture")
            ours.set_weights(theirs.get_weights())
