"""Define distillation losses as pure functions.

Every loss takes `student` and `teacher` (or `labels`) and, if positions can be padding, `mask` (B, L) with 1 for real
tokens. It computes in float32 and returns a `Value`: one number for each example, shape (B,), or a `Mean` over tokens.
The Distiller divides once, over the global batch, so that neither padding nor the number of devices changes the result.

Shapes: batch B, length L, hidden size H, attention heads A, classes C. Losses on logits take (B, C), and (B, L, C) from
token-level heads with `mask`; they are means over tokens then. Notation: z logits, σ softmax, T temperature, subscripts
s and t for student and teacher.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tfdistill.errors import UserError
from tfdistill.system.lazy import tf

__all__ = [
    "FIRST_ONLY",
    "Mean",
    "Value",
    "attention_cross_entropy",
    "attention_kl",
    "attention_mse",
    "binary_cross_entropy",
    "cosine",
    "cross_entropy",
    "feature_map",
    "half_squared_distance",
    "half_squared_log_odds",
    "hidden_mse",
    "known",
    "logits_mse",
    "patient",
    "pseudo_labels",
    "relation_kl",
    "representation_kl",
    "representation_mse",
    "soft_binary_cross_entropy",
    "soft_cross_entropy",
    "soft_kl",
    "span_cross_entropy",
    "span_kl",
    "sparse_cross_entropy",
    "squared_error",
]


def __dir__() -> list[str]:
    return __all__


class Mean(NamedTuple):
    """A mean that is not divided yet: sum and number of the values of each example, each (B,)."""

    sum: tf.Tensor
    count: tf.Tensor


Value: TypeAlias = "tf.Tensor | Mean"

# Minus infinity in a softmax: its exponential is zero next to any real score, and 0 times it is zero.
_NEVER = -1e9


def _float(*tensors: Any) -> list[tf.Tensor]:
    return [tf.cast(tf.convert_to_tensor(tensor), tf.float32) for tensor in tensors]


def _shape(tensor: tf.Tensor) -> list[Any]:
    """Sizes as integers where they are known, else as tensors."""
    dynamic = tf.shape(tensor)
    return [dynamic[n] if size is None else size for n, size in enumerate(tensor.shape)]


def check_temperature(name: str, temperature: Any) -> None:
    """Raise UserError if a temperature is a number, but not a positive one."""
    if isinstance(temperature, bool | int | float | np.number) and not 0 < float(temperature) < float("inf"):
        raise UserError(f"{name} is {temperature}; expected a number above 0. Use 1 for no temperature")


def _check_widths(student: Any, teacher: Any, what: str, advice: str) -> None:
    if len(student.shape) != len(teacher.shape) or student.shape[-1] != teacher.shape[-1]:
        raise UserError(f"{what}: the student has shape {student.shape}, the teacher {teacher.shape}. {advice}")


def _over_tokens(per_token: tf.Tensor, mask: Any) -> Mean:
    """Sum and number of the real tokens of values (B, L). Padded positions may hold anything, also NaN."""
    weights = tf.ones_like(per_token) if mask is None else tf.cast(mask, tf.float32)
    return Mean(tf.reduce_sum(tf.where(weights > 0, per_token, 0.0), axis=-1), tf.reduce_sum(weights, axis=-1))


def _per_example(values: tf.Tensor, mask: Any) -> Value:
    return values if len(values.shape) == 1 else _over_tokens(values, mask)


def _real(values: tf.Tensor, mask: Any) -> tf.Tensor:
    """`values` (B, L, ...) with zeros at padded positions: a NaN there would pass through a `where` into the gradient."""
    if mask is None:
        return values
    shape = [*_shape(values)[:2], *([1] * (len(values.shape) - 2))]
    return tf.where(tf.reshape(tf.cast(mask, tf.bool), shape), values, 0.0)


def _kl(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """KL(σ(teacher) ‖ σ(student)) over the last axis."""
    log_s, log_t = tf.nn.log_softmax(student), tf.nn.log_softmax(teacher)
    return tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), axis=-1)


# --- predictions of the teacher -------------------------------------------------------------------------------------


def _logits(
    student: Any, teacher: Any, mask: Any = None, *, classes: str = "", temperatures: tuple[Any, ...] = ()
) -> list[tf.Tensor]:
    """Both logits in float32. `classes` names a loss over classes, which is constant if there is only one."""
    for temperature in temperatures:
        check_temperature("temperature", temperature)
    _check_widths(student, teacher, "logits", "Both need the same number of classes")
    if classes and student.shape[-1] == 1:
        raise UserError(
            f"{classes} of one output does not depend on it. "
            "Use losses.soft_binary_cross_entropy for one logit of two classes, losses.logits_mse for regression"
        )
    both = _float(student, teacher)
    return both if len(student.shape) == 2 else [_real(logits, mask) for logits in both]


def soft_kl(student: Any, teacher: Any, *, temperature: float = 1.0, mask: Any = None) -> Value:
    """Return T²·KL(σ(z_t/T) ‖ σ(z_s/T)) of logits. Hinton et al. 2015, section 2."""
    z_s, z_t = _logits(student, teacher, mask, classes="soft_kl", temperatures=(temperature,))
    return _per_example(temperature**2 * _kl(z_s / temperature, z_t / temperature), mask)


def soft_cross_entropy(
    student: Any, teacher: Any, *, temperature: float = 1.0, student_temperature: float | None = None, mask: Any = None
) -> Value:
    """Return CE(σ(z_t/T), σ(z_s/T)) of logits. TinyBERT, Jiao et al. 2020, equation 10.

    Args:
        student_temperature: 1 leaves the student untempered, as in generalized distillation (Lopez-Paz et al. 2016,
            section 4); None takes T. Neither paper has a factor T².
    """
    own = temperature if student_temperature is None else student_temperature
    z_s, z_t = _logits(student, teacher, mask, classes="soft_cross_entropy", temperatures=(temperature, own))
    z_s = z_s / own
    return _per_example(tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(z_t / temperature), z_s), mask)


def soft_binary_cross_entropy(
    student: Any, teacher: Any, *, temperature: float = 1.0, student_temperature: float | None = None, mask: Any = None
) -> Value:
    """Return T²·mean over labels of BCE(sigmoid(z_t/T), sigmoid(z_s/T)) of multi-label logits.

    Args:
        student_temperature: as in `soft_cross_entropy`; there is no factor T² with it.
    """
    own = temperature if student_temperature is None else student_temperature
    z_s, z_t = _logits(student, teacher, mask, temperatures=(temperature, own))
    per_label = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(z_t / temperature), z_s / own)
    scale = temperature**2 if student_temperature is None else 1.0
    return _per_example(scale * tf.reduce_mean(per_label, axis=-1), mask)


def pseudo_labels(student: Any, teacher: Any) -> Value:
    """Return CE(argmax z_t, σ(z_s)) of logits (B, C): the teacher's most probable class as a label."""
    z_s, z_t = _logits(student, teacher, classes="pseudo_labels")
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.argmax(z_t, axis=-1), z_s)


