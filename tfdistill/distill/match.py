"""Define `Match`: one loss between a feature of the student and a feature of the teacher."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfdistill.distill import losses
from tfdistill.distill.features import FEATURES
from tfdistill.distill.label_terms import token_labels
from tfdistill.distill.losses import Mean, Value
from tfdistill.distill.mapping import Pairs
from tfdistill.distill.step import Projections, Step, Term
from tfdistill.distill.word_pooling import Words
from tfdistill.errors import UserError, nearest
from tfdistill.system.lazy import keras, tf

PROJECTIONS = (None, "fit", "shared", "gelu")


@dataclass(frozen=True)
class Match(Term):
    """One loss between a feature of the student and a feature of the teacher.

    Args:
        loss: function of (student, teacher[, mask]) as in `tfdistill.losses`, or the name of one, such as "soft_kl".
        on: a key of `tfdistill.distill.features.FEATURES`, such as "logits" or "hidden_states".
        layers: pairs (student layer, teacher layer) from `tfdistill.mapping`, for features with layers. The losses of
            the pairs are summed, as in TinyBERT's equation 11.
        project: how the student's hidden size becomes the teacher's. "fit": a trainable linear projection for each layer
            pair; "shared": one for all pairs; "gelu": GELU(W·h + b) for each pair; None: no projection.
        weight: factor of this term in the total loss.
        name: key in logs; by default made of the loss and the feature.
        options: further keyword arguments of the loss, for instance {"temperature": 2.0}.
        teacher_on: the teacher's feature, if it is not `on`. The layer number of a feature without layers is not read.
        where: which tokens count in a loss with a mask: all "real" tokens, or those that are "labelled" (0 or above in
            labels (B, L), such as the masked tokens of a language model).

    Raises:
        UserError: unknown loss, feature or option; layers missing, or given for features without layers.

    Example:
        Match(losses.hidden_mse, on="hidden_states", layers=mapping.uniform(4, 12), project="fit")
    """

    loss: Callable[..., Value] | str
    on: str = "logits"
    layers: Pairs = ()
    project: str | None = None
    weight: float = 1.0
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher_on: str = ""
    where: str = "real"
    takes_mask: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        teacher_on = self.teacher_on or self.on
        for key, name in (("on", self.on), ("teacher_on", teacher_on)):
            if name not in FEATURES:
                raise UserError(f"Match({key}='{name}'): expected one of {', '.join(FEATURES)}")
        features = (FEATURES[self.on], FEATURES[teacher_on])
        layered = any(feature.layered for feature in features)
        if layered != bool(self.layers):
            need = "needs layers=mapping.uniform(M, N) or other pairs" if layered else "takes no layers"
            raise UserError(f"Match(on='{self.on}') {need}; received layers={self.layers!r}")
        if self.project not in PROJECTIONS:
            raise UserError(f"Match(project={self.project!r}): expected 'fit', 'shared', 'gelu' or None")
        if self.where not in ("real", "labelled"):
            raise UserError(f"Match(where={self.where!r}): expected 'real' or 'labelled'")
        function = _loss(self.loss)
        loss = getattr(function, "__name__", "loss")  # a callable object has no name
        takes_mask = "mask" in inspect.signature(function).parameters
        _check_options(loss, function, self.options)
        derived = {
            "loss": function,
            "teacher_on": teacher_on,
            "name": self.name or (loss if self.on == "logits" else f"{self.on}_{loss}"),
            "student_features": _needed(self.on, [pair[0] for pair in self.layers]),
            "teacher_features": _needed(teacher_on, [pair[1] for pair in self.layers]),
            "first_only": function in losses.FIRST_ONLY,
            "by_token": takes_mask and any(feature.per_token for feature in features),
            "takes_mask": takes_mask,
        }
        for key, value in derived.items():
            object.__setattr__(self, key, value)

    def teacher_layers(self, count: int) -> tuple[int, ...]:
        return tuple(layer for _, layer in self.layers)

    def pairs(self) -> Pairs:
        """Return the layer pairs; for features without layers one pair, which is not read."""
        return self.layers or ((0, 0),)

    def projection_key(self, student_layer: int, teacher_layer: int) -> str:
        """Return the key of a layer pair's projection in `Distiller.projections`."""
        if self.project == "shared":
            return f"{self.name}_shared"
        several = sum(layer == student_layer for layer, _ in self.pairs()) > 1
        return f"{self.name}_{student_layer}" + (f"_{teacher_layer}" if several else "")

    def make_projections(self, student: Any, teacher: Any) -> Projections:
        if self.project is None:
            return {}
        if not (hasattr(student, "width") and hasattr(teacher, "width")):
            raise UserError(
                f"the term '{self.name}' projects {self.on}. Use models of tfdistill.models, whose width is known"
            )
        student_width, teacher_width = student.width(self.on), teacher.width(self.teacher_on)
        if student_width is None or teacher_width is None:
            raise UserError(f"the term '{self.name}' projects {self.on}, which has no width in one of the models")
        projections: Projections = {}
        for key in dict.fromkeys(self.projection_key(*pair) for pair in self.pairs()):
            gelu = self.project == "gelu"
            activation = "gelu" if gelu else None
            projections[key] = keras.layers.Dense(teacher_width, activation, use_bias=gelu, name=f"projection_{key}")
            projections[key].build((None, None, student_width))
        return projections

    def __call__(self, step: Step) -> Value:
        if step.teacher is None:
            raise UserError(
                f"the term '{self.name}' needs a teacher. Give the Distiller one, or cached teacher features"
            )
        words = Words.of(step) if self.by_token else None
        options = dict(self.options, mask=self._mask(step, words)) if self.takes_mask else self.options
        values: list[Value] = []
        for student_layer, teacher_layer in self.pairs():
            student = step.student.layer(self.on, student_layer)
            teacher = step.teacher.layer(self.teacher_on, teacher_layer)
            if words is not None:
                student, teacher = words.student(student), words.teacher(teacher)
            key = self.projection_key(student_layer, teacher_layer)
            if key in step.projections:
                student = step.projections[key](student)
            assert not isinstance(self.loss, str)
            values.append(self.loss(student, teacher, **options))
        if isinstance(values[0], tuple):  # all pairs count the same tokens
            return Mean(tf.add_n([sums for sums, _ in values]), values[0][1])
        return tf.add_n(values)

    def _mask(self, step: Step, words: Words | None) -> Any:
        if self.where == "real":
            return step.student.mask if words is None else words.mask
        if words is not None:
            raise UserError(
                f"the term '{self.name}' counts labelled tokens, but student and teacher read different tokens. "
                "Use a student with the teacher's vocabulary"
            )
        if step.labels is None:
            raise UserError(f"the term '{self.name}' counts labelled tokens. Give fit (inputs, labels)")
        return tf.cast(token_labels(step.labels) >= 0, tf.int32)


