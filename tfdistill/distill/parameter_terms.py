"""Define the terms of dual training with shared projection.

Zhao, Gupta, Song and Zhou 2019, "Extreme Language Model Compression with Optimal Subwords and Shared Projections".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfdistill.distill import losses
from tfdistill.distill.losses import Value
from tfdistill.distill.step import Projections, Step, Term
from tfdistill.errors import UserError
from tfdistill.system.lazy import tf

# The dense layers of a BERT layer with the kinds of their kernels' axes.
_DENSE = {
    "query": ("width", "width"),
    "key": ("width", "width"),
    "value": ("width", "width"),
    "attention_output": ("width", "width"),
    "intermediate": ("width", "ffn"),
    "output_dense": ("ffn", "width"),
}
_NORMS = ("attention_norm", "output_norm")


def _parameters(model: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Each parameter of the layers with the kinds of its axes, without embeddings, pooler and heads."""
    for block in model.encoder.blocks:
        for name, kinds in _DENSE.items():
            layer = getattr(block, name)
            yield layer.kernel, kinds
            yield layer.bias, kinds[1:]
        for name in _NORMS:
            yield getattr(block, name).gamma, ("width",)
            yield getattr(block, name).beta, ("width",)


@dataclass(frozen=True)
class SharedProjection(Term):
    """Squared distance of the parameters θ of two BERT models with equally many layers, projected by shared U and V.

    down: Σ ‖U·θ_t·V - θ_s‖²; up: Σ ‖θ_t - U·θ_s·V‖² (equations 3 and 4). All layers share one pair U, V for each kind
    of axis; vectors have V alone. The gradient reaches U, V, the student and, in a stage that trains it, the teacher.

    Args:
        direction: "up" or "down".
    """

    direction: str = "up"
    weight: float = 1.0
    name: str = "shared_projection"
    on_parameters = True

    def make_projections(self, student: Any, teacher: Any) -> Projections:
        if self.direction not in ("up", "down"):
            raise UserError(f"SharedProjection(direction='{self.direction}'): expected 'up' or 'down'")
        layers = [len(getattr(getattr(model, "encoder", None), "blocks", ())) for model in (student, teacher)]
        if 0 in layers or layers[0] != layers[1] or {student.family, teacher.family} != {"bert"}:
            raise UserError(
                f"shared projection needs two BERT models with the same number of layers; the student has {layers[0]}, "
                f"the teacher {layers[1]}"
            )
        from tfdistill.distill.matrix import Matrix

        sizes = {
            "width": (student.config.hidden_size, teacher.config.hidden_size),
            "ffn": (student.config.intermediate_size, teacher.config.intermediate_size),
        }
        projections: Projections = {}
        for kind, pair in sizes.items():
            source, target = pair if self.direction == "up" else reversed(pair)
            projections[f"{self.name}_{kind}_left"] = Matrix(target, source, name=f"{kind}_left")
            projections[f"{self.name}_{kind}_right"] = Matrix(source, target, name=f"{kind}_right")
        return projections

    def __call__(self, step: Step) -> Value:
        total = tf.zeros(())
        for (of_student, kinds), (of_teacher, _) in zip(*map(_parameters, step.models), strict=True):
            source, target = (of_student, of_teacher) if self.direction == "up" else (of_teacher, of_student)
            source, target = (tf.cast(tf.convert_to_tensor(value), tf.float32) for value in (source, target))
            total += tf.reduce_sum(tf.square(self._project(source, kinds, step.projections) - target))
        return total

    def _project(self, value: tf.Tensor, kinds: tuple[str, ...], projections: Any) -> tf.Tensor:
        right = tf.convert_to_tensor(projections[f"{self.name}_{kinds[-1]}_right"].matrix)
        if len(kinds) == 1:
            return tf.linalg.matvec(right, value, transpose_a=True)
        left = tf.convert_to_tensor(projections[f"{self.name}_{kinds[0]}_left"].matrix)
        return left @ value @ right


@dataclass(frozen=True)
class TeacherMaskedLM(Term):
    """The teacher's masked LM loss over two vocabularies: a masked token is predicted within its own vocabulary.

    Args:
        boundary: number of ids of the teacher's vocabulary, which come first; the student's vocabulary follows.
    """

    boundary: int
    weight: float = 1.0
    name: str = "teacher_masked_lm"
    teacher_features = frozenset({"logits"})

    def __call__(self, step: Step) -> Value:
        if step.teacher is None:
            raise UserError(f"the term '{self.name}' needs a teacher. Give the Distiller one")
        labels = tf.cast(step.labels["teacher_labels"], tf.int32)
        known = tf.cast(step.labels["teacher_weights"], tf.bool)
        logits = tf.cast(step.teacher.logits, tf.float32)
        of_student = tf.range(tf.shape(logits)[-1]) >= self.boundary
        same = tf.equal(of_student[None, None, :], (labels >= self.boundary)[..., None])
        return losses.sparse_cross_entropy(tf.where(same, logits, -1e9), tf.where(known, labels, -1))
