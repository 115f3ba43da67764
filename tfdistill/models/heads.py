"""Tasks, and the heads that answer them."""

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
    """What the head of a task reads and gives.

    Args:
        reads: the feature that the logits are computed from; of "hidden_states" the last.
        default_outputs: size of the logits' last axis if nobody says another.
        fixed: whether that size is the only one. Tasks over the vocabulary have its size, `default_outputs` None.
        pooled: whether the encoder needs a pooler.
        architecture: how transformers' classes for this task end.
        labelled: whether the outputs are classes that have names.
    """

    reads: str
    default_outputs: int | None
    fixed: bool
    pooled: bool
    architecture: str
    labelled: bool = False

    @property
    def over_vocabulary(self) -> bool:
        return self.default_outputs is None


TASKS: dict[str, Task] = {
    "classification": Task("pooled", 2, False, True, "ForSequenceClassification", labelled=True),
    "multilabel": Task("pooled", 2, False, True, "ForSequenceClassification", labelled=True),
    "regression": Task("pooled", 1, False, True, "ForSequenceClassification", labelled=True),
    "token_classification": Task("hidden_states", 2, False, False, "ForTokenClassification", labelled=True),
    "question_answering": Task("hidden_states", 2, True, False, "ForQuestionAnswering"),
    "masked_lm": Task("hidden_states", None, True, False, "ForMaskedLM"),
    "pretraining": Task("hidden_states", None, True, True, "ForPreTraining"),
    "next_sentence": Task("pooled", 2, True, True, "ForNextSentencePrediction"),
}

# What each family can be trained for. DistilBERT was trained without next-sentence prediction and has no head for it.
_SEQUENCE = ("classification", "multilabel", "regression")
_BY_FAMILY = {
    "bert": tuple(TASKS),
    "mobilebert": tuple(TASKS),
    "distilbert": (*_SEQUENCE, "token_classification", "question_answering", "masked_lm"),
    "bilstm": (*_SEQUENCE, "token_classification"),
    "pruned_bert": tuple(TASKS),
}


def task_of(name: str, family: str) -> Task:
    """The task called `name`. Raises UserError for one that is unknown, or that the family has no head for."""
    if name not in TASKS:
        raise UserError(f"task '{name}' is unknown; expected one of {', '.join(TASKS)}")
    if name not in _BY_FAMILY[family]:
        raise UserError(f"a {family} model has no head for '{name}'; expected one of {', '.join(_BY_FAMILY[family])}")
    return TASKS[name]


def outputs_of(task: str, asked: int | None, vocab_size: int) -> int:
    """Size of the logits' last axis. Raises UserError where the task leaves no choice and another was asked for."""
    said = TASKS[task]
    size = vocab_size if said.default_outputs is None else said.default_outputs
    if asked is None or (not said.fixed and asked >= 1):
        return size if asked is None else asked
    if said.fixed and asked == size:
        return size
    expected = f"{size}; leave num_outputs out" if said.fixed else "at least 1"
    raise UserError(f"num_outputs is {asked} for the task '{task}'; expected {expected}")


class LinearHead(Linear):
    """Logits (..., C) by one dense layer. They stay in float32 under mixed precision: softmax is where range is lost."""

    def __init__(self, outputs: int, kernel_initializer: Any, name: str = "head"):
        super().__init__(outputs, kernel_initializer=kernel_initializer, dtype="float32", name=name)


class MaskedLMHead(Composite):
    """Dense, activation, LayerNorm, then the product with the word-piece table (V, E), to which it is tied, and a bias.

    Where the table is narrower than the hidden states (MobileBERT: 128 of 512), further weights (H - E, V) make up the rest.
    """

    def __init__(self, config: Any, table_width: int, **kwargs: Any):
        super().__init__(**kwargs)
        width, vocab_size = config.hidden_size, config.vocab_size
        self.transform = Linear(
            width,
            ACTIVATIONS[config.hidden_act],
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
        """Float32 logits (B, L, V) of hidden states (B, L, H); (B, K, V) if `positions` (B, K) names the ones to compute."""
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
