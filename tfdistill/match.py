"""Terms of the distillation loss, as data: `Match` compares a feature of student and teacher, `HardLabels` reads labels.

The Distiller only ever sums terms. A term says which features it reads of each model and computes its value from one
`Step`. `Match` stands for all feature losses; whatever is no feature loss is a class of its own with the same attributes
and the same call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import tensorflow as tf

from tfdistill import losses
from tfdistill.errors import UserError
from tfdistill.features import NAMES, Features
from tfdistill.losses import Value
from tfdistill.mapping import Pairs

LAYERED = ("hidden_states", "attention_scores")


@dataclass(frozen=True)
class Step:
    """What a term may read: one student and one teacher forward, labels (B,), and the projections by their key."""

    student: Features
    teacher: Features | None = None
    labels: Any = None
    projections: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


class Term(Protocol):
    """The call that the Distiller makes. `Value` is (B,), or (sum, count) for means over tokens."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def student_features(self) -> frozenset[str]: ...

    @property
    def teacher_features(self) -> frozenset[str]: ...

    def __call__(self, step: Step) -> Value: ...


@dataclass(frozen=True)
class Match:
    """One loss between a feature of the student and the same feature of the teacher.

    Args:
        loss: function of (student, teacher[, mask]) as in `tfdistill.losses`.
        on: "logits", "pooled", "embeddings", "hidden_states" or "attention_scores".
        layers: pairs (student layer, teacher layer) from `tfdistill.mapping`, for features that have layers.
        project: "fit" bridges the widths by a trainable linear map of the student's feature, one for each layer pair;
            None compares as they are.
        weight: factor of this term in the total. Layer pairs are summed, as in TinyBERT's equation 11.
        name: shown in logs; by default the loss and, for layers, the feature.
        options: further keyword arguments of the loss, for instance {"temperature": 2.0}.

    Raises:
        UserError: unknown feature, or layers given or missing where they should not be.
    """

    loss: Callable[..., Value]
    on: str = "logits"
    layers: Pairs = ()
    project: str | None = None
    weight: float = 1.0
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on not in NAMES:
            raise UserError(f"Match(on='{self.on}'): expected one of {', '.join(NAMES)}")
        if (self.on in LAYERED) != bool(self.layers):
            need = "needs layers=mapping.uniform(M, N) or other pairs" if self.on in LAYERED else "takes no layers"
            raise UserError(f"Match(on='{self.on}') {need}; received layers={self.layers!r}")
        if self.project not in (None, "fit"):
            raise UserError(f"Match(project={self.project!r}): expected 'fit' or None")
        if not self.name:
            loss = getattr(self.loss, "__name__", "loss")
            object.__setattr__(self, "name", loss if self.on == "logits" else f"{self.on}_{loss}")

    @property
    def student_features(self) -> frozenset[str]:
        return frozenset({self.on} | ({"embeddings"} if any(0 in pair for pair in self.layers) else set()))

    teacher_features = student_features

    def pairs(self) -> Pairs | tuple[tuple[None, None]]:
        return self.layers or ((None, None),)

    def projection_key(self, student_layer: int | None) -> str:
        return f"{self.name}_{student_layer or 0}"

    def __call__(self, step: Step) -> Value:
        if step.teacher is None:
            raise UserError(
                f"the term '{self.name}' needs a teacher; give the Distiller one, or cached teacher features"
            )
        takes_mask = "mask" in inspect.signature(self.loss).parameters
        options = dict(self.options, **({"mask": step.student.mask} if takes_mask else {}))
        total: Any = None
        for student_layer, teacher_layer in self.pairs():
            ours, theirs = (
                getattr(features, self.on) if layer is None else features.layer(self.on, layer)
                for features, layer in ((step.student, student_layer), (step.teacher, teacher_layer))
            )
            key = self.projection_key(student_layer)
            if key in step.projections:
                ours = step.projections[key](ours)
            value = self.loss(ours, theirs, **options)
            sums, counts = value if isinstance(value, tuple) else (value, None)
            total = (sums, counts) if total is None else (total[0] + sums, counts)
        return total[0] if total[1] is None else total


@dataclass(frozen=True)
class HardLabels:
    """Supervised loss on labels, the (1 - λ) part of soft-target distillation.

    Args:
        task: "classification" (class numbers) or "regression"; or
        loss: a `keras.losses.Loss` or a function of (labels, logits), taken in place of the task's own.
    """

    task: str = "classification"
    weight: float = 1.0
    name: str = "hard_labels"
    loss: Any = None
    student_features = frozenset({"logits"})
    teacher_features: frozenset[str] = frozenset()

    def __call__(self, step: Step) -> Value:
        if step.labels is None:
            raise UserError(f"the term '{self.name}' needs labels; give fit (inputs, labels), or leave the term out")
        if self.loss is not None:
            # `call` of a keras loss is per example; its own reduction would divide by the local batch.
            per_example = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
            value = tf.cast(per_example(step.labels, tf.cast(step.student.logits, tf.float32)), tf.float32)
            return tf.reduce_mean(tf.reshape(value, [tf.shape(value)[0], -1]), axis=-1)
        if self.task == "regression":
            return losses.squared_error(step.student.logits, step.labels)
        return losses.sparse_cross_entropy(step.student.logits, step.labels)
