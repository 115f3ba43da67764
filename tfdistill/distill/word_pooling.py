"""Pool features of tokens to features of shared words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfdistill.distill.step import Step


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