def _needed(feature: str, layers: list[int]) -> frozenset[str]:
    """The feature, and the embeddings if they are read as layer 0 of the hidden states."""
    return frozenset({feature} | ({"embeddings"} if feature == "hidden_states" and 0 in layers else set()))


# Losses of a student and a teacher, by name.
NAMES = tuple(
    name
    for name in losses.__all__
    if callable(value := getattr(losses, name)) and [*inspect.signature(value).parameters][:2] == ["student", "teacher"]
)


def _loss(loss: Any) -> Callable[..., Value]:
    """The function of a loss, also of one that is given by name."""
    if isinstance(loss, str):
        if loss not in NAMES:
            raise UserError(f"Match(loss='{loss}'): unknown loss{nearest(loss, NAMES)}. Use one of {', '.join(NAMES)}")
        return getattr(losses, loss)
    function = loss
    while isinstance(function, functools.partial):
        function = function.func
    of_keras = function if inspect.isfunction(function) or inspect.isclass(function) else type(function)
    if isinstance(function, keras.losses.Loss) or of_keras.__module__.startswith("keras."):
        raise UserError(
            f"Match(loss={of_keras.__name__}): a loss of Keras compares labels with predictions of a batch. "
            f"Use a loss of tfdistill.losses: {', '.join(NAMES)}"
        )
    if not callable(loss) or inspect.isclass(loss):
        raise UserError(f"Match(loss={loss!r}): expected a function of (student, teacher), such as losses.soft_kl")
    return loss


def _check_options(name: str, function: Callable[..., Value], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for option, value in options.items():
        if option not in parameters and not takes_all:
            known = [each for each in [*parameters][2:] if each != "mask"]
            raise UserError(
                f"Match: the loss {name} has no option '{option}'{nearest(option, known)}. "
                f"Use {', '.join(known) or 'none'}"
            )
        if "temperature" in option and value is not None:
            losses.check_temperature(option, value)