def logits_mse(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """Return the mean over classes of (z_s - z_t)². Tang et al. 2019, section 3.2; with one output: regression."""
    z_s, z_t = _logits(student, teacher, mask)
    return _per_example(tf.reduce_mean(tf.square(z_s - z_t), axis=-1), mask)


def half_squared_distance(student: Any, teacher: Any, *, mask: Any = None) -> Value:
    """Return ½·Σ_classes (z_s - z_t)². XtremeDistil, Mukherjee and Awadallah 2020, logit loss."""
    z_s, z_t = _logits(student, teacher, mask)
    return _per_example(0.5 * tf.reduce_sum(tf.square(z_s - z_t), axis=-1), mask)


def half_squared_log_odds(student: Any, teacher: Any) -> Value:
    """Return ½·Σ_classes (z_s - logit(p_t))² of logits (B, C), p_t the teacher's softmax.

    This is XtremeDistil's logit loss as its paper writes it, with logit(p) = log(p/(1 - p)). For class c that is
    z_c - log Σ_{k≠c} exp(z_k), which is finite even if p rounds to 0 or 1.
    """
    z_s, z_t = _logits(student, teacher, classes="half_squared_log_odds")
    return 0.5 * tf.reduce_sum(tf.square(z_s - _log_odds(z_t)), axis=-1)


def _log_odds(logits: tf.Tensor) -> tf.Tensor:
    """log(p/(1 - p)) of p = σ(logits) over the last axis."""
    log_p = tf.nn.log_softmax(logits)
    top = tf.one_hot(tf.argmax(logits, axis=-1), _shape(logits)[-1], on_value=True, off_value=False)
    # 1 - p of the most probable class would cancel in float32, so it is the sum of the others' p. For the others,
    # 1 - p is at least 1/2.
    others = tf.reduce_logsumexp(tf.where(top, _NEVER, logits), axis=-1, keepdims=True)
    return tf.where(top, logits - others, log_p - tf.math.log1p(-tf.where(top, 0.0, tf.exp(log_p))))


# --- representations ------------------------------------------------------------------------------------------------


_BRIDGE = "Set project='fit' on the Match to project the student's width to the teacher's"


def _states(student: Any, teacher: Any, mask: Any) -> list[tf.Tensor]:
    _check_widths(student, teacher, "hidden states", _BRIDGE)
    return [_real(state, mask) for state in _float(student, teacher)]


def _vectors(student: Any, teacher: Any) -> list[tf.Tensor]:
    """One vector for each example: (B, H) as it is, of (B, L, H) the first position."""
    r_s, r_t = (r[:, 0] if len(r.shape) == 3 else r for r in _float(student, teacher))
    _check_widths(r_s, r_t, "representations", _BRIDGE)
    return [r_s, r_t]


def hidden_mse(student: Any, teacher: Any, *, mask: Any = None) -> Mean:
    """Return the mean over real tokens and hidden units of (H_s - H_t)², from (B, L, H).

    TinyBERT, Jiao et al. 2020, equations 8 and 9; `student` is already projected to the teacher's width.
    """
    h_s, h_t = _states(student, teacher, mask)
    return _over_tokens(tf.reduce_mean(tf.square(h_s - h_t), axis=-1), mask)


def cosine(student: Any, teacher: Any, *, mask: Any = None) -> Mean:
    """Return the mean over real tokens of 1 - cos(H_s, H_t), from (B, L, H). DistilBERT, Sanh et al. 2019, section 2."""
    h_s, h_t = _states(student, teacher, mask)
    product = tf.reduce_sum(tf.nn.l2_normalize(h_s, axis=-1) * tf.nn.l2_normalize(h_t, axis=-1), axis=-1)
    return _over_tokens(1.0 - product, mask)


def patient(student: Any, teacher: Any) -> Value:
    """Return ‖h_s/‖h_s‖ - h_t/‖h_t‖‖² of the [CLS] states of (B, L, H). Patient KD, Sun et al. 2019, equation 7."""
    _check_widths(student, teacher, "[CLS] states", _BRIDGE)
    h_s, h_t = (tf.nn.l2_normalize(state[:, 0], axis=-1) for state in _float(student, teacher))
    return tf.reduce_sum(tf.square(h_s - h_t), axis=-1)


def representation_kl(student: Any, teacher: Any) -> Value:
    """Return KL(σ(r_t) ‖ σ(r_s)) over the hidden units of one vector for each example. XtremeDistil, stage 1.

    `student` and `teacher` are (B, H), or (B, L, H) with the vector at the first position ([CLS]).
    """
    return _kl(*_vectors(student, teacher))


def representation_mse(student: Any, teacher: Any) -> Value:
    """Return the mean over hidden units of (r_s - r_t)², shapes as in `representation_kl`. XtremeDistil's own code."""
    r_s, r_t = _vectors(student, teacher)
    return tf.reduce_mean(tf.square(r_s - r_t), axis=-1)


# These losses read the first position of a per-token feature alone (`Term.first_only`).
FIRST_ONLY = (patient, representation_kl, representation_mse)


def feature_map(
    student: Any,
    teacher: Any,
    *,
    mask: Any = None,
    norm_weight: float = 100.0,
    mean_weight: float = 5000.0,
    variance_weight: float = 5.0,
) -> Mean:
    """Return MobileBERT's feature-map transfer of (B, L, H), a mean over real tokens. Sun et al. 2020, section 3.3.1.

    100·MSE(LN₀(H_t), LN₀(H_s)) + 5000·(mean_t - mean_s)² + 5·|var_t - var_s|: mean and variance are over the hidden
    units, LN₀ is the normalisation by them without scale and offset.
    """
    h_s, h_t = _states(student, teacher, mask)
    (mean_s, var_s), (mean_t, var_t) = (tf.nn.moments(state, axes=[-1], keepdims=True) for state in (h_s, h_t))
    normed_s, normed_t = (
        (h - m) * tf.math.rsqrt(v + 1e-12) for h, m, v in ((h_s, mean_s, var_s), (h_t, mean_t, var_t))
    )
    value = norm_weight * tf.reduce_mean(tf.square(normed_s - normed_t), axis=-1)
    value += mean_weight * tf.square(mean_s - mean_t)[..., 0] + variance_weight * tf.abs(var_s - var_t)[..., 0]
    return _over_tokens(value, mask)


# --- attention ------------------------------------------------------------------------------------------------------


def _scores(student: Any, teacher: Any) -> list[tf.Tensor]:
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"attention scores: the student has {student.shape[1]} heads, the teacher {teacher.shape[1]}. "
            "This loss pairs heads one to one, so give the student the teacher's number of heads"
        )
    return _float(student, teacher)


