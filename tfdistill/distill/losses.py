"""Distillation losses as pure functions.

A loss takes (student, teacher) or (student, labels) and, where positions can be padding, `mask`. It returns one value
per example, shape (B,), or for means over tokens or labelled rows a pair (sum, count) of shape (B,) each. The Distiller
divides once, over the global batch, so that neither padding nor the split of a batch over devices changes the result.
Everything is computed in float32.

Losses on logits take (B, C), and (B, L, C) of token-level heads with `mask` (B, L); then they are means over tokens.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdistill.errors import UserError

Value = Any  # (B,) or ((B,), (B,))

# Stands for minus infinity in a softmax: its exponential is zero beside any real score, and 0 times it is zero.
_NEVER = -1e9


def _float(*tensors: Any) -> list[Any]:
    return [tf.cast(tf.convert_to_tensor(tensor), tf.float32) for tensor in tensors]


def _same_shape(student: Any, teacher: Any, what: str, hint: str) -> None:
    if len(student.shape) != len(teacher.shape) or student.shape[-1] != teacher.shape[-1]:
        raise UserError(f"{what}: the student has shape {student.shape}, the teacher {teacher.shape}; {hint}")


def _logits(student: Any, teacher: Any) -> list[Any]:
    _same_shape(student, teacher, "logits", "both need the same number of classes")
    return _float(student, teacher)


def _over_tokens(per_token: Any, mask: Any) -> Value:
    """(sum over real tokens, their number), each (B,), of values (B, L). Padded positions may hold anything, also NaN."""
    weights = tf.ones_like(per_token) if mask is None else tf.cast(mask, tf.float32)
    return tf.reduce_sum(tf.where(weights > 0, per_token, 0.0), axis=-1), tf.reduce_sum(weights, axis=-1)


def _real(values: Any, mask: Any) -> Any:
    """`values` (B, L, ...) with zeros at padded positions: a NaN there would pass through a `where` into the gradient."""
    if mask is None:
        return values
    return tf.where(
        tf.reshape(tf.cast(mask, tf.bool), [*_shape(values)[:2], *([1] * (len(values.shape) - 2))]), values, 0.0
    )


def _shape(tensor: Any) -> list[Any]:
    dynamic = tf.shape(tensor)
    return [dynamic[n] if size is None else size for n, size in enumerate(tensor.shape)]


def _per_example(values: Any, mask: Any) -> Value:
    return values if len(values.shape) == 1 else _over_tokens(values, mask)


# --- predictions of the teacher -------------------------------------------------------------------------------------


def soft_kl(student: Any, teacher: Any, *, temperature: float = 1.0, mask: Any = None) -> Value:
    """T²·KL(σ(z_t/T) ‖ σ(z_s/T)) from logits (B, C) or (B, L, C). Hinton et al. 2015, section 2."""
    z_s, z_t = _masked_logits(student, teacher, mask)
    log_s, log_t = tf.nn.log_softmax(z_s / temperature), tf.nn.log_softmax(z_t / temperature)
    return _per_example(temperature**2 * tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), axis=-1), mask)


def soft_cross_entropy(
    student: Any, teacher: Any, *, temperature: float = 1.0, student_temperature: float | None = None, mask: Any = None
) -> Value:
    """CE(σ(z_t/T), σ(z_s/T)) from logits (B, C) or (B, L, C). TinyBERT, Jiao et al. 2020, equation 10.

    `student_temperature` 1 leaves the student untempered: generalized distillation, Lopez-Paz et al. 2016, section 4.
    There is no factor T² in either paper.
    """
    z_s, z_t = _masked_logits(student, teacher, mask)
    z_s = z_s / (temperature if student_temperature is None else student_temperature)
    return _per_example(tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(z_t / temperature), z_s), mask)


def soft_binary_cross_entropy(
    student: Any, teacher: Any, *, temperature: float = 1.0, student_temperature: float | None = None, mask: Any = None
) -> Value:
    """T²·mean over labels of BCE(sigmoid(z_t/T), sigmoid(z_s/T)), for multi-label heads; logits (B, C).

    With a `student_temperature` of its own there is no factor T², as in `soft_cross_entropy`.
    """
    z_s, z_t = _masked_logits(student, teacher, mask)
    own = temperature if student_temperature is None else student_temperature
    per_label = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(z_t / temperature), z_s / own)
    scale = temperature**2 if student_temperature is None else 1.0
    return _per_example(scale * tf.reduce_mean(per_label, axis=-1), mask)


def pseudo_labels(student: Any, teacher: Any) -> Value:
    """CE(argmax z_t, σ(z_s)): the teacher's most probable class as if it were a label; (B,) from logits (B, C)."""
    z_s, z_t = _logits(student, teacher)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.argmax(z_t, axis=-1), z_s)


