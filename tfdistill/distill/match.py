"""Terms of the distillation loss, as data: `Match` compares a feature of student and teacher, `HardLabels` reads labels.

The Distiller only ever sums terms. A term says which features it reads of each model and computes its value from one
`Step`. `Match` stands for all feature losses; whatever is no feature loss is a class of its own with the same attributes
and the same call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from tfdistill.distill import losses
from tfdistill.distill.features import FEATURES, feature
from tfdistill.distill.label_terms import token_labels
from tfdistill.distill.losses import Value
from tfdistill.distill.mapping import Pairs
from tfdistill.distill.step import Projections, Step, Term
from tfdistill.distill.word_pooling import Words
from tfdistill.errors import UserError

PROJECTIONS = (None, "fit", "shared", "gelu")


@dataclass(frozen=True)
class Match(Term):
    """One loss between a feature of the student and a feature of the teacher.

    Args:
        loss: function of (student, teacher[, mask]) as in `tfdistill.losses`.
        on: "logits", "pooled", "embeddings", "hidden_states" or "attention_scores".
        layers: pairs (student layer, teacher layer) from `tfdistill.mapping`, for features that have layers.
        project: how widths are bridged. "fit": a trainable linear map of the student's feature, one for each layer pair;
            "shared": one for all of them; "gelu": GELU(W·h + b), one for each; None compares as they are.
        weight: factor of this term in the total. Layer pairs are summed, as in TinyBERT's equation 11.
        name: shown in logs; by default the loss and, for layers, the feature.
        options: further keyword arguments of the loss, for instance {"temperature": 2.0}.
        teacher_on: the teacher's feature, where it is another one than `on`. The layer number of a feature without layers
            is not read.
        where: tokens that count, for losses that take a mask: all "real" ones, or those that are "labelled" (0 or above in
            labels (B, L), as the masked ones of a language model).

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
    teacher_on: str = ""
    where: str = "real"
    takes_mask: bool = field(init=False, repr=False, compare=False)  # whether `loss` has a parameter `mask`

    def __post_init__(self) -> None:
        if not self.teacher_on:
            object.__setattr__(self, "teacher_on", self.on)
        for key, name in (("on", self.on), ("teacher_on", self.teacher_on)):
            if name not in FEATURES:
                raise UserError(f"Match({key}='{name}'): expected one of {', '.join(FEATURES)}")
        layered = any(feature(name).layered for name in (self.on, self.teacher_on))
        if layered != bool(self.layers):
            need = "needs layers=mapping.uniform(M, N) or other pairs" if layered else "takes no layers"
            raise UserError(f"Match(on='{self.on}') {need}; received layers={self.layers!r}")
        if self.project not in PROJECTIONS:
            raise UserError(f"Match(project={self.project!r}): expected 'fit', 'shared', 'gelu' or None")
        if self.where not in ("real", "labelled"):
            raise UserError(f"Match(where={self.where!r}): expected 'real' or 'labelled'")
        if not self.name:
            loss = getattr(self.loss, "__name__", "loss")
            object.__setattr__(self, "name", loss if self.on == "logits" else f"{self.on}_{loss}")
        takes_mask = "mask" in inspect.signature(self.loss).parameters
        per_token = any(feature(name).per_token for name in (self.on, self.teacher_on))
        derived = {
            "student_features": _needed(self.on, [pair[0] for pair in self.layers]),
            "teacher_features": _needed(self.teacher_on, [pair[1] for pair in self.layers]),
            "first_only": self.loss in losses.OF_CLS,
            "by_token": takes_mask and per_token,
            "takes_mask": takes_mask,
        }
        for key, value in derived.items():
            object.__setattr__(self, key, value)

    def teacher_layers(self, count: int) -> tuple[int, ...]:
        return tuple(layer for _, layer in self.layers)

    def pairs(self) -> Pairs:
        """The layer pairs; one of zeros, which nobody reads, for features without layers."""
        return self.layers or ((0, 0),)

    def projection_key(self, student_layer: int, teacher_layer: int) -> str:
        if self.project == "shared":
            return f"{self.name}_shared"
        several = sum(layer == student_layer for layer, _ in self.pairs()) > 1
        return f"{self.name}_{student_layer}" + (f"_{teacher_layer}" if several else "")

    def make_projections(self, student: Any, teacher: Any) -> Projections:
        """The trainable maps from the student's width to the teacher's, by their key. Raises UserError for unknown widths."""
        if self.project is None:
            return {}
        widths = [
            getattr(model, "width", lambda _: None)(feature)
            for model, feature in ((student, self.on), (teacher, self.teacher_on))
        ]
        if None in widths:
            raise UserError(
                f"the term '{self.name}' projects {self.on}, whose width is known for models of tfdistill.models only"
            )
        projections: Projections = {}
        for key in dict.fromkeys(self.projection_key(*pair) for pair in self.pairs()):
            gelu = self.project == "gelu"
            projection = keras.layers.Dense(
                widths[1], "gelu" if gelu else None, use_bias=gelu, name=f"projection_{key}"
            )
            projection.build((None, None, widths[0]))
            projections[key] = projection
        return projections

    def _mask(self, step: Step) -> Any:
        if self.where == "real":
            return step.student.mask
        if step.labels is None:
            raise UserError(f"the term '{self.name}' counts labelled tokens; give fit (inputs, labels)")
        return tf.cast(token_labels(step.labels) >= 0, tf.int32)

    def __call__(self, step: Step) -> Value:
        if step.teacher is None:
            raise UserError(
                f"the term '{self.name}' needs a teacher; give the Distiller one, or cached teacher features"
            )
        words = Words.of(step) if self.by_token else None
        if words is not None and self.where != "real":
            raise UserError(
                f"the term '{self.name}' counts labelled tokens, but student and teacher read different pieces; "
                "use a student with the teacher's vocabulary"
            )
        mask = self._mask(step) if words is None else words.mask
        options = dict(self.options, **({"mask": mask} if self.takes_mask else {}))
        total: Any = None
        for student_layer, teacher_layer in self.pairs():
            ours = step.student.layer(self.on, student_layer)
            theirs = step.teacher.layer(self.teacher_on, teacher_layer)
            if words is not None:
                ours, theirs = words.student(ours), words.teacher(theirs)
            key = self.projection_key(student_layer, teacher_layer)
            if key in step.projections:
                ours = step.projections[key](ours)
            value = self.loss(ours, theirs, **options)
            sums, counts = value if isinstance(value, tuple) else (value, None)
            total = (sums, counts) if total is None else (total[0] + sums, counts)
        return total[0] if total[1] is None else total


def _needed(feature: str, layers: list[int]) -> frozenset[str]:
    """Layer 0 of the hidden states is the embedding output."""
    return frozenset({feature} | ({"embeddings"} if feature == "hidden_states" and 0 in layers else set()))
