"""Make Keras metrics that expect probabilities read those of a student, which returns logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfdistill.distill.keras_losses import crossentropy
from tfdistill.errors import UserError, nearest

_M = keras.metrics
_ALWAYS: tuple[type, ...] = (
    _M.AUC,
    _M.BinaryCrossentropy,
    _M.CategoricalCrossentropy,
    _M.SparseCategoricalCrossentropy,
)
_ALWAYS += (_M.KLDivergence, _M.Poisson, _M.SensitivityAtSpecificity, _M.SpecificityAtSensitivity)
_ALWAYS += (_M.PrecisionAtRecall, _M.RecallAtPrecision)
_BY_THRESHOLD: tuple[type, ...] = (_M.BinaryAccuracy, _M.Precision, _M.Recall, _M.FBetaScore, _M.BinaryIoU)
_BY_THRESHOLD += (_M.TruePositives, _M.TrueNegatives, _M.FalsePositives, _M.FalseNegatives)
_FUNCTIONS = (
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "sparse_categorical_crossentropy",
    "kl_divergence",
    "poisson",
)


class OnProbabilities(keras.metrics.Metric):
    """A metric that reads the probabilities that belong to a student's logits.

    Args:
        metric: a metric of Keras, which keeps its name and its state.
        binary: whether each output answers yes or no (sigmoid); else the outputs are classes (softmax). One output is
            always yes or no.
    """

    def __init__(self, metric: keras.metrics.Metric, binary: bool):
        super().__init__(name=metric.name)
        self.metric, self.binary = metric, binary

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        logits = tf.cast(y_pred, tf.float32)
        binary = self.binary or logits.shape[-1] == 1
        probabilities = tf.sigmoid(logits) if binary else tf.nn.softmax(logits)
        return self.metric.update_state(y_true, probabilities, sample_weight=sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()


def on_logits(metrics: Any, *, binary: bool, outputs: int | None) -> tuple[Any, list[str]]:
    """Return the metrics of `compile` for a student that returns logits, and the names of those that were changed.

    Args:
        metrics: what `keras.Model.compile` takes: names, objects, classes or functions in a list, tuple or dict.
        binary: see `OnProbabilities`.
        outputs: the number of logits; None if it is not known.

    Raises:
        UserError: an unknown name.
    """
    changed: list[str] = []

    def one(metric: Any) -> Any:
        made = _on_logits(metric, binary, outputs)
        if isinstance(made, OnProbabilities) and made is not metric:
            changed.append(made.name)
        return made

    if metrics is None:
        return None, changed
    if isinstance(metrics, str) or not isinstance(metrics, Mapping | list | tuple):
        raise UserError(f"metrics={metrics!r}: expected a list, such as metrics=['accuracy']")
    return keras.tree.map_structure(one, metrics), changed


def _on_logits(metric: Any, binary: bool, outputs: int | None) -> Any:
    name = metric.lower() if isinstance(metric, str) else ""
    if name in ("accuracy", "acc"):
        if outputs != 1:
            return metric  # Keras chooses by the labels' shape, and the largest logit is the largest probability
        return OnProbabilities(_M.BinaryAccuracy(name=metric), binary=True)
    if name in ("crossentropy", "ce"):
        return _M.MeanMetricWrapper(crossentropy, name=metric)
    made = _resolved(metric)
    if isinstance(made, _M.Metric):
        return OnProbabilities(made, binary) if _needs_probabilities(made) else metric
    function = getattr(made, "__name__", "")
    if getattr(made, "__module__", "").startswith("keras.") and function in _FUNCTIONS:
        shown = metric if isinstance(metric, str) else function
        return OnProbabilities(_M.MeanMetricWrapper(made, name=shown), binary or function.startswith("binary"))
    return metric


def _resolved(metric: Any) -> Any:
    if metric is None:
        return None
    try:
        return _M.get(metric)
    except (ValueError, TypeError) as error:
        if not isinstance(metric, str):
            raise UserError(f"metric {metric!r} is not a metric. {str(error).splitlines()[0][:200]}") from error
        if hasattr(_M, metric) and callable(getattr(_M, metric)):
            raise UserError(f"metric '{metric}' needs arguments. Give an object of keras.metrics.{metric}") from error
        known = ["accuracy", *(each for each in dir(_M) if not each.startswith("_"))]
        raise UserError(
            f"metric '{metric}' is unknown{nearest(metric, known)}. Use a metric of keras.metrics"
        ) from error


def _needs_probabilities(metric: keras.metrics.Metric) -> bool:
    if isinstance(metric, OnProbabilities):
        return False
    options: Mapping[str, Any] = getattr(metric, "_fn_kwargs", {})
    if isinstance(metric, _ALWAYS):
        reads = (getattr(metric, "from_logits", False), getattr(metric, "_from_logits", False))
        return not (any(reads) or options.get("from_logits", False))
    if isinstance(metric, _BY_THRESHOLD):
        return any(0 < each < 1 for each in _thresholds(metric, options))
    function: Callable[..., Any] | None = getattr(metric, "_fn", None)
    named = getattr(function, "__module__", "").startswith("keras.") and getattr(function, "__name__", "") in _FUNCTIONS
    return named and not options.get("from_logits", False)


def _thresholds(metric: Any, options: Mapping[str, Any]) -> list[float]:
    """The thresholds that a metric compares outputs with. A threshold of 0 is meant for logits."""
    if getattr(metric, "top_k", None) is not None:
        return []
    given = options.get("threshold", getattr(metric, "thresholds", getattr(metric, "threshold", None)))
    if given is None:
        return []  # F scores without a threshold take the largest output
    return [float(each) for each in (given if isinstance(given, list | tuple) else [given])]
