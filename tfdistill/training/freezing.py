"""Name, freeze and copy the parts of a student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tfdistill.errors import UserError
from tfdistill.system.lazy import keras

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def parts_of(student: TextModel) -> tuple[str, ...]:
    """Return the names of the student's parts from the bottom up: embeddings, layers, pooler, head."""
    return (*student.encoder.parts(), "head")


def layers_of(student: TextModel, part: str) -> list[keras.layers.Layer]:
    """Return the Keras layers of a part.

    Raises:
        UserError: the student does not have the part.
    """
    encoder = student.encoder
    by_name = {"encoder": [encoder], "word_embeddings": [encoder.embedding], **encoder.parts(), "head": [student.head]}
    if part not in by_name:
        raise UserError(
            f"freeze=('{part}',): expected encoder, word_embeddings or some of {', '.join(parts_of(student))}"
        )
    return by_name[part]


@contextmanager
def frozen(student: TextModel, parts: Sequence[str]) -> Iterator[None]:
    """Freeze `parts` of the student inside the block. Raises UserError for a part it does not have."""
    layers = [layer for part in parts for layer in layers_of(student, part)]
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def copy_encoder(source: TextModel, target: TextModel) -> None:
    """Copy the encoder weights of `source` to `target`, part by part. A pooler that only one of them has stays as it is.

    Raises UserError if they have different architectures.
    """
    for part in parts_of(source):
        if part == "head" or (part == "pooler" and "pooler" not in parts_of(target)):
            continue
        for layer, copy in zip(layers_of(source, part), layers_of(target, part), strict=True):
            if [w.shape for w in layer.weights] != [w.shape for w in copy.weights]:
                raise UserError(f"{part} cannot be copied between models of different architectures.")
            copy.set_weights(layer.get_weights())