def attention_mse(student: Any, teacher: Any, *, mask: Any = None) -> Mean:
    """Return (1/A)·Σ_heads MSE(A_s, A_t), a mean over pairs of a real query and a real key. TinyBERT, equation 7.

    `student` and `teacher` are attention scores before mask and softmax, (B, A, L, L). The authors' code averages over
    padding, too.
    """
    a_s, a_t = _scores(student, teacher)
    per_pair = tf.reduce_mean(tf.square(a_s - a_t), axis=1)
    real = tf.ones(tf.shape(per_pair)[:2]) if mask is None else tf.cast(mask, tf.float32)
    pairs = real[:, :, None] * real[:, None, :]
    return Mean(tf.reduce_sum(tf.where(pairs > 0, per_pair, 0.0), axis=(1, 2)), tf.reduce_sum(pairs, axis=(1, 2)))


def attention_cross_entropy(student: Any, teacher: Any, *, mask: Any = None) -> Mean:
    """Return CE(σ(A_t), σ(A_s)) of attention scores as in `attention_mse`: MobileBERT, Sun et al. 2020, section 3.3.1.

    It is a sum over real keys and a mean over heads and real queries.
    """
    a_s, a_t = (_masked(scores, mask) for scores in _scores(student, teacher))
    per_query = tf.reduce_mean(-tf.reduce_sum(tf.nn.softmax(a_t) * tf.nn.log_softmax(a_s), axis=-1), axis=1)
    return _over_tokens(per_query, mask)


