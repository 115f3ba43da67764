"""Distillation losses as pure functions.

A loss takes (student, teacher) or (student, labels) and, where positions can be padding, `mask`. It returns one value
per example, shape (B,), or for means over tokens a pair (sum, count) of shape (B,) each. The Distiller divides once,
over the global batch, so that neither padding nor the split of a batch over devices changes the result.
Everything is computed in float32.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdistill.errors import UserError

Value = Any  # (B,) or ((B,), (B,))


def _float(*tensors: Any) -> list[Any]:
    return [tf.cast(tf.convert_to_tensor(tensor), tf.float32) for tensor in tensors]


def _same_shape(student: Any, teacher: Any, what: str, hint: str) -> None:
    if len(student.shape) != len(teacher.shape) or student.shape[-1] != teacher.shape[-1]:
        raise UserError(f"{what}: the student has shape {student.shape}, the teacher {teacher.shape}; {hint}")


def _logits(student: Any, teacher: Any) -> list[Any]:
    _same_shape(student, teacher, "logits", "both need the same number of classes")
    return _float(student, teacher)


def soft_kl(student: Any, teacher: Any, *, temperature: float = 1.0) -> Value:
    """T²·KL(σ(z_t/T) ‖ σ(z_s/T)), shape (B,) from logits (B, C). Hinton et al. 2015, section 2."""
    z_s, z_t = _logits(student, teacher)
    log_s, log_t = tf.nn.log_softmax(z_s / temperature), tf.nn.log_softmax(z_t / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), axis=-1)


def soft_cross_entropy(student: Any, teacher: Any, *, temperature: float = 1.0) -> Value:
    """CE(σ(z_t/T), σ(z_s/T)), shape (B,) from logits (B, C). TinyBERT, Jiao et al. 2020, equation 10."""
    z_s, z_t = _logits(student, teacher)
    return tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(z_t / temperature), z_s / temperature)


def logits_mse(student: Any, teacher: Any) -> Value:
    """Mean over classes of (z_s - z_t)², shape (B,). Tang et al. 2019, section 3.2. With one output: regression."""
    z_s, z_t = _logits(student, teacher)
    return tf.reduce_mean(tf.square(z_s - z_t), axis=-1)


def hidden_mse(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """Mean over real tokens and features of (H_s - H_t)². TinyBERT, Jiao et al. 2020, equations 8 and 9.

    Args:
        student, teacher: (B, L, H); the student's already projected to the teacher's width.
        mask: (B, L), 1 for real tokens.

    Returns:
        (sum over tokens of the feature mean, number of real tokens), each (B,).
    """
    _same_shape(student, teacher, "hidden states", "set project='fit' on the Match to bridge the widths")
    h_s, h_t = _float(student, teacher)
    per_token = tf.reduce_mean(tf.square(h_s - h_t), axis=-1)
    weights = tf.ones_like(per_token) if mask is None else tf.cast(mask, tf.float32)
    # where, not a product: what stands at padded positions may be anything, also infinite.
    return tf.reduce_sum(tf.where(weights > 0, per_token, 0.0), axis=-1), tf.reduce_sum(weights, axis=-1)


def attention_mse(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """(1/h)·Σ_heads MSE(A_s, A_t) over pairs of a real query and a real key. TinyBERT, equation 7.

    Args:
        student, teacher: attention scores before mask and softmax, (B, A, L, L).
        mask: (B, L), 1 for real tokens.

    Returns:
        (sum over real pairs of the head mean, number of real pairs), each (B,). The authors' code averages over padding too.
    """
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"attention scores: the student has {student.shape[1]} heads, the teacher {teacher.shape[1]}; "
            "this loss pairs heads one to one, so give the student the teacher's number of heads"
        )
    a_s, a_t = _float(student, teacher)
    per_pair = tf.reduce_mean(tf.square(a_s - a_t), axis=1)
    real = tf.ones(tf.shape(per_pair)[:2]) if mask is None else tf.cast(mask, tf.float32)
    pairs = real[:, :, None] * real[:, None, :]
    return tf.reduce_sum(tf.where(pairs > 0, per_pair, 0.0), axis=(1, 2)), tf.reduce_sum(pairs, axis=(1, 2))


def sparse_cross_entropy(student: Any, labels: Any) -> Value:
    """CE(y, σ(z_s)) with class numbers (B,); shape (B,)."""
    (logits,) = _float(student)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(tf.reshape(labels, [-1]), tf.int32), logits)


def squared_error(student: Any, labels: Any) -> Value:
    """(z_s - y)² for regression heads with one output; shape (B,)."""
    (values,) = _float(student)
    return tf.square(tf.reshape(values, [-1]) - tf.cast(tf.reshape(labels, [-1]), tf.float32))
