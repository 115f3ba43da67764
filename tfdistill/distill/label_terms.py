"""Terms that read labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfdistill.distill import losses
from tfdistill.distill.losses import Value
from tfdistill.distill.step import Step, Term
from tfdistill.errors import UserError


@dataclass(frozen=True)
class PseudoLabels(Term):
    """CE(argmax z_t, σ(z_s)) on the rows that have no label of their own (Mukherjee and Awadallah 2019). For classes."""

    weight: float = 1.0
    name: str = "pseudo_labels"
    student_features = teacher_features = frozenset({"logits"})

    def __call__(self, step: Step) -> Value:
        if step.teacher is None or step.labels is None:
            raise UserError(f"the term '{self.name}' needs a teacher and labels, below 0 for none; give fit both")
        value, unlabelled = (
            losses.pseudo_labels(step.student.logits, step.teacher.logits),
            1 - losses.known(step.labels),
        )
        return value * unlabelled, unlabelled


def token_labels(labels: Any) -> Any:
    """Labels of tokens, below 0 for none: (B, L) as they are; of a masked language model's batch (`tfdistill.corpora.sequences`),
    "masked_labels" (B, K) where "masked_weights" is not 0."""
    if isinstance(labels, Mapping):
        return tf.where(tf.cast(labels["masked_weights"], tf.bool), tf.cast(labels["masked_labels"], tf.int32), -1)
    return tf.convert_to_tensor(labels)


@dataclass(frozen=True)
class HardLabels(Term):
    """Supervised loss on labels, the (1 - λ) part of soft-target distillation. Rows and tokens without a label do not count.

    Args:
        task: one of `tfdistill.models.heads.HEADS`: "classification" (class numbers, below 0 for none), "multilabel",
            "regression", "token_classification", "question_answering", "masked_lm", "next_sentence" (of a model for
            "pretraining"); or
        loss: a `keras.losses.Loss` or a function of (labels, logits), taken in place of the task's own.
        smoothing: label smoothing ε, for classes and masked tokens.
    """

    task: str = "classification"
    weight: float = 1.0
    name: str = "hard_labels"
    loss: Any = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        read = "nsp_logits" if self.task == "next_sentence" else "logits"
        object.__setattr__(self, "student_features", frozenset({read}))

    def __call__(self, step: Step) -> Value:
        if step.labels is None:
            raise UserError(f"the term '{self.name}' needs labels; give fit (inputs, labels), or leave the term out")
        logits, labels = step.student.logits, step.labels
        if self.loss is not None:
            # `call` of a keras loss is per example; its own reduction would divide by the local batch.
            per_example = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
            value = tf.cast(per_example(labels, tf.cast(logits, tf.float32)), tf.float32)
            return tf.reduce_mean(tf.reshape(value, [tf.shape(value)[0], -1]), axis=-1)
        if self.task in ("token_classification", "masked_lm"):
            if isinstance(labels, Mapping) and "masked_positions" in labels:  # the model answered for all positions
                logits = tf.gather(logits, labels["masked_positions"], axis=1, batch_dims=1)
            return losses.sparse_cross_entropy(logits, token_labels(labels), smoothing=self.smoothing)
        if self.task == "question_answering":
            return losses.span_cross_entropy(logits, labels, mask=step.student.mask)
        if self.task == "next_sentence":
            labels = labels["next_sentence"] if isinstance(labels, Mapping) else labels
            return losses.sparse_cross_entropy(step.student.nsp_logits, labels), losses.known(labels)
        if self.task == "regression":
            value = losses.squared_error(logits, labels)
        elif self.task == "multilabel":
            value = losses.binary_cross_entropy(logits, labels)
        else:
            value = losses.sparse_cross_entropy(logits, labels, smoothing=self.smoothing)
        return value, losses.known(labels, self.task)
