"""What a term reads, and what a term is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras

from tfdistill.distill.features import Features
from tfdistill.distill.losses import Value

Projections = dict[str, keras.layers.Layer]


@dataclass(frozen=True)
class Step:
    """What a term may read: one student and one teacher forward, the labels, the projections by their key, and the models
    themselves for terms on parameters."""

    student: Features
    teacher: Features | None = None
    labels: Any = None
    projections: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    models: tuple[Any, Any] = (None, None)


class Term(Protocol):
    """The call that the Distiller makes. `Value` is (B,), or (sum, count) for means over tokens.

    Two more attributes are optional. `make_projections(student, teacher)` gives layers that are trained with the student.
    `on_parameters = True` marks a term on weights: its value is a scalar, counted once in a step whatever the sample weights.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def student_features(self) -> frozenset[str]: ...

    @property
    def teacher_features(self) -> frozenset[str]: ...

    def __call__(self, step: Step) -> Value: ...
