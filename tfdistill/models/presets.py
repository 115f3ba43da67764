"""Students made from a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tfdistill import mapping
from tfdistill.errors import UserError
from tfdistill.models.bert import BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.text import TextModel


def _like(teacher: TextModel, config: BertConfig | BiLSTMConfig) -> TextModel:
    model = TextModel(config, teacher.num_outputs, teacher.task, teacher.label_names)
    model.tokenizer = teacher.tokenizer
    return model


def student_from_layers(
    teacher: TextModel, num_layers: int | None = None, layers: Sequence[int] | None = None
) -> TextModel:
    """A student with some of the teacher's layers, its embeddings, pooler and head, weights included.

    Args:
        teacher: a BERT model.
        num_layers: how many, taken by `mapping.uniform` (3 of 6: layers 2, 4, 6); or
        layers: which, numbered from 1.

    Raises:
        UserError: the teacher is no BERT, or a layer does not exist.
    """
    if teacher.family != "bert":
        raise UserError(f"the teacher is a {teacher.family} model; a student is cut from the layers of a BERT model")
    have = teacher.num_layers
    if layers is None:
        if num_layers is None:
            raise UserError("student_from_layers takes num_layers or layers; received neither")
        layers = [teacher_layer for _, teacher_layer in mapping.uniform(num_layers, have)]
    bad = [layer for layer in layers if not 1 <= layer <= have]
    if bad or not layers:
        raise UserError(f"layers {list(layers)} were asked for; expected some of the teacher's 1..{have}")
    student = _like(teacher, replace(teacher.config, num_hidden_layers=len(layers)))
    parts = [(student.encoder.embeddings, teacher.encoder.embeddings), (student.encoder.pooler, teacher.encoder.pooler)]
    parts += [(block, teacher.encoder.blocks[n - 1]) for block, n in zip(student.encoder.blocks, layers, strict=True)]
    for ours, theirs in (*parts, (student.head, teacher.head)):
        ours.set_weights(theirs.get_weights())
    return student


def bilstm(
    teacher: TextModel, *, pair: bool = False, embedding_from: TextModel | None = None, **sizes: object
) -> TextModel:
    """A BiLSTM student over the teacher's word pieces.

    Args:
        teacher: gives the vocabulary and the head's classes.
        pair: siamese, for pairs of sentences.
        embedding_from: a BERT model whose word-piece table, reduced by SVD to `embedding_size`, starts the embedding.
            Tang et al. start from word2vec; over word pieces this table is what takes its place.
        sizes: fields of `BiLSTMConfig`.
    """
    config = BiLSTMConfig(vocab_size=teacher.config.vocab_size, pair=pair, **sizes)  # type: ignore[arg-type]
    student = _like(teacher, config)
    if embedding_from is not None:
        table = embedding_from.encoder.embeddings.word.embeddings.numpy()
        student.encoder.embedding.embeddings.assign(reduced_table(table, config.embedding_size))
    return student


def reduced_table(table: np.ndarray, width: int) -> np.ndarray:
    """`table` (V, H) projected on its first `width` principal directions, at unit variance over all entries.

    Raises UserError when `width` is larger than H.
    """
    if width > table.shape[1]:
        raise UserError(f"embedding_size {width} is larger than the teacher's {table.shape[1]}; choose at most that")
    centred = table - table.mean(axis=0)
    # The right singular vectors from the small Gram matrix: H x H instead of a decomposition of V x H.
    _, directions = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ directions[:, ::-1][:, :width]
    return (reduced / reduced.std() * 0.1).astype("float32")
