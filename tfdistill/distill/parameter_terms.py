"""Terms on parameters, and on the teacher's own masked language model: shared projection and dual training.

Zhao, Gupta, Song and Zhou 2019, "Extreme Language Model Compression with Optimal Subwords and Shared Projections".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfdistill.distill import losses
from tfdistill.distill.losses import Value
from tfdistill.distill.step import Projections, Step, Term
from tfdistill.errors import UserError

# Kernels and vectors of a BERT layer with the kind of each of their axes.
_PARTS = {
    "query": ("width", "width"),
    "key": ("width", "width"),
    "value": ("width", "width"),
    "attention_output": ("width", "width"),
    "intermediate": ("width", "ffn"),
    "output_dense": ("ffn", "width"),
}
_NORMS = ("attention_norm", "output_norm")


def _parameters(model: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """(parameter, kinds of its axes) of every layer; embeddings, pooler and heads are left out."""
    for block in model.encoder.blocks:
        for name, kinds in _PARTS.items():
            layer = getattr(block, name)
            yield layer.kernel, kinds
            yield layer.bias, kinds[1:]
        for name in _NORMS:
            yield getattr(block, name).gamma, ("width",)
            yield getattr(block, name).beta, ("width",)


class Matrix(keras.layers.Layer):
    """One trainable matrix."""

    def __init__(self, rows: int, columns: int, **kwargs: Any):
        super().__init__(**kwargs)
        # Columns of unit length on average: projected parameters are about as large as they were.
        initializer = keras.initializers.RandomNormal(stddev=rows**-0.5)
        self.matrix = self.add_weight(shape=(rows, columns), initializer=initializer, name="matrix")
        self.built = True


@dataclass(frozen=True)
class SharedProjection(Term):
    """Squared distance of projected parameters, with the same U and V in all layers, one pair for each kind of axis.

    down: Σ ‖U·θ_t·V - θ_s‖²;  up: Σ ‖θ_t - U·θ_s·V‖² (equations 3 and 4). Vectors have V alone. The gradient reaches U, V, the
    student and, in a stage that trains it, the teacher.
    """

    direction: str = "up"
    weight: float = 1.0
    name: str = "shared_projection"
    on_parameters = True

    def make_projections(self, student: Any, teacher: Any) -> Projections:
        """U and V of the axes "width" and "ffn". Raises UserError where the layers cannot be paired."""
        if self.direction not in ("up", "down"):
            raise UserError(f"SharedProjection(direction='{self.direction}'): expected 'up' or 'down'")
        layers = [len(getattr(getattr(model, "encoder", None), "blocks", ())) for model in (student, teacher)]
        if 0 in layers or layers[0] != layers[1] or {student.family, teacher.family} != {"bert"}:
            raise UserError(
                f"shared projection pairs the layers of two BERT models one to one; the student has {layers[0]}, the "
                f"teacher {layers[1]}: give the student as many"
            )
        sizes = {
            kind: [getattr(model.config, name) for model in (student, teacher)]
            for kind, name in (("width", "hidden_size"), ("ffn", "intermediate_size"))
        }
        made: Projections = {}
        for kind, (ours, theirs) in sizes.items():
            small, large = (theirs, ours) if self.direction == "up" else (ours, theirs)
            made[f"{self.name}_{kind}_left"] = Matrix(small, large, name=f"{kind}_left")
            made[f"{self.name}_{kind}_right"] = Matrix(large, small, name=f"{kind}_right")
        return made

    def __call__(self, step: Step) -> Value:
        student, teacher = step.models
        total = tf.zeros(())
        for (ours, kinds), (theirs, _) in zip(_parameters(student), _parameters(teacher), strict=True):
            ours, theirs = (tf.cast(tf.convert_to_tensor(value), tf.float32) for value in (ours, theirs))
            target, source = (theirs, ours) if self.direction == "up" else (ours, theirs)
            total += tf.reduce_sum(tf.square(self._project(source, kinds, step.projections) - target))
        return total

    def _project(self, value: Any, kinds: tuple[str, ...], projections: Any) -> Any:
        right = tf.convert_to_tensor(projections[f"{self.name}_{kinds[-1]}_right"].matrix)
        if len(kinds) == 1:
            return tf.linalg.matvec(right, value, transpose_a=True)
        left = tf.convert_to_tensor(projections[f"{self.name}_{kinds[0]}_left"].matrix)
        return left @ value @ right


@dataclass(frozen=True)
class TeacherMaskedLM(Term):
    """The teacher's masked LM over two vocabularies, each with a softmax of its own: a masked piece is predicted among the
    pieces of the vocabulary it is of. The first `boundary` ids are the teacher's.
    """

    boundary: int
    weight: float = 1.0
    name: str = "teacher_masked_lm"
    teacher_features = frozenset({"logits"})

    def __call__(self, step: Step) -> Value:
        if step.teacher is None:
            raise UserError(f"the term '{self.name}' needs a teacher; give the Distiller one")
        labels = tf.cast(step.labels["teacher_labels"], tf.int32)
        known = tf.cast(step.labels["teacher_weights"], tf.bool)
        logits = tf.cast(step.teacher.logits, tf.float32)
        is_students_piece = tf.range(tf.shape(logits)[-1]) >= self.boundary
        same = tf.equal(is_students_piece[None, None, :], (labels >= self.boundary)[..., None])
        return losses.sparse_cross_entropy(tf.where(same, logits, -1e9), tf.where(known, labels, -1))
