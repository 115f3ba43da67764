"""Read the first examples of any data that `fit` and `evaluate` take."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.errors import UserError

_ROWS = 16  # examples that a foreign model is run on
_OPAQUE = (tf.RaggedTensor, tf.SparseTensor)


@dataclass(frozen=True)
class First:
    """Examples to check before the first step.

    Args:
        batch: a batch as `train_step` gets it, of NumPy arrays; None if it cannot be read without using it up.
        x: the data to train on. A generator that was read is followed by its first batch.
        whole: whether `batch` holds all examples.
    """

    batch: Any
    x: Any
    whole: bool = False

    def few(self, part: Any) -> Any:
        """Return the first examples of a part of the batch."""
        return keras.tree.map_structure(lambda value: value[:_ROWS], part)


def first_batch(x: Any, y: Any = None, sample_weight: Any = None, *, read: bool = True) -> First:
    """Return the first batch of a data set or generator, or all of the arrays.

    Args:
        x: as `keras.Model.fit` takes it.
        y: likewise.
        sample_weight: likewise.
        read: whether a data set may be read from. Arrays cost nothing.

    Raises:
        UserError: there are no examples, arrays of different lengths, or lists instead of arrays.
    """
    if isinstance(x, tf.data.Dataset):
        return First(_arrays(_next(iter(x))) if read else None, x)
    if inspect.isgenerator(x):
        first = _next(x)
        return First(_arrays(first), _followed(first, x))
    if isinstance(x, keras.utils.PyDataset):
        if x.num_batches == 0:
            raise UserError("the data set is empty. Give at least one batch")
        return First(_arrays(x[0]) if read else None, x)
    if x is None or (type(x).__module__.split(".")[0] in ("tensorflow", "torch", "grain") and not hasattr(x, "shape")):
        return First(None, x)
    parts = [part for part in (x, y, sample_weight) if part is not None]
    for part in parts:
        _check_form(part)
    batch = _arrays((x, y, sample_weight) if sample_weight is not None else (x, y) if y is not None else x)
    if batch is not None:
        _check_lengths(batch)
    return First(batch, x, whole=True)


def _next(batches: Any) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise UserError("the data set is empty. Give at least one batch") from None


def _followed(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield from chain([first], rest)


def _check_form(part: Any) -> None:
    leaves = keras.tree.flatten(part)
    texts = [leaf for leaf in leaves if isinstance(leaf, str | bytes)]
    if texts:
        raise UserError(
            f"received a list of texts, the first is {texts[0][:40]!r}. Give arrays: "
            "model.tokenizer makes token ids of texts, tfdistill.load_data class numbers of labels"
        )
    if any(not hasattr(leaf, "shape") for leaf in leaves):
        raise UserError(f"received {type(part).__name__} of {type(leaves[0]).__name__}. Give NumPy arrays or tensors")


def _arrays(batch: Any) -> Any:
    """A batch of NumPy arrays; None if it holds tensors that are no arrays."""
    leaves = [leaf for leaf in keras.tree.flatten(batch) if leaf is not None]
    if any(isinstance(leaf, _OPAQUE) or hasattr(leaf, "tocsr") for leaf in leaves):
        return None
    return keras.tree.map_structure(lambda leaf: None if leaf is None else np.asarray(leaf), batch)


def _check_lengths(batch: Any) -> None:
    sizes = [leaf.shape[0] if leaf.ndim else 0 for leaf in keras.tree.flatten(batch) if leaf is not None]
    if not sizes or not min(sizes):
        raise UserError("there are no examples. Give at least one")
    if len(set(sizes)) > 1:
        raise UserError(
            f"inputs, labels and weights have {', '.join(map(str, sizes))} rows. Use the same number of each"
        )


def rows_of(batch: Any) -> int:
    """Return the number of examples in a batch of arrays."""
    return len(keras.tree.flatten(batch)[0])


def is_text(value: Any) -> bool:
    """Return whether an array holds text."""
    if value.dtype.kind in "SU":
        return True
    return value.dtype.kind == "O" and value.size > 0 and isinstance(value.reshape(-1)[0], str | bytes)


def class_weighted(x: Any, y: Any, sample_weight: Any, class_weight: Mapping[int, float]) -> tuple[Any, Any, Any]:
    """Return (x, y, class_weight) in which the weights of classes are sample weights if batches are dicts.

    Keras itself does that for `(x, y)`.

    Raises:
        UserError: weights that are not {class number: number}, dict batches without labels, or with weights of their own.
    """
    for label, weight in class_weight.items():
        good = isinstance(weight, int | float | np.number) and np.isfinite(weight) and weight >= 0
        if isinstance(label, bool) or not isinstance(label, int | np.integer) or not good:
            raise UserError(f"class_weight has {label!r}: {weight!r}; expected class numbers and weights of 0 or more")
    if isinstance(x, tf.data.Dataset) and _is_dict(x.element_spec):
        return x.map(lambda batch: _weighted(batch, class_weight)), y, None
    if y is None and _is_dict(x):
        return _weighted(x, class_weight), y, None
    return x, y, class_weight


def _is_dict(batch: Any) -> bool:
    return isinstance(batch, Mapping) and "student" in batch


def _weighted(batch: Mapping[str, Any], class_weight: Mapping[int, float]) -> dict[str, Any]:
    if "labels" not in batch or isinstance(batch["labels"], Mapping):
        raise UserError("class_weight needs batches with 'labels', one class number for each example")
    if "sample_weight" in batch:
        raise UserError("batches have 'sample_weight'. Multiply it by the weights of the classes, without class_weight")
    labels = tf.convert_to_tensor(batch["labels"])
    if labels.shape.rank == 2 and labels.shape[-1] != 1:
        labels = tf.argmax(labels, axis=-1)
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    weights = tf.ones_like(labels, tf.float32)
    for label, weight in class_weight.items():
        weights = tf.where(labels == int(label), tf.cast(weight, tf.float32), weights)
    return {**batch, "sample_weight": weights}
