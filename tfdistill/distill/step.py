"""Define what a term is, and what it may read in one training step."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias

from tfdistill.distill.features import Features
from tfdistill.distill.losses import Value
from tfdistill.system.lazy import keras

Projections: TypeAlias = "dict[str, keras.layers.Layer]"


@dataclass(frozen=True)
class Step:
    """Everything that a term may read in one training step.

    Args:
        student: outputs of the one forward pass of the student.
        teacher: the same for the teacher; None if no term reads it.
        labels: labels of the batch; None if it has none.
        projections: trainable projections by their key, from `Term.make_projections`.
        models: student and teacher themselves, for terms on parameters.
    """

    student: Features
    teacher: Features | None = None
    labels: Any = None
    projections: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    models: tuple[Any, Any] = (None, None)


class Term:
    """One summand of the training loss. Subclass it, and define `__call__`.

    A dataclass is the natural subclass: its fields are recorded in `run.json` and identify the run.

    Attributes:
        name: key of the term in logs; unique in a Distiller.
        weight: factor of the term in the total loss.
        student_features: features that the term reads of the student.
        teacher_features: features that the term reads of the teacher.
        on_parameters: the term reads weights, not outputs. Its value is a scalar that counts once in a step,
            independent of the sample weights.
        by_token: the term compares student and teacher token by token. If both read different tokens, batches
            then come with the words that both share.
        first_only: the term reads the first position ([CLS]) alone of its per-token features.

    Example:
        @dataclass(frozen=True)
        class Confidence(Term):
            name: str = "confidence"
            student_features = frozenset({"logits"})

            def __call__(self, step):
                return -tf.reduce_max(tf.nn.log_softmax(step.student.logits), axis=-1)
    """

    name: str = ""
    weight: float = 1.0
    student_features: frozenset[str] = frozenset()
    teacher_features: frozenset[str] = frozenset()
    on_parameters: bool = False
    by_token: bool = False
    first_only: bool = False

    def teacher_layers(self, count: int) -> tuple[int, ...]:
        """Return the layers 1..`count` of the teacher that the term reads; all of them by default."""
        return tuple(range(1, count + 1))

    def make_projections(self, student: Any, teacher: Any) -> Projections:
        """Return new layers by their key, to be trained with the student; none by default."""
        return {}

    def __call__(self, step: Step) -> Value:
        """Return the term's value: (B,), a pair (sum, count), or a scalar if `on_parameters`."""
        raise NotImplementedError

    def as_data(self) -> dict[str, Any]:
        """Return type, name, weight and every field as plain values, for `run.json`."""
        return {"term": qualified_name(type(self)), "name": self.name, "weight": self.weight, **_fields(self)}


def qualified_name(function: Any) -> str:
    """Return module and qualified name of a class or function."""
    return f"{function.__module__}.{function.__qualname__}"


def plain(value: Any) -> Any:
    """Return `value` as JSON values that are equal in another process if the values are equal.

    Functions and classes become their qualified names; Keras objects and dataclasses their type and their options.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, functools.partial):
        return {"type": plain(value.func), "args": plain(value.args), "keywords": plain(value.keywords)}
    if hasattr(value, "__qualname__"):
        return qualified_name(value)
    if isinstance(value, keras.losses.Loss):
        # Private attributes too: `get_config` of some Keras losses leaves their options out (Huber's delta).
        return {"type": qualified_name(type(value)), **plain(vars(value)), **plain(value.get_config())}
    if is_dataclass(value) or callable(value):
        return {"type": qualified_name(type(value)), **_fields(value)}
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # without the place in memory


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, else the public attributes of an object."""
    names = [each.name for each in fields(value) if each.init] if is_dataclass(value) else vars(value)
    return {name: plain(getattr(value, name)) for name in names if not name.startswith("_")}
