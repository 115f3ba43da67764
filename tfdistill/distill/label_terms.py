"""Define the terms that read labels: `HardLabels` and `PseudoLabels`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfdistill.distill import keras_losses, losses
from tfdistill.distill.features import Features
from tfdistill.distill.losses import Mean, Value
from tfdistill.distill.step import Step, Term
from tfdistill.errors import UserError
from tfdistill.system.lazy import tf


def token_labels(labels: Any) -> tf.Tensor:
    """Return labels of tokens, below 0 for none.

    Args:
        labels: (B, L), returned as they are; or the labels of a masked language model's batch
            (`tfdistill.corpora.sequences`), of which "masked_labels" (B, K) count where "masked_weights" is not 0.
    """
    if isinstance(labels, Mapping):
        return tf.where(tf.cast(labels["masked_weights"], tf.bool), tf.cast(labels["masked_labels"], tf.int32), -1)
    return tf.convert_to_tensor(labels)


# --- the loss of each task: (student's features, labels, label smoothing) -> value ------------------------------------


def _classification(student: Features, labels: Any, smoothing: float) -> Value:
    return Mean(losses.cross_entropy(student.logits, labels, smoothing=smoothing), losses.known(labels))


def _multilabel(student: Features, labels: Any, smoothing: float) -> Value:
    return Mean(losses.binary_cross_entropy(student.logits, labels), losses.known(labels, "multilabel"))


def _regression(student: Features, labels: Any, smoothing: float) -> Value:
    return Mean(losses.squared_error(student.logits, labels), losses.known(labels, "regression"))


def _tokens(student: Features, labels: Any, smoothing: float) -> Value:
    logits = student.logits
    if isinstance(labels, Mapping) and "masked_positions" in labels:  # the model has logits at all positions
        logits = tf.gather(logits, labels["masked_positions"], axis=1, batch_dims=1)
    return losses.sparse_cross_entropy(logits, token_labels(labels), smoothing=smoothing)


def _spans(student: Features, labels: Any, smoothing: float) -> Value:
    return losses.span_cross_entropy(student.logits, labels, mask=student.mask)


def _next_sentence(student: Features, labels: Any, smoothing: float) -> Value:
    labels = labels["next_sentence"] if isinstance(labels, Mapping) else labels
    return Mean(losses.sparse_cross_entropy(student.nsp_logits, labels), losses.known(labels))


TASK_LOSSES: dict[str, Callable[[Features, Any, float], Value]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
    "token_classification": _tokens,
    "question_answering": _spans,
    "masked_lm": _tokens,
    "next_sentence": _next_sentence,
}


# --- terms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HardLabels(Term):
    """Supervised loss on labels. Examples and tokens without a label do not count.

    Args:
        task: a key of `TASK_LOSSES`: "classification" (class numbers, below 0 for none; or probabilities (B, C) such as
            one-hot rows, below 0 or NaN for none), "multilabel", "regression", "token_classification",
            "question_answering", "masked_lm", "next_sentence" (of a "pretraining" model).
        loss: replaces the task's loss: a name, class or object of `keras.losses`, or a function of (labels, logits). A
            loss with `from_logits` reads logits; it is set to True.
        smoothing: label smoothing ε, for classes and masked tokens.

    Raises:
        UserError: unknown task, or a loss that cannot read logits.
    """

    task: str = "classification"
    weight: float = 1.0
    name: str = "hard_labels"
    loss: Any = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.task not in TASK_LOSSES:
            raise UserError(f"HardLabels(task='{self.task}'): expected one of {', '.join(TASK_LOSSES)}")
        feature = "nsp_logits" if self.task == "next_sentence" else "logits"
        object.__setattr__(self, "student_features", frozenset({feature}))
        if not 0 <= self.smoothing < 1:
            raise UserError(f"HardLabels(smoothing={self.smoothing!r}): expected 0 or more, and less than 1")
        if self.loss is not None:
            object.__setattr__(self, "loss", keras_losses.resolve(self.loss))
            keras_losses.on_logits(self.loss)

    def __call__(self, step: Step) -> Value:
        if step.labels is None:
            raise UserError(f"the term '{self.name}' needs labels. Give fit (inputs, labels), or remove the term")
        if self.loss is None:
            return TASK_LOSSES[self.task](step.student, step.labels, self.smoothing)
        loss, _ = keras_losses.on_logits(self.loss)
        return keras_losses.per_example(loss, step.labels, step.student.logits)


@dataclass(frozen=True)
class PseudoLabels(Term):
    """CE(argmax z_t, σ(z_s)) on examples without a label, for classes. Mukherjee and Awadallah 2019."""

    weight: float = 1.0
    name: str = "pseudo_labels"
    student_features = teacher_features = frozenset({"logits"})

    def __call__(self, step: Step) -> Value:
        if step.teacher is None or step.labels is None:
            raise UserError(f"the term '{self.name}' needs a teacher, and labels (below 0 for none). Give fit both")
        unlabelled = 1 - losses.known(step.labels)
        return Mean(losses.pseudo_labels(step.student.logits, step.teacher.logits) * unlabelled, unlabelled)