def logits_mse(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """Mean over classes of (z_s - z_t)². Tang et al. 2019, section 3.2. With one output: regression."""
    z_s, z_t = _masked_logits(student, teacher, mask)
    return _per_example(tf.reduce_mean(tf.square(z_s - z_t), axis=-1), mask)


def half_squared_distance(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """½·Σ_classes (z_s - z_t)². XtremeDistil, Mukherjee and Awadallah 2020, logit loss."""
    z_s, z_t = _masked_logits(student, teacher, mask)
    return _per_example(0.5 * tf.reduce_sum(tf.square(z_s - z_t), axis=-1), mask)


def half_squared_log_odds(student: Any, teacher: Any) -> Value:
    """½·Σ_classes (z_s - logit(p_t))², logit(p) = log(p/(1 - p)) of the teacher's softmax p_t; (B,) from logits (B, C). XtremeDistil,
    the logit loss as its paper writes it.

    With p of class c it is z_c - log Σ_{k≠c} exp(z_k), finite however near to 1 or 0 p comes.
    """
    z_s, z_t = _logits(student, teacher)
    return 0.5 * tf.reduce_sum(tf.square(z_s - _log_odds(z_t)), axis=-1)


def _log_odds(logits: Any) -> Any:
    """log(p/(1 - p)) of p = σ(logits) over the last axis."""
    log_p = tf.nn.log_softmax(logits)
    top = tf.one_hot(tf.argmax(logits, axis=-1), _shape(logits)[-1], on_value=True, off_value=False)
    # 1 - p of the most probable class would cancel out in float32: it is the sum of the others. Theirs is 1/2 or more.
    others = tf.reduce_logsumexp(tf.where(top, _NEVER, logits), axis=-1, keepdims=True)
    return tf.where(top, logits - others, log_p - tf.math.log1p(-tf.where(top, 0.0, tf.exp(log_p))))


def _masked_logits(student: Any, teacher: Any, mask: Any) -> list[Any]:
    z_s, z_t = _logits(student, teacher)
    return [z_s, z_t] if len(z_s.shape) == 2 else [_real(z_s, mask), _real(z_t, mask)]


# --- representations ------------------------------------------------------------------------------------------------


def hidden_mse(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """Mean over real tokens and features of (H_s - H_t)². TinyBERT, Jiao et al. 2020, equations 8 and 9.

    Args:
        student, teacher: (B, L, H); the student's already projected to the teacher's width.
        mask: (B, L), 1 for real tokens.

    Returns:
        (sum over tokens of the feature mean, number of real tokens), each (B,).
    """
    h_s, h_t = _states(student, teacher, mask)
    return _over_tokens(tf.reduce_mean(tf.square(h_s - h_t), axis=-1), mask)


def cosine(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """1 - cos(H_s, H_t), a mean over real tokens. DistilBERT, Sanh et al. 2019, section 2.

    `student`, `teacher` (B, L, H). Returns (sum, number of real tokens), each (B,).
    """
    h_s, h_t = _states(student, teacher, mask)
    product = tf.reduce_sum(tf.nn.l2_normalize(h_s, axis=-1) * tf.nn.l2_normalize(h_t, axis=-1), axis=-1)
    return _over_tokens(1.0 - product, mask)


def patient(student: Any, teacher: Any) -> Value:
    """‖h_s/‖h_s‖ - h_t/‖h_t‖‖² of the [CLS] states, shape (B,) from (B, L, H). Patient KD, Sun et al. 2019, equation 7."""
    _same_shape(student, teacher, "[CLS] states", "set project='fit' on the Match to bridge the widths")
    h_s, h_t = (tf.nn.l2_normalize(state[:, 0], axis=-1) for state in _float(student, teacher))
    return tf.reduce_sum(tf.square(h_s - h_t), axis=-1)


def representation_kl(student: Any, teacher: Any) -> Value:
    """KL(σ(r_t) ‖ σ(r_s)) over the features of one vector for each text; shape (B,).

    `student`, `teacher`: (B, H), or (B, L, H) whose first position ([CLS]) is taken. XtremeDistil, stage 1.
    """
    r_s, r_t = _vectors(student, teacher)
    log_s, log_t = tf.nn.log_softmax(r_s), tf.nn.log_softmax(r_t)
    return tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), axis=-1)


def representation_mse(student: Any, teacher: Any) -> Value:
    """Mean over features of (r_s - r_t)², shapes as in `representation_kl`. What XtremeDistil's authors' code minimises."""
    r_s, r_t = _vectors(student, teacher)
    return tf.reduce_mean(tf.square(r_s - r_t), axis=-1)


def feature_map(
    student: Any,
    teacher: Any,
    *,
    mask: Any = None,
    norm_weight: float = 100.0,
    mean_weight: float = 5000.0,
    variance_weight: float = 5.0,
) -> Value:
    """Feature-map transfer of MobileBERT (Sun et al. 2020, section 3.3.1), a mean over real tokens.

    100·MSE(LN₀(H_t), LN₀(H_s)) + 5000·(mean_t - mean_s)² + 5·|var_t - var_s|, mean and variance over the features, LN₀ the
    normalisation by them alone. `student`, `teacher` (B, L, H). Returns (sum, number of real tokens), each (B,).
    """
    h_s, h_t = _states(student, teacher, mask)
    (mean_s, var_s), (mean_t, var_t) = (tf.nn.moments(state, axes=[-1], keepdims=True) for state in (h_s, h_t))
    normed_s, normed_t = (
        (h - m) * tf.math.rsqrt(v + 1e-12) for h, m, v in ((h_s, mean_s, var_s), (h_t, mean_t, var_t))
    )
    value = norm_weight * tf.reduce_mean(tf.square(normed_s - normed_t), axis=-1)
    value += mean_weight * tf.square(mean_s - mean_t)[..., 0] + variance_weight * tf.abs(var_s - var_t)[..., 0]
    return _over_tokens(value, mask)


def _states(student: Any, teacher: Any, mask: Any) -> list[Any]:
    _same_shape(student, teacher, "hidden states", "set project='fit' on the Match to bridge the widths")
    return [_real(state, mask) for state in _float(student, teacher)]


def _vectors(student: Any, teacher: Any) -> list[Any]:
    r_s, r_t = (r[:, 0] if len(r.shape) == 3 else r for r in _float(student, teacher))
    _same_shape(r_s, r_t, "representations", "set project='fit' or 'gelu' on the Match to bridge the widths")
    return [r_s, r_t]


# These read the first position of a representation alone.
OF_CLS = (patient, representation_kl, representation_mse)


# --- attention ------------------------------------------------------------------------------------------------------


def attention_mse(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """(1/h)·Σ_heads MSE(A_s, A_t) over pairs of a real query and a real key. TinyBERT, equation 7.

    Args:
        student, teacher: attention scores before mask and softmax, (B, A, L, L).
        mask: (B, L), 1 for real tokens.

    Returns:
        (sum over real pairs of the head mean, number of real pairs), each (B,). The authors' code averages over padding too.
    """
    a_s, a_t = _scores(student, teacher)
    per_pair = tf.reduce_mean(tf.square(a_s - a_t), axis=1)
    real = tf.ones(tf.shape(per_pair)[:2]) if mask is None else tf.cast(mask, tf.float32)
    pairs = real[:, :, None] * real[:, None, :]
    return tf.reduce_sum(tf.where(pairs > 0, per_pair, 0.0), axis=(1, 2)), tf.reduce_sum(pairs, axis=(1, 2))


def attention_cross_entropy(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """Attention transfer CE(σ(A_t), σ(A_s)) of MobileBERT (Sun et al. 2020, section 3.3.1).

    A sum over real keys, a mean over heads and real queries. `student`, `teacher`, `mask` as in `attention_mse`.
    Returns (sum over real queries of the head mean, number of real queries), each (B,).
    """
    a_s, a_t = _scores(student, teacher)
    if mask is not None:
        keys = tf.cast(mask, tf.bool)[:, None, None, :]
        a_s, a_t = tf.where(keys, a_s, _NEVER), tf.where(keys, a_t, _NEVER)
        queries = tf.cast(mask, tf.bool)[:, None, :, None]
        a_s, a_t = tf.where(queries, a_s, 0.0), tf.where(queries, a_t, 0.0)
    per_query = tf.reduce_mean(-tf.reduce_sum(tf.nn.softmax(a_t) * tf.nn.log_softmax(a_s), axis=-1), axis=1)
    return _over_tokens(per_query, mask)


def _scores(student: Any, teacher: Any) -> list[Any]:
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"attention scores: the student has {student.shape[1]} heads, the teacher {teacher.shape[1]}; "
            "this loss pairs heads one to one, so give the student the teacher's number of heads"
        )
    return _float(student, teacher)


# --- labels ---------------------------------------------------------------------------------------------------------
# A class number below 0 and a target that is NaN or (multi-label) below 0 stand for "no label": such rows give 0, and
# `known` leaves them out of the mean.


def known(labels: Any, task: str = "classification") -> Any:
    """1 for each row that has its label, 0 for the others; shape (B,)."""
    labels = tf.convert_to_tensor(labels)
    if task == "regression":
        return tf.cast(tf.math.is_finite(tf.reshape(tf.cast(labels, tf.float32), [-1])), tf.float32)
    if task == "multilabel":
        return tf.cast(tf.reduce_all(labels >= tf.zeros((), labels.dtype), axis=-1), tf.float32)  # NaN is not >= 0
    return tf.cast(tf.reshape(labels, [-1]) >= tf.zeros((), labels.dtype), tf.float32)


def sparse_cross_entropy(student: Any, labels: Any, *, smoothing: float = 0.0) -> Value:
    """CE(y, σ(z_s)) with class numbers.

    Args:
        student: logits (B, C) with labels (B,), or (B, L, C) with labels (B, L): token labels, masked LM.
        smoothing: ε, the share of the target that is spread evenly over all classes.

    Returns:
        (B,), or for token labels (sum over known labels, their number), each (B,).
    """
    (logits,) = _float(student)
    labels = tf.cast(tf.reshape(labels, _shape(logits)[:-1]), tf.int32)
    is_known = labels >= 0
    logits = tf.where(is_known[..., None], logits, 0.0)
    value = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    if smoothing:
        value = (1 - smoothing) * value - smoothing * tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
    if len(value.shape) == 1:
        return tf.where(is_known, value, 0.0)
    return _over_tokens(value, is_known)


def binary_cross_entropy(student: Any, labels: Any) -> Value:
    """Mean over classes of BCE(y, sigmoid(z_s)) with logits and 0/1 labels (B, C); shape (B,)."""
    logits, targets = _float(student, labels)
    is_known = tf.reduce_all(targets >= 0, axis=-1)
    targets = tf.where(is_known[:, None], targets, 0.0)
    value = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)
    return tf.where(is_known, value, 0.0)


def squared_error(student: Any, labels: Any) -> Value:
    """(z_s - y)² for regression heads with one output; shape (B,)."""
    values, targets = (tf.reshape(tensor, [-1]) for tensor in _float(student, labels))
    is_known = tf.math.is_finite(targets)
    value = tf.square(values - tf.where(is_known, targets, 0.0))
    return tf.where(is_known, value, 0.0)


def span_cross_entropy(student: Any, labels: Any, *, mask: Any = None) -> Value:
    """Mean of CE over start and end of an answer; (B,). `student`: logits (B, L, 2); `labels`: positions (B, 2)."""
    (logits,) = _float(student)
    logits = tf.transpose(_never_padding(logits, mask), [0, 2, 1])
    labels = tf.cast(labels, tf.int32)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), axis=-1)


def span_kl(student: Any, teacher: Any, *, temperature: float = 1.0, mask: Any = None) -> Value:
    """Mean over start and end of T²·KL over the positions of a text; (B,) from logits (B, L, 2)."""
    z_s, z_t = (tf.transpose(_never_padding(z, mask), [0, 2, 1]) / temperature for z in _logits(student, teacher))
    log_s, log_t = tf.nn.log_softmax(z_s), tf.nn.log_softmax(z_t)
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), axis=-1), axis=-1)


def _never_padding(logits: Any, mask: Any) -> Any:
    return logits if mask is None else tf.where(tf.cast(mask, tf.bool)[..., None], logits, _NEVER)
