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

from tfdistill.distill import losses
from tfdistill.errors import UserError
from tfdistill.distill.features import NAMES, Features
from tfdistill.distill.losses import Value
from tfdistill.distill.mapping import Pairs

LAYERED = ("hidden_states", "attention_scores")
PROJECTIONS = (None, "fit", "shared", "gelu")

Projections = dict[str, keras.layers.Layer]


@dataclass(frozen=True)
class Step:
    """What a term may read: one student and one teacher forward, the labels, the projections by their key, and the models
    themselves for terms on parameters."""

    student: Features
    teacher: Features | None = None
    labels: Any = None
    projections: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    models: tuple[Any, Any] = (None, None)


class Term(Protocol):
    """The call that the Distiller makes. `Value` is (B,), or (sum, count) for means over tokens.

    Two more attributes are optional. `make_projections(student, teacher)` gives layers that are trained with the student.
    `on_parameters = True` marks a term on weights: its value is a scalar, counted once in a step whatever the sample weights.
    """

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

    def __post_init__(self) -> None:
        if not self.teacher_on:
            object.__setattr__(self, "teacher_on", self.on)
        for key in ("on", "teacher_on"):
            if getattr(self, key) not in NAMES:
                raise UserError(f"Match({key}='{getattr(self, key)}'): expected one of {', '.join(NAMES)}")
        layered = self.on in LAYERED or self.teacher_on in LAYERED
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

    @property
    def student_features(self) -> frozenset[str]:
        return _needed(self.on, [pair[0] for pair in self.layers])

    @property
    def teacher_features(self) -> frozenset[str]:
        return _needed(self.teacher_on, [pair[1] for pair in self.layers])

    @property
    def by_token(self) -> bool:
        """Whether this compares token by token; word by word where student and teacher read other pieces."""
        feature = self.on in ("embeddings", *LAYERED) or self.teacher_on in ("embeddings", *LAYERED)
        return feature and "mask" in inspect.signature(self.loss).parameters

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
        takes_mask = "mask" in inspect.signature(self.loss).parameters
        words = Words.of(step) if self.by_token else None
        if words is not None and self.where != "real":
            raise UserError(
                f"the term '{self.name}' counts labelled tokens, but student and teacher read different pieces; "
                "use a student with the teacher's vocabulary"
            )
        mask = self._mask(step) if words is None else words.mask
        options = dict(self.options, **({"mask": mask} if takes_mask else {}))
        total: Any = None
        for student_layer, teacher_layer in self.pairs():
            ours, theirs = (
                features.layer(feature, layer) if feature in LAYERED else getattr(features, feature)
                for features, feature, layer in (
                    (step.student, self.on, student_layer),
                    (step.teacher, self.teacher_on, teacher_layer),
                )
            )
            if words is not None:
                ours, theirs = words.student(ours), words.teacher(theirs)
            key = self.projection_key(student_layer, teacher_layer)
            if key in step.projections:
                ours = step.projections[key](ours)
            value = self.loss(ours, theirs, **options)
            sums, counts = value if isinstance(value, tuple) else (value, None)
            total = (sums, counts) if total is None else (total[0] + sums, counts)
        return total[0] if total[1] is None else total


@dataclass(frozen=True)
class PseudoLabels:
    """CE(argmax z_t, σ(z_s)) on the rows that have no label of their own (Mukherjee and Awadallah 2019). For classes."""

    weight: float = 1.0
    name: str = "pseudo_labels"
    student_features: frozenset[str] = frozenset({"logits"})
    teacher_features: frozenset[str] = frozenset({"logits"})

    def __call__(self, step: Step) -> Value:
        if step.teacher is None or step.labels is None:
            raise UserError(f"the term '{self.name}' needs a teacher and labels, below 0 for none; give fit both")
        value, unlabelled = (
            losses.pseudo_labels(step.student.logits, step.teacher.logits),
            1 - losses.known(step.labels),
        )
        return value * unlabelled, unlabelled


@dataclass(frozen=True)
class Words:
    """Turns features of tokens into features of the words that student and teacher share.

    A word's hidden state is the mean of its pieces', its attention score to another word the mean over pairs of their pieces.
    None of the papers says how: they let the student read the teacher's pieces.

    Args:
        student_pooling, teacher_pooling: (B, W, L) each, 1/pieces where a token belongs to a word.
        mask: (B, W), 1 for words that are there.
    """

    student_pooling: Any
    teacher_pooling: Any
    mask: Any

    @classmethod
    def of(cls, step: Step) -> Words | None:
        """None where both read the same tokens."""
        if step.teacher is None or step.student.words is None or step.teacher.words is None:
            return None
        most = tf.shape(step.student.words)[1]  # a row has no more words than tokens
        members = [tf.one_hot(words, most, axis=1) for words in (step.student.words, step.teacher.words)]
        pieces = [tf.reduce_sum(member, axis=2) for member in members]
        ours, theirs = (
            member / tf.maximum(count, 1.0)[:, :, None] for member, count in zip(members, pieces, strict=True)
        )
        return cls(ours, theirs, tf.cast((pieces[0] > 0) & (pieces[1] > 0), tf.int32))

    def student(self, feature: Any) -> Any:
        """(B, W, H) from (B, L, H), or (B, A, W, W) from (B, A, L, L)."""
        return _pooled(self.student_pooling, feature)

    def teacher(self, feature: Any) -> Any:
        """As `student`, for the teacher's tokens."""
        return _pooled(self.teacher_pooling, feature)


def _pooled(pooling: Any, feature: Any) -> Any:
    feature = tf.cast(feature, pooling.dtype)
    if len(feature.shape) == 3:
        return pooling @ feature
    return tf.einsum("bvl,balm,bwm->bavw", pooling, feature, pooling)


def _needed(feature: str, layers: list[int]) -> frozenset[str]:
    """Layer 0 of the hidden states is the embedding output."""
    return frozenset({feature} | ({"embeddings"} if feature == "hidden_states" and 0 in layers else set()))


def token_labels(labels: Any) -> Any:
    """Labels of tokens, below 0 for none: (B, L) as they are; of a masked language model's batch (`tfdistill.corpora.sequences`),
    "masked_labels" (B, K) where "masked_weights" is not 0."""
    if isinstance(labels, Mapping):
        return tf.where(tf.cast(labels["masked_weights"], tf.bool), tf.cast(labels["masked_labels"], tf.int32), -1)
    return tf.convert_to_tensor(labels)


@dataclass(frozen=True)
class HardLabels:
    """Supervised loss on labels, the (1 - λ) part of soft-target distillation. Rows and tokens without a label do not count.

    Args:
        task: one of `tfdistill.models.heads.TASKS`: "classification" (class numbers, below 0 for none), "multilabel",
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
    teacher_features: frozenset[str] = frozenset()

    @property
    def student_features(self) -> frozenset[str]:
        return frozenset({"nsp_logits" if self.task == "next_sentence" else "logits"})

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