def attention_kl(student: Any, teacher: Any, *, mask: Any = None) -> Mean:
    """Return KL(σ(A_t) ‖ σ(A_s)) of attention scores as in `attention_mse`. MiniLM, Wang et al. 2020.

    It is a sum over real keys and a mean over heads and real queries.
    """
    a_s, a_t = _scores(student, teacher)
    return _over_queries(a_s, a_t, mask)


def relation_kl(student: Any, teacher: Any, *, heads: int, mask: Any = None) -> Mean:
    """Return KL(σ(X_t·X_tᵀ/√d_t) ‖ σ(X_s·X_sᵀ/√d_s)) of queries, keys or values X with R relation heads.

    This is MiniLMv2's self-attention relation (Wang et al. 2021) and MiniLM's value relation (Wang et al. 2020). It is a
    sum over real keys and a mean over relation heads and real queries.

    Args:
        student: (B, L, H_s) with attention heads side by side.
        teacher: (B, L, H_t), likewise; H_s and H_t may differ.
        heads: R, which need not be the attention heads of either model; d = H/R.
    """
    return _over_queries(_relations(student, heads, mask), _relations(teacher, heads, mask), mask)


def _relations(vectors: Any, heads: int, mask: Any) -> tf.Tensor:
    """Scaled dot products (B, R, L, L) of vectors (B, L, H), which are split into R heads."""
    if vectors.shape[-1] % heads:
        raise UserError(f"{vectors.shape[-1]} hidden units cannot be split into {heads} relation heads. Use a divisor")
    (vectors,) = _float(vectors)
    vectors = _real(vectors, mask)
    batch, length, width = _shape(vectors)
    split = tf.transpose(tf.reshape(vectors, [batch, length, heads, width // heads]), [0, 2, 1, 3])
    return tf.matmul(split, split, transpose_b=True) * (width // heads) ** -0.5


def _over_queries(student: tf.Tensor, teacher: tf.Tensor, mask: Any) -> Mean:
    """The KL divergence over keys of scores (B, A, L, L): a mean over heads and real queries."""
    return _over_tokens(tf.reduce_mean(_kl(_masked(student, mask), _masked(teacher, mask)), axis=1), mask)


def _masked(scores: tf.Tensor, mask: Any) -> tf.Tensor:
    """Scores (B, A, L, L) without probability at padded keys, and with zeros at padded queries."""
    if mask is None:
        return scores
    real = tf.cast(mask, tf.bool)
    return tf.where(real[:, None, :, None], tf.where(real[:, None, None, :], scores, _NEVER), 0.0)


# --- labels ---------------------------------------------------------------------------------------------------------
# A class number below 0 and a target that is NaN or (multi-label) below 0 mean "no label": the loss of such an example
# is 0, and `known` leaves it out of the mean.


def known(labels: Any, task: str = "classification") -> tf.Tensor:
    """Return 1 for each example that has a label and 0 for the others, shape (B,)."""
    labels = tf.convert_to_tensor(labels)
    if task == "regression":
        return tf.cast(tf.math.is_finite(tf.reshape(tf.cast(labels, tf.float32), [-1])), tf.float32)
    if task == "multilabel":
        labels = labels[:, None] if labels.shape.rank == 1 else labels  # of one output
        return tf.cast(tf.reduce_all(labels >= tf.zeros((), labels.dtype), axis=-1), tf.float32)  # NaN is not >= 0
    if _are_probabilities(labels):
        labels = tf.reduce_min(labels, axis=-1)  # NaN stays NaN
    return tf.cast(tf.reshape(labels, [-1]) >= tf.zeros((), labels.dtype), tf.float32)


def _are_probabilities(labels: tf.Tensor) -> bool:
    """Whether labels are rows of probabilities (B, C), rather than class numbers (B,) or (B, 1)."""
    return labels.shape.rank == 2 and labels.shape[-1] != 1


def cross_entropy(student: Any, labels: Any, *, smoothing: float = 0.0) -> Value:
    """Return CE(y, σ(z_s)) of logits (B, C) with class numbers or with probabilities.

    Args:
        student: logits (B, C).
        labels: class numbers (B,) or (B, 1), below 0 for none; or rows of probabilities (B, C), such as one-hot rows,
            below 0 or NaN for none.
        smoothing: ε, the share of the target that is spread evenly over all classes.
    """
    labels = tf.convert_to_tensor(labels)
    if len(student.shape) != 2 or not _are_probabilities(labels):
        return sparse_cross_entropy(student, labels, smoothing=smoothing)
    _check_classes(student)
    _check_widths(student, labels, "labels", "Give class numbers (B,), or one probability for each class")
    logits, targets = _float(student, labels)
    is_known = tf.cast(known(targets), tf.bool)
    targets = tf.where(is_known[:, None], targets, 0.0)
    log_p = tf.nn.log_softmax(tf.where(is_known[:, None], logits, 0.0))
    value = -tf.reduce_sum(targets * log_p, axis=-1)
    if smoothing:
        value = (1 - smoothing) * value - smoothing * tf.reduce_mean(log_p, axis=-1)
    return tf.where(is_known, value, 0.0)


def _check_classes(logits: Any) -> None:
    if logits.shape[-1] == 1:
        raise UserError(
            "cross entropy of one output is always 0. "
            "Use HardLabels(task='multilabel') for one logit of two classes, task='regression' for numbers"
        )


def sparse_cross_entropy(student: Any, labels: Any, *, smoothing: float = 0.0) -> Value:
    """Return CE(y, σ(z_s)) with class numbers.

    Args:
        student: logits (B, C), or (B, L, C) for token labels and masked LM.
        labels: (B,) or (B, L), below 0 for none. A mean over labelled tokens in the second case.
        smoothing: ε, the share of the target that is spread evenly over all classes.
    """
    (logits,) = _float(student)
    _check_classes(logits)
    labels = tf.cast(tf.reshape(labels, _shape(logits)[:-1]), tf.int32)
    is_known = labels >= 0
    logits = tf.where(is_known[..., None], logits, 0.0)
    value = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    if smoothing:
        value = (1 - smoothing) * value - smoothing * tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
    return tf.where(is_known, value, 0.0) if len(value.shape) == 1 else _over_tokens(value, is_known)


def binary_cross_entropy(student: Any, labels: Any) -> Value:
    """Return the mean over classes of BCE(y, sigmoid(z_s)) of logits and 0/1 labels (B, C)."""
    logits, targets = _float(student, labels)
    targets = targets[:, None] if targets.shape.rank == 1 else targets  # of one output
    is_known = tf.reduce_all(targets >= 0, axis=-1)
    targets = tf.where(is_known[:, None], targets, 0.0)
    value = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)
    return tf.where(is_known, value, 0.0)


def squared_error(student: Any, labels: Any) -> Value:
    """Return (z_s - y)² of regression heads with one output, (B, 1) and (B,)."""
    values, targets = (tf.reshape(tensor, [-1]) for tensor in _float(student, labels))
    is_known = tf.math.is_finite(targets)
    return tf.where(is_known, tf.square(values - tf.where(is_known, targets, 0.0)), 0.0)


def span_cross_entropy(student: Any, labels: Any, *, mask: Any = None) -> Value:
    """Return the mean of CE over start and end of an answer, from logits (B, L, 2) and positions (B, 2)."""
    logits = _over_positions(student, mask)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), logits), axis=-1)


def span_kl(student: Any, teacher: Any, *, temperature: float = 1.0, mask: Any = None) -> Value:
    """Return the mean over start and end of T²·KL over the positions, from logits (B, L, 2)."""
    check_temperature("temperature", temperature)
    _check_widths(student, teacher, "logits", "Both need scores of start and end")
    z_s, z_t = (_over_positions(logits, mask) / temperature for logits in (student, teacher))
    return temperature**2 * tf.reduce_mean(_kl(z_s, z_t), axis=-1)


def _over_positions(logits: Any, mask: Any) -> tf.Tensor:
    """Logits (B, 2, L) from (B, L, 2), with no probability at padded positions."""
    (logits,) = _float(logits)
    if mask is not None:
        logits = tf.where(tf.cast(mask, tf.bool)[..., None], logits, _NEVER)
    return tf.transpose(logits, [0, 2, 1])
