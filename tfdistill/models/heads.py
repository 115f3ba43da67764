"""The tasks of models, and the heads that compute their logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.layers import ACTIVATIONS, Composite, Linear, initializer


@dataclass(frozen=True)
class Task:
    """What differs between the heads of two tasks.

    Args:
        reads: the feature that the logits are computed from; of "hidden_states" the last layer's.
        architecture: how transformers' classes for this task end.
        tensor: transformers' name of the head's dense layer; "" if the head is over the vocabulary.
        default_outputs: size of the logits' last axis by default; None means the size of the vocabulary.
        fixed: whether that is the only possible size.
        pooled: whether the encoder needs a pooler.
        labelled: whether the outputs are classes with names.
        problem_type: how config.json tells the tasks of one architecture apart.
    """

    reads: str
    architecture: str
    tensor: str = ""
    default_outputs: int | None = 2
    fixed: bool = False
    pooled: bool = True
    labelled: bool = False
    problem_type: str | None = None

    @property
    def over_vocabulary(self) -> bool:
        return self.default_outputs is None

    @property
    def per_token(self) -> bool:
        """Whether there are logits for each token, (B, L, C), rather than for each example, (B, C)."""
        return self.reads == "hidden_states"


def _sequence(problem_type: str, outputs: int = 2) -> Task:
    return Task(
        "pooled",
        "ForSequenceClassification",
        "classifier",
        outputs,
        labelled=True,
        problem_type=problem_type,
    )


HEADS: dict[str, Task] = {
    "classification": _sequence("single_label_classification"),
    "multilabel": _sequence("multi_label_classification"),
    "regression": _sequence("regression", outputs=1),
    "token_classification": Task("hidden_states", "ForTokenClassification", "classifier", pooled=False, labelled=True),
    "question_answering": Task("hidden_states", "ForQuestionAnswering", "qa_outputs", fixed=True, pooled=False),
    "masked_lm": Task("hidden_states", "ForMaskedLM", default_outputs=None, fixed=True, pooled=False),
    "pretraining": Task("hidden_states", "ForPreTraining", default_outputs=None, fixed=True),
    "next_sentence": Task("pooled", "ForNextSentencePrediction", "cls.seq_relationship", fixed=True),
}

SEQUENCE_TASKS = ("classification", "multilabel", "regression")
_WITHOUT_NEXT_SENTENCE = (*SEQUENCE_TASKS, "token_classification", "question_answering", "masked_lm")
# These families were trained without next-sentence prediction and have no head for it. ELECTRA's and ALBERT's own
# pre-training heads, for replaced tokens and for the order of sentences, are not among our tasks.
_BY_FAMILY = {
    **dict.fromkeys(("distilbert", "roberta", "electra", "albert"), _WITHOUT_NEXT_SENTENCE),
    "bilstm": (*SEQUENCE_TASKS, "token_classification"),
    "static": (*SEQUENCE_TASKS, "token_classification"),
}


def tasks_of(family: str) -> tuple[str, ...]:
    """Return the tasks that a family has heads for."""
    return _BY_FAMILY.get(family, tuple(HEADS))


def task_of(name: str, family: str) -> Task:
    """Return the task called `name`.

    Raises:
        UserError: an unknown task, or one that the family has no head for.
    """
    known = tasks_of(family)
    if name not in HEADS:
        raise UserError(f"task '{name}' is unknown. Use one of {', '.join(HEADS)}.")
    if name not in known:
        raise UserError(f"A {family} model has no head for '{name}'. Use one of {', '.join(known)}.")
    return HEADS[name]


def outputs_of(task: str, requested: int | None, vocab_size: int) -> int:
    """Return the size of the logits' last axis.

    Raises:
        UserError: the task allows one size only, and another one was requested.
    """
    head = HEADS[task]
    if task == "classification" and requested == 1:
        raise UserError("A classification has at least 2 classes, received 1. Use task 'regression' for one output.")
    size = vocab_size if head.default_outputs is None else head.default_outputs
    if requested is None or requested == size or (not head.fixed and requested >= 1):
        return size if requested is None else requested
    expected = f"{size}, or leave it out" if head.fixed else "at least 1"
    raise UserError(f"`num_outputs` is {requested} for the task '{task}'. Use {expected}.")


class LinearHead(Linear):
    """Compute logits (..., C) by one dense layer, in float32 even under mixed precision, since softmax needs the range."""

    def __init__(self, outputs: int, kernel_initializer: Any, name: str = "head"):
        super().__init__(outputs, kernel_initializer=kernel_initializer, dtype="float32", name=name)


class MaskedLMHead(Composite):
    """Score the vocabulary: dense, activation, LayerNorm, the product with the word table (V, E) it is tied to, and a bias.

    If the table is narrower than the hidden states, the dense layer is as wide as the table in ELECTRA and ALBERT; in
    MobileBERT (128 of 512) further weights (H - E, V) make up the rest.

    Args:
        config: the encoder's sizes.
        table_width: E.
    """

    def __init__(self, config: Any, table_width: int, **kwargs: Any):
        super().__init__(**kwargs)
        width = table_width if getattr(config, "projects_sum", False) else config.hidden_size
        vocab_size = config.vocab_size
        self.transform = Linear(
            width,
            ACTIVATIONS[getattr(config, "masked_lm_act", None) or config.hidden_act],
            kernel_initializer=initializer(config.initializer_range),
            dtype=self.dtype_policy,
            name="transform",
        )
        self.norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="norm")
        self.rest = None
        if table_width < width:
            self.rest = self.add_weight(
                shape=(width - table_width, vocab_size),
                initializer=initializer(config.initializer_range),
                name="rest",
            )
        self.bias = self.add_weight(shape=(vocab_size,), initializer="zeros", name="bias")

    def call(self, hidden: Any, table: Any, positions: Any = None) -> Any:
        """Return float32 logits (B, L, V), or (B, K, V) with `positions`.

        Args:
            hidden: hidden states (B, L, H) of the last layer.
            table: the word table (V, E).
            positions: int32 (B, K), the positions to compute; None computes all.
        """
        if positions is not None:
            hidden = tf.gather(hidden, positions, axis=1, batch_dims=1)
        hidden = self.norm(self.transform(hidden))
        shape = ops.shape(hidden)
        flat = ops.reshape(hidden, (-1, shape[-1]))
        table = ops.cast(table, flat.dtype)
        width = table.shape[1]
        logits = tf.matmul(flat[:, :width], table, transpose_b=True)
        if self.rest is not None:
            logits = logits + ops.matmul(flat[:, width:], ops.cast(self.rest, flat.dtype))
        logits = ops.cast(logits, "float32") + ops.cast(self.bias, "float32")
        return ops.reshape(logits, (*shape[:-1], table.shape[0]))
