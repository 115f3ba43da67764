"""Make models of published sizes, and students for a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.distill import mapping
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.static_config import StaticConfig
from tfdistill.models.tasks import HEADS, NOT_TRANSFORMERS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# The comments give the number of parameters in the paper, all for the English uncased vocabulary of 30,522 entries.
PRESETS: dict[str, Any] = {
    "bert_base": BertConfig(),  # Devlin et al. 2019: 110M
    "bert_large": BertConfig(  # 340M
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
    "minilm_l6_384": BertConfig(  # Wang et al. 2020: 22M
        hidden_size=384, num_hidden_layers=6, intermediate_size=1536
    ),
    "distilbert": DistilBertConfig(),  # Sanh et al. 2019: 66M
    "tinybert_4l_312": BertConfig(  # Jiao et al. 2020: 14.5M
        hidden_size=312, num_hidden_layers=4, intermediate_size=1200
    ),
    "tinybert_6l_768": BertConfig(num_hidden_layers=6),  # 67M
    "mobilebert": MobileBertConfig(classifier_activation=False),  # Sun et al. 2020: 25.3M
    "mobilebert_tiny": MobileBertConfig(  # 15.1M
        classifier_activation=False,
        use_bottleneck_attention=True,
        key_query_shared_bottleneck=False,
        num_feedforward_networks=2,
    ),
    "ib_bert": MobileBertConfig(  # 293M; like its student it has no dense layer over [CLS], so that heads can be copied
        classifier_activation=False,
        intra_bottleneck_size=1024,
        key_query_shared_bottleneck=False,
        num_feedforward_networks=1,
        intermediate_size=4096,
        normalization_type="layer_norm",
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
    ),
    "bilstm": BiLSTMConfig(),  # Tang et al. 2019, over word pieces instead of words
    "static": StaticConfig(),  # a table, a weighted mean and one convolution: 4M
}


def config(name: str, **changes: Any) -> Any:
    """Return the config of a preset.

    Args:
        name: one of `PRESETS`.
        changes: fields of the config to change.

    Raises:
        UserError: an unknown preset or field.

    >>> config("tinybert_4l_312", num_hidden_layers=6).hidden_size
    312
    """
    if name not in PRESETS:
        raise UserError(f"Preset '{name}' is unknown. Use one of {', '.join(PRESETS)}.")
    known = [field.name for field in fields(PRESETS[name])]
    wrong = [key for key in changes if key not in known]
    if wrong:
        raise UserError(f"Preset '{name}' has no field {', '.join(wrong)}. Use one of {', '.join(known)}.")
    return replace(PRESETS[name], **changes)


def new(
    name: str,
    *,
    tokenizer: Any = None,
    num_outputs: int | None = None,
    task: str = "classification",
    label_names: Sequence[str] | None = None,
    **changes: Any,
) -> TextModel:
    """Make a model of a preset with random weights.

    Args:
        name: one of `PRESETS`.
        tokenizer: gives the size of the vocabulary; else it is the preset's, or `vocab_size` in `changes`.
        num_outputs: the size of the logits' last axis; None means the task's default.
        task: one of `tfdistill.models.tasks.HEADS`.
        label_names: class names, in the order of the logits.
        changes: fields of the preset's config to change.

    Raises:
        UserError: an unknown preset, field or task.

    Example:
        new("tinybert_4l_312", tokenizer=teacher.tokenizer, task="masked_lm")
    """
    if tokenizer is not None:
        changes.setdefault("vocab_size", len(tokenizer.vocabulary))
    from tfdistill.models.text_model import TextModel

    model = TextModel(config(name, **changes), num_outputs, task, label_names)
    model.tokenizer = tokenizer
    return model


def student(
    name: str,
    like: TextModel,
    *,
    tokenizer: Any = None,
    task: str | None = None,
    dropout: float | None = None,
    **changes: Any,
) -> TextModel:
    """Make a model of a preset with random weights, for the task and classes of a teacher.

    Args:
        name: one of `PRESETS`.
        like: the teacher. It gives task, classes, label names and vocabulary.
        tokenizer: another vocabulary than the teacher's.
        task: another task than the teacher's, with its default number of outputs.
        dropout: replaces all dropout rates of the preset.
        changes: fields of the preset's config to change.

    Raises:
        UserError: an unknown preset or field, or a task that the student's family has no head for.
    """
    vocab_size = like.config.vocab_size if tokenizer is None else len(tokenizer.vocabulary)
    sizes = with_dropout(config(name, **{"vocab_size": vocab_size, **changes}), dropout)
    return _like(like, sizes, task, tokenizer)


def with_dropout(sizes: Any, rate: float | None) -> Any:
    """Return a config with all its dropout rates replaced by `rate`; unchanged if that is None."""
    if rate is None:
        return sizes
    return replace(sizes, **{field.name: rate for field in fields(sizes) if "dropout" in field.name})


def resembling(model: TextModel, task: str | None = None) -> TextModel:
    """Make a model of the same sizes, classes and vocabulary with random weights, optionally for another task.

    Raises:
        UserError: the family has no head for the task.
    """
    return _like(model, model.config, task)


def _like(teacher: TextModel, sizes: Any, task: str | None = None, tokenizer: Any = None) -> TextModel:
    task = task or teacher.task
    same = task == teacher.task and not HEADS[task].over_vocabulary
    outputs, names = (teacher.num_outputs, teacher.label_names) if same else (None, None)
    from tfdistill.models.text_model import TextModel

    model = TextModel(sizes, outputs, task, names)
    model.tokenizer = teacher.tokenizer if tokenizer is None else tokenizer
    return model


# --- initialised from the teacher -----------------------------------------------------------------------------------


def student_from_layers(
    teacher: TextModel,
    num_layers: int | None = None,
    layers: Sequence[int] | None = None,
    *,
    family: str | None = None,
    dropout: float | None = None,
) -> TextModel:
    """Make a student of some of the teacher's layers, with its embeddings, pooler and head, weights included.

    Args:
        teacher: any transformer. The student has its family; an ALBERT shares the weights among its layers as well.
        num_layers: the number of layers, chosen by `mapping.uniform` (3 of 6: layers 2, 4, 6).
        layers: the numbers of the layers, from 1; instead of `num_layers`.
        family: "distilbert" makes a DistilBERT of a BERT. It has no token types: the teacher's vector
            of segment 0 is added to the position table, so that single sentences keep their
            embeddings. Its pooler has another activation and starts with random weights.
        dropout: replaces all dropout rates; None keeps the teacher's.

    Raises:
        UserError: a teacher without layers, a layer that does not exist, or an impossible family.
    """
    if teacher.family in NOT_TRANSFORMERS:
        raise UserError(f"The teacher is a {teacher.family} model. Use a transformer, whose layers can be copied.")
    teacher.require_layers()
    if family not in (None, teacher.family) and (teacher.family, family) != ("bert", "distilbert"):
        raise UserError(f"A {family} student cannot be cut from a {teacher.family} teacher. Leave `family` out.")
    have = teacher.num_layers
    if layers is None:
        if num_layers is None:
            raise UserError("`student_from_layers` needs `num_layers` or `layers`.")
        layers = [teacher_layer for _, teacher_layer in mapping.uniform(num_layers, have)]
    bad = [layer for layer in layers if not 1 <= layer <= have]
    if bad or not layers:
        raise UserError(f"`layers` is {list(layers)}. Use layers of the teacher, 1..{have}.")
    changed = family not in (None, teacher.family)
    sizes = teacher.config.with_layers(layers)
    student = _like(teacher, with_dropout(DistilBertConfig.of_bert(sizes) if changed else sizes, dropout))
    embeddings, source_embeddings = student.encoder.embeddings, teacher.encoder.embeddings
    parts = [(block, teacher.encoder.blocks[n - 1]) for block, n in zip(student.encoder.blocks, layers, strict=True)]
    parts.append((student.head, teacher.head))
    if student.nsp_head is not None:
        parts.append((student.nsp_head, teacher.nsp_head))
    if changed:
        parts += [(embeddings.word, source_embeddings.word), (embeddings.norm, source_embeddings.norm)]
        segment_0 = source_embeddings.token_type.embeddings[:1]
        embeddings.position.embeddings.assign(source_embeddings.position.embeddings + segment_0)
    else:
        parts.append((embeddings, source_embeddings))
        if student.encoder.pooler is not None:
            parts.append((student.encoder.pooler, teacher.encoder.pooler))
    for part, source in parts:
        part.set_weights(source.get_weights())
    return student


def copy_ends(student: TextModel, teacher: TextModel) -> None:
    """Copy the teacher's embeddings, pooler and heads to the student, as MobileBERT does from IB-BERT.

    Raises:
        UserError: a part is missing or has another shape.
    """
    ends = [
        {**model.encoder.parts(), "head": [model.head], "nsp_head": [model.nsp_head]} for model in (student, teacher)
    ]
    for name in ("embeddings", "pooler", "head", "nsp_head"):
        target, source = ((end.get(name) or [None])[0] for end in ends)
        shapes = [[w.shape for w in part.weights] if part is not None else None for part in (target, source)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{name} cannot be copied: the student's shapes are {shapes[0]}, the teacher's {shapes[1]}."
            )
        if target is not None:
            target.set_weights(source.get_weights())


def bilstm(
    teacher: TextModel,
    *,
    pair: bool = False,
    embedding_from: TextModel | None = None,
    tokenizer: Any = None,
    **sizes: Any,
) -> TextModel:
    """Make a BiLSTM student with the teacher's vocabulary.

    Args:
        teacher: gives the vocabulary and the head's classes.
        pair: whether the model is siamese, for pairs of sentences.
        embedding_from: a model whose word table, reduced by SVD to `embedding_size`, initializes the
            embedding. (Tang et al. use word2vec, which has no word pieces.)
        tokenizer: another vocabulary than the teacher's.
        sizes: fields of `BiLSTMConfig`.
    """
    table = None if embedding_from is None else embedding_from.encoder.embedding.embeddings.numpy()
    return _with_table(student("bilstm", teacher, tokenizer=tokenizer, pair=pair, **sizes), table)


def static(
    teacher: TextModel,
    *,
    pair: bool = False,
    table_from: TextModel | None = None,
    tokenizer: Any = None,
    **sizes: Any,
) -> TextModel:
    """Make a static student with the teacher's vocabulary.

    Args:
        teacher: gives the vocabulary and the head's classes.
        pair: whether the model is siamese, for pairs of sentences.
        table_from: a model with hidden states, whose `token_vectors`, reduced by PCA to `embedding_size`, initialize
            the table, as in Model2Vec. None leaves random vectors.
        tokenizer: another vocabulary than the teacher's.
        sizes: fields of `StaticConfig`.

    Raises:
        UserError: an impossible size, or `embedding_size` is larger than the hidden states of `table_from`.
    """
    table = None if table_from is None else token_vectors(table_from)
    return _with_table(student("static", teacher, tokenizer=tokenizer, pair=pair, **sizes), table)


def _with_table(made: TextModel, table: np.ndarray | None) -> TextModel:
    """Start the token table of a model from `table` (V, H), reduced to its width; None leaves random vectors."""
    if table is not None:
        made.encoder.embedding.embeddings.assign(reduced_table(table, made.config.embedding_size))
    return made


def token_vectors(model: TextModel, batch_size: int = 1024) -> np.ndarray:
    """Return what an encoder makes of each token of its vocabulary: the mean last hidden state of [CLS] token [SEP].

    Args:
        model: a model with hidden states and a tokenizer.
        batch_size: tokens in a forward pass.

    Returns:
        Float32 (V, H).
    """
    ids = np.arange(model.config.vocab_size, dtype="int32")
    rows = np.stack([np.full_like(ids, model.tokenizer.cls_id), ids, np.full_like(ids, model.tokenizer.sep_id)], axis=1)
    vectors = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        inputs = {"token_ids": batch, "padding_mask": np.ones_like(batch), "segment_ids": np.zeros_like(batch)}
        states = model.features(inputs, ("hidden_states",)).hidden_states
        assert states is not None
        vectors.append(np.asarray(states[-1], "float32").mean(axis=1))
    return np.concatenate(vectors)


def reduced_table(table: np.ndarray, width: int) -> np.ndarray:
    """Project a table on its first principal directions, scaled to a standard deviation of 0.1.

    Args:
        table: (V, H).
        width: the number of directions.

    Returns:
        Float32 (V, width).

    Raises:
        UserError: `width` is larger than H.
    """
    if width > table.shape[1]:
        raise UserError(f"`embedding_size` {width} is larger than the teacher's {table.shape[1]}. Use at most that.")
    centred = table - table.mean(axis=0)
    # The right singular vectors from the small Gram matrix: H x H instead of a decomposition of V x H.
    _, directions = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ directions[:, ::-1][:, :width]
    return (reduced / reduced.std() * 0.1).astype("float32")
