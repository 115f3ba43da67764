"""Look at what a `keras.Model` of another library returns: one place for its form, its shape and its activation.

Models of this library have a method `features` and return logits by construction. Any other model may return a tensor, a
dict, a tuple, and may end in a softmax or a sigmoid.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.system.lazy import keras, tf

# Operations that pass values on as they are.
_PASSING = (
    "Identity",
    "IdentityN",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "Cast",
    "StopGradient",
    "EnsureShape",
    "StridedSlice",
)
_ACTIVATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_TOLERANCE = 1e-4  # of sums of probabilities
_LEAST = 1e-37  # a float32 probability whose logarithm is finite


def has_features(model: Any) -> bool:
    """Return whether a model has this library's method `features(inputs, want, training)`."""
    method = getattr(model, "features", None)
    if not inspect.ismethod(method):
        return False
    return "want" in inspect.signature(method).parameters


def is_hub_classifier(model: Any) -> bool:
    """Return whether a model is a text classifier of KerasHub, without importing KerasHub."""
    return any(
        base.__name__ == "TextClassifier" and base.__module__.startswith("keras_hub") for base in type(model).__mro__
    )


def logits_of(model: Any, outputs: Any) -> Any:
    """Return the tensor of logits in what a model returned: (B, C), or (B, L, C); (B,) becomes (B, 1).

    Raises:
        UserError: several outputs of which none is called "logits", or a tensor that cannot be logits.
    """
    name = type(model).__name__
    tensor = _only(name, outputs)
    if not hasattr(tensor, "shape") or not hasattr(tensor, "dtype"):
        raise UserError(f"{name} returns {type(tensor).__name__}; expected a tensor of logits (B, C)")
    if not tf.as_dtype(tensor.dtype).is_floating:
        raise UserError(f"{name} returns numbers of the type {tf.as_dtype(tensor.dtype).name}; expected logits (B, C)")
    rank = tf.TensorShape(tensor.shape).rank
    if rank == 1:
        return tensor[:, None]
    if rank not in (2, 3):
        raise UserError(f"{name} returns a tensor of the shape {tensor.shape}; expected logits (B, C) or (B, L, C)")
    if tensor.shape[-1] is None:
        raise UserError(f"{name} returns a varying number of logits; expected (B, C) with a fixed number of classes C")
    return tensor


def _only(name: str, outputs: Any) -> Any:
    advice = "Return the logits, or a dict with the key 'logits'"
    if isinstance(outputs, Mapping):
        if "logits" in outputs:
            return outputs["logits"]
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        raise UserError(f"{name} returns a dict of {', '.join(map(str, outputs)) or 'nothing'}. {advice}")
    if getattr(outputs, "logits", None) is not None:
        return outputs.logits
    if isinstance(outputs, list | tuple):
        if len(outputs) == 1:
            return _only(name, outputs[0])
        raise UserError(f"{name} returns a {type(outputs).__name__} of {len(outputs)} values. {advice}")
    return outputs


def activation_of(tensor: Any) -> str:
    """Return "softmax" or "sigmoid" if a tensor is the output of one; else "".

    A graph says so. Without a graph only the values of a softmax show.
    """
    if not tf.is_symbolic_tensor(tensor):
        return "softmax" if looks_like_softmax(np.asarray(tensor)) else ""
    operation = tensor.op
    while operation.type in _PASSING and operation.inputs:
        operation = operation.inputs[0].op
    return _ACTIVATIONS.get(operation.type, "")


def looks_like_softmax(values: np.ndarray) -> bool:
    """Return whether all rows of `values` (..., C) are probabilities that sum to 1."""
    values = np.asarray(values, np.float64)
    if values.ndim < 2 or values.shape[-1] < 2 or not values.size:
        return False
    return bool(np.all(values >= 0) and np.all(np.abs(values.sum(axis=-1) - 1) < _TOLERANCE))


def as_logits(probabilities: Any, activation: str) -> Any:
    """Return logits, in float32, of the outputs of a "softmax" or "sigmoid"; of "" the outputs themselves."""
    if not activation:
        return probabilities
    p = tf.cast(probabilities, tf.float32)
    if activation == "softmax":
        return tf.math.log(tf.maximum(p, _LEAST))
    p = tf.clip_by_value(p, _LEAST, 1 - 2.0**-24)
    return tf.math.log(p) - tf.math.log1p(-p)


@dataclass(frozen=True)
class Seen:
    """What the first batch shows of a model.

    Args:
        outputs: C, the number of logits.
        activation: "softmax" or "sigmoid" if the model returns probabilities; else "".
        finite: whether all outputs are numbers.
    """

    outputs: int | None = None
    activation: str = ""
    finite: bool = True


def look_at(model: Any, inputs: Any) -> Seen:
    """Run a foreign model on a few examples and look at what it returns. A model that is not built is built.

    Raises:
        UserError: the model cannot read these inputs, or its outputs cannot be logits.
    """
    inputs = keras.tree.map_structure(_tensor, inputs)
    try:
        if not getattr(model, "built", True):
            model(inputs, training=False)
        forward = tf.function(lambda x: logits_of(model, model(x, training=False)), autograph=False)
        traced = forward.get_concrete_function(inputs)
        values = np.asarray(forward(inputs))
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, tf.errors.OpError) as error:
        reason = _first_line(error)
        raise UserError(f"{type(model).__name__} cannot read these inputs: {reason}") from error
    activation = activation_of(tf.nest.flatten(traced.outputs)[0])
    if not activation and looks_like_softmax(values):
        activation = "softmax"
    return Seen(int(values.shape[-1]), activation, bool(np.isfinite(values).all()))


def _tensor(value: Any) -> tf.Tensor:
    """A tensor as Keras makes it of an array: numbers of 64 bits become 32."""
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor


def _first_line(error: Exception) -> str:
    """The line of an error of Keras or TensorFlow that says what happened."""
    lines = [line.strip(" \x1b[01m") for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Exception encountered", "Detected at", "File"))]
    return (lines[0] if lines else type(error).__name__)[:200]


def outputs_of(model: Any) -> int | None:
    """Return the number of a model's logits, if it is known without a batch."""
    known = getattr(model, "num_outputs", None)
    if isinstance(known, int):
        return known
    try:
        shapes = model.output_shape
    except (AttributeError, ValueError):
        return None
    if isinstance(shapes, Mapping):
        shapes = shapes.get("logits", next(iter(shapes.values()), None))
    if isinstance(shapes, list | tuple) and len(shapes) == 1:
        shapes = shapes[0] if isinstance(shapes[0], list | tuple) else (None, 1)
    if isinstance(shapes, list | tuple) and shapes and (shapes[-1] is None or isinstance(shapes[-1], int)):
        return shapes[-1]
    return None


def check_pair(student: Any, teacher: Any) -> None:
    """Raise UserError if two things are given that cannot be student and teacher."""
    for role, model in (("student", student), ("teacher", teacher)):
        if isinstance(model, str):
            raise UserError(f"the {role} is the text '{model}'. Load it first: tfdistill.load('{model}')")
    if not isinstance(student, keras.Model):
        raise UserError(f"the student is a {type(student).__name__}; expected a keras.Model")
    if teacher is not None and not callable(teacher):
        raise UserError(f"the teacher is a {type(teacher).__name__}; expected a keras.Model, or None")
