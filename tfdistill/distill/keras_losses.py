"""Make Keras losses read logits, which is what a student returns."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tfdistill.errors import UserError, nearest
from tfdistill.system.lazy import keras, tf

# Losses that read probabilities or rates, and have no `from_logits`; by the name of their function: what to use instead.
_INSTEAD = {
    "kl_divergence": "Use Match(losses.soft_kl) for a teacher, or `categorical_crossentropy` for soft labels",
    "categorical_generalized_cross_entropy": "Use HardLabels(smoothing=...), or your own function of (labels, logits)",
    "poisson": "Use a function such as `lambda y, z: keras.losses.poisson(y, keras.ops.exp(z))`",
    "dice": "Use a function such as `lambda y, z: keras.losses.dice(y, keras.ops.softmax(z), axis=-1)`",
    "tversky": "Use a function such as `lambda y, z: keras.losses.tversky(y, keras.ops.softmax(z), axis=-1)`",
}
_OF_CLASSES = ("categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge")
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
REGRESSION = (
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "huber",
    "log_cosh",
    "cosine_similarity",
)
_ELEMENTWISE = (*BINARY, *REGRESSION, "hinge", "squared_hinge")


def crossentropy(labels: Any, logits: Any) -> Any:
    """Return Keras' "crossentropy": binary, sparse or categorical, as the shapes of labels and logits say."""
    if logits.shape[-1] == 1:
        return keras.losses.binary_crossentropy(labels, logits, from_logits=True)
    if len(labels.shape) < len(logits.shape) or labels.shape[-1] == 1:
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return keras.losses.categorical_crossentropy(labels, logits, from_logits=True)


def resolve(loss: Any) -> Any:
    """Return the loss object or function that Keras would make of a name, a class, a config, an object or a function.

    Raises:
        UserError: an unknown name, a class that needs arguments, or something that cannot be called.
    """
    if isinstance(loss, str):
        return _named(loss)
    if getattr(loss, "__module__", "") == "tfdistill.distill.losses":
        name = loss.__name__
        raise UserError(f"losses.{name} is not a loss of (labels, logits). Give the Distiller [Match(losses.{name})]")
    try:
        made = keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        raise UserError(f"loss={loss!r} is not a loss. {str(error).splitlines()[0][:200]}") from error
    if not callable(made):
        raise UserError(f"loss={loss!r} is not a loss. Use a name, an object of keras.losses, or a function")
    return made


def _named(name: str) -> Any:
    if name.lower() in ("crossentropy", "ce"):
        return crossentropy
    try:
        return keras.losses.get(name)
    except ValueError as error:
        made = getattr(keras.losses, name, None)
        if name in ("Loss", "get", "serialize", "deserialize") or not callable(made):
            known = [each for each in dir(keras.losses) if not each.startswith("_")]
            raise UserError(f"loss '{name}' is unknown{nearest(name, known)}. Use a loss of keras.losses") from error
        try:
            return made() if inspect.isclass(made) else made
        except TypeError:
            raise UserError(f"loss '{name}' needs arguments. Give an object of keras.losses.{name}") from error


def function_name(loss: Any) -> str:
    """Return the name of the function beneath a Keras loss, such as "huber"; "" if it is not Keras' own."""
    if isinstance(loss, keras.losses.Loss):
        loss = getattr(loss, "fn", None)
    while isinstance(loss, functools.partial):
        loss = loss.func
    ours = getattr(loss, "__module__", "").startswith("keras.")
    return str(getattr(loss, "__name__", "")) if ours else ""


def on_logits(loss: Any) -> tuple[Any, bool]:
    """Return the loss with `from_logits=True`, and whether that was a change.

    Args:
        loss: what `resolve` returns.

    Raises:
        UserError: a loss that reads probabilities and cannot read logits.
    """
    name = function_name(loss)
    if name in _INSTEAD:
        raise UserError(f"the loss {name} reads probabilities, but a student returns logits. {_INSTEAD[name]}")
    if isinstance(loss, keras.losses.Loss):
        return _object_on_logits(loss)
    function, given = loss, {}
    if isinstance(loss, functools.partial):
        function, given = loss.func, loss.keywords
    if not _takes_from_logits(function) or given.get("from_logits") is True:
        return loss, False
    default = inspect.signature(function).parameters["from_logits"].default
    if "from_logits" not in given and default is not False:
        return loss, False
    return functools.partial(loss, from_logits=True), True


