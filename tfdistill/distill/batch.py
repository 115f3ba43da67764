"""Define the format of a Distiller's batch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tfdistill.system.lazy import keras, tf


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """Return (inputs, labels, sample_weight) of a batch; labels and weights may be None.

    Args:
        data: `(x[, y[, sample_weight]])` as everywhere in Keras, or a dict with the keys "student" and, as needed,
            "teacher", "teacher_features", "labels", "sample_weight".
    """
    if isinstance(data, Mapping) and "student" in data:
        inputs = {key: data[key] for key in ("student", "teacher", "teacher_features") if key in data}
        return inputs, data.get("labels"), data.get("sample_weight")
    return keras.utils.unpack_x_y_sample_weight(data)


def part(inputs: Any, name: str) -> Any:
    """Return the inputs of "student" or "teacher". A batch without inputs of the teacher has the same for both."""
    if isinstance(inputs, Mapping) and "student" in inputs:
        return inputs.get(name, inputs["student"])
    return inputs


def cached_features(inputs: Any) -> dict[str, Any]:
    """Return the teacher features that the batch carries, by their name.

    A batch may carry some layers only, as {"2": ..., "4": ...}; the tuple of layers then has None for the others.
    """
    features = inputs.get("teacher_features", {}) if isinstance(inputs, Mapping) else {}
    return {name: _layers(value) if isinstance(value, Mapping) else value for name, value in features.items()}


def _layers(cached: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cached.get(str(number)) for number in range(1, max(map(int, cached)) + 1))


def split_batch(data: Any, parts: int) -> list[Any]:
    """Return a batch as `parts` batches of equal size, to within one example."""
    if parts == 1:
        return [data]
    count = tf.shape(tf.nest.flatten(data)[0])[0]
    edges = [count * number // parts for number in range(parts + 1)]

    def rows(value: Any, start: Any, stop: Any) -> Any:
        return None if value is None else value[start:stop]

    return [
        tf.nest.map_structure(lambda value, a=start, b=stop: rows(value, a, b), data) for start, stop in pairwise(edges)
    ]
