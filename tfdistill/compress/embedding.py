"""Embedding factorisation: the word table (V, H) as (V, E) times (E, H), by singular value decomposition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfdistill.compress.structured import like, sizes_of
from tfdistill.errors import UserError
from tfdistill.models.heads import HEADS
from tfdistill.models.text_model import TextModel


def factorise_embedding(model: TextModel, size: int) -> tuple[TextModel, float]:
    """A new model whose word table has `size` columns, and what the table lost.

    The best approximation of rank `size` of the centred table (Eckart and Young 1936); the mean row, which every token adds,
    goes into the position table, so nothing of it is lost.

    Returns:
        (the model, ‖table - product‖ / ‖table - its mean row‖ in Frobenius norms).

    Raises:
        UserError: no BERT or DistilBERT, a table that is factorised already, a masked-LM head (it is tied to the table), or a
            size that is not smaller than the hidden width.
    """
    sizes = sizes_of(model)
    if sizes.embedding_size is not None:
        raise UserError(
            f"the word table is factorised already ({sizes.embedding_size} columns); start from the whole model"
        )
    if HEADS[model.task].over_vocabulary:
        raise UserError(f"the head for '{model.task}' is tied to the word table; factorise after fine-tuning on a task")
    if not 1 <= size < sizes.hidden_size:
        raise UserError(f"the word table was to have {size} columns; expected 1..{sizes.hidden_size - 1}")
    small = like(model, replace(sizes, embedding_size=size, layerdrop=0.0))
    ours, theirs = small.encoder.embeddings, model.encoder.embeddings
    table = theirs.word.embeddings.numpy().astype("float64")
    mean = table.mean(axis=0)
    # The right singular vectors from the small Gram matrix: H x H in place of a decomposition of V x H.
    squares, directions = np.linalg.eigh((table - mean).T @ (table - mean))
    squares, directions = np.maximum(squares[::-1], 0.0), directions[:, ::-1]
    ours.word.embeddings.assign((table - mean) @ directions[:, :size])
    ours.word_projection.kernel.assign(directions[:, :size].T)
    ours.position.embeddings.assign(theirs.position.embeddings.numpy() + mean)
    parts = [(ours.norm, theirs.norm), (small.head, model.head)]
    parts += [(ours.token_type, theirs.token_type)] if theirs.token_type is not None else []
    parts += list(zip(small.encoder.blocks, model.encoder.blocks, strict=True))
    parts += [(small.encoder.pooler, model.encoder.pooler)] if model.encoder.pooler is not None else []
    for to, source in parts:
        to.set_weights(source.get_weights())
    lost = float(np.sqrt(squares[size:].sum() / max(squares.sum(), 1e-30)))
    return small, lost