def _takes_from_logits(function: Any) -> bool:
    try:
        return "from_logits" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _object_on_logits(loss: keras.losses.Loss) -> tuple[Any, bool]:
    options = getattr(loss, "_fn_kwargs", {})
    wraps = _takes_from_logits(getattr(loss, "fn", None))
    reads = options.get("from_logits", False) if wraps else getattr(loss, "from_logits", True)
    if reads is not False:
        return loss, False
    changed = object.__new__(type(loss))  # `copy.copy` would go through a .keras file
    changed.__dict__.update(vars(loss))
    changed.__dict__["from_logits"] = True
    if wraps:
        changed.__dict__["_fn_kwargs"] = {**options, "from_logits": True}
    return changed, True


def per_example(loss: Any, labels: Any, logits: Any) -> tf.Tensor:
    """Return the loss of each example, (B,) in float32, as Keras computes it before its reduction.

    Args:
        loss: what `on_logits` returns.
        labels: labels of any form that the loss takes.
        logits: (B, C), or (B, L, C).

    Raises:
        UserError: the shapes do not fit together, or the loss returns one number for the whole batch.
    """
    name = function_name(loss)
    logits = tf.cast(logits, tf.float32)
    if not isinstance(labels, Mapping):
        labels = tf.convert_to_tensor(labels)
        labels, logits = _same_rank(labels, logits, name)
        _check_shapes(name, labels, logits)
    # `call` of a Keras loss is per example; its own reduction would divide by the local batch.
    function: Callable[..., Any] = loss.call if isinstance(loss, keras.losses.Loss) else loss
    try:
        value = tf.cast(function(labels, logits), tf.float32)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        shapes = f"labels {getattr(labels, 'shape', '')} and logits {logits.shape}"
        raise UserError(f"the loss cannot compare {shapes}. {str(error).splitlines()[0][:200]}") from error
    if value.shape.rank == 0:
        raise UserError("the loss returns one number for the whole batch. Return one for each example, shape (B,)")
    return tf.reduce_mean(tf.reshape(value, [tf.shape(value)[0], -1]), axis=-1)


def _same_rank(labels: tf.Tensor, logits: tf.Tensor, name: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels (B,) as (B, 1) for one output, and labels (B, 1) as (B,) for class numbers, as Keras does."""
    ranks = labels.shape.rank, logits.shape.rank
    if None in ranks:
        return labels, logits
    if ranks[0] == ranks[1] - 1 and logits.shape[-1] == 1:
        return labels[..., None], logits
    if ranks[0] == ranks[1] and labels.shape[-1] == 1 and name == "sparse_categorical_crossentropy":
        return labels[..., 0], logits
    return labels, logits


def _check_shapes(name: str, labels: tf.Tensor, logits: tf.Tensor) -> None:
    shapes = f"labels have the shape {labels.shape}, logits {logits.shape}"
    sparse = name == "sparse_categorical_crossentropy"
    if (sparse or name in _OF_CLASSES) and logits.shape[-1] == 1:
        raise UserError(f"{name} of one output is always 0. Use `binary_crossentropy`, or a student with two outputs")
    if labels.shape.rank is None or logits.shape.rank is None:
        return
    if sparse and labels.shape.rank == logits.shape.rank:
        raise UserError(f"{name} reads class numbers: {shapes}. Use `categorical_crossentropy` for one-hot labels")
    same = labels.shape.is_compatible_with(logits.shape)
    if name in _OF_CLASSES and not same:
        raise UserError(f"{name} reads one-hot labels: {shapes}. Use `sparse_categorical_crossentropy`")
    if name in _ELEMENTWISE and not same:
        raise UserError(f"{name} compares each output with a label: {shapes}. Use labels of the logits' shape")
