"""Factorise the word table (V, H) into (V, E) times (E, H), by singular value decomposition."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tfdistill.compress.structured import like, sizes_of
from tfdistill.errors import UserError
from tfdistill.models.tasks import HEADS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def factorise_embedding(model: TextModel, size: int) -> tuple[TextModel, float]:
    """Return a new model whose word table has `size` columns, and what the table lost.

    The product is the best approximation of rank `size` of the centred table (Eckart and Young 1936).
    The mean row, which every token adds, moves to the position table, so it is not lost.

    Args:
        model: a BERT or DistilBERT.
        size: E.

    Returns:
        The model, and ‖table - product‖ / ‖table - its mean row‖ in Frobenius norms.

    Raises:
        UserError: not a BERT or DistilBERT, a table that is factorised already, a masked-LM head (which
            is tied to the table), or a size that is not smaller than the hidden size.
    """
    sizes = sizes_of(model)
    if sizes.embedding_size is not None:
        raise UserError(
            f"The word table is factorised already, to {sizes.embedding_size} columns. Use the model before that."
        )
    if HEADS[model.task].over_vocabulary:
        raise UserError(
            f"The head for '{model.task}' is tied to the word table. Factorise after fine-tuning on a task."
        )
    if not 1 <= size < sizes.hidden_size:
        raise UserError(f"The embedding size is {size}. Use 1..{sizes.hidden_size - 1}.")
    small = like(model, replace(sizes, embedding_size=size, layerdrop=0.0))
    to, whole = small.encoder.embeddings, model.encoder.embeddings
    table = whole.word.embeddings.numpy().astype("float64")
    mean = table.mean(axis=0)
    # The right singular vectors from the small Gram matrix: H x H in place of a decomposition of V x H.
    squares, directions = np.linalg.eigh((table - mean).T @ (table - mean))
    squares, directions = np.maximum(squares[::-1], 0.0), directions[:, ::-1]
    to.word.embeddings.assign((table - mean) @ directions[:, :size])
    to.word_projection.kernel.assign(directions[:, :size].T)
    to.position.embeddings.assign(whole.position.embeddings.numpy() + mean)
    parts = [(to.norm, whole.norm), (small.head, model.head)]
    parts += [(to.token_type, whole.token_type)] if whole.token_type is not None else []
    parts += list(zip(small.encoder.blocks, model.encoder.blocks, strict=True))
    parts += [(small.encoder.pooler, model.encoder.pooler)] if model.encoder.pooler is not None else []
    for part, source in parts:
        part.set_weights(source.get_weights())
    lost = float(np.sqrt(squares[size:].sum() / max(squares.sum(), 1e-30)))
    return small, lost
