"""Pool features of tokens into features of the words that student and teacher share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfdistill.distill.step import Step
from tfdistill.system.lazy import tf


@dataclass(frozen=True)
class Words:
    """Turns features of tokens into features of the W words that student and teacher share.

    A word's hidden state is the mean over its tokens, its attention score to another word the mean over pairs of their
    tokens. The papers do not need this: in them the student reads the teacher's tokens.

    Args:
        student_pooling: (B, W, L), 1/(number of the word's tokens) where a token belongs to a word.
        teacher_pooling: the same for the teacher's tokens.
        mask: (B, W), 1 for words that both models read.
    """

    student_pooling: tf.Tensor
    teacher_pooling: tf.Tensor
    mask: tf.Tensor

    @classmethod
    def of(cls, step: Step) -> Words | None:
        """Return the words of a batch; None if both models read the same tokens."""
        if step.teacher is None or step.student.words is None or step.teacher.words is None:
            return None
        most = tf.shape(step.student.words)[1]  # an example has no more words than tokens
        members = [tf.one_hot(words, most, axis=1) for words in (step.student.words, step.teacher.words)]
        sizes = [tf.reduce_sum(member, axis=2) for member in members]
        student, teacher = (
            member / tf.maximum(size, 1.0)[:, :, None] for member, size in zip(members, sizes, strict=True)
        )
        return cls(student, teacher, tf.cast((sizes[0] > 0) & (sizes[1] > 0), tf.int32))

    def student(self, feature: Any) -> tf.Tensor:
        """Return (B, W, H) from (B, L, H), or (B, A, W, W) from (B, A, L, L), of the student's tokens."""
        return _pooled(self.student_pooling, feature)

    def teacher(self, feature: Any) -> tf.Tensor:
        """Return the same for the teacher's tokens."""
        return _pooled(self.teacher_pooling, feature)


def _pooled(pooling: tf.Tensor, feature: Any) -> tf.Tensor:
    feature = tf.cast(feature, pooling.dtype)
    if len(feature.shape) == 3:
        return pooling @ feature
    return tf.einsum("bvl,balm,bwm->bavw", pooling, feature, pooling)
