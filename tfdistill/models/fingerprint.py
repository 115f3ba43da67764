"""Compute hashes of models, which tell two of them apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tfdistill.models.class_order import column_order


def fingerprint(model: Any, label_names: Sequence[str] | None = None) -> str:
    """Return the SHA-256 of a model's weights, their names and shapes, and its vocabulary.

    Args:
        model: the model.
        label_names: its class names in the order to have the outputs in, as for `identity`.
    """
    digest, order = hashlib.sha256(), None
    if label_names is not None and model.label_names is not None and set(label_names) == set(model.label_names):
        order = column_order(model.label_names, label_names, "the model", "label_names")
    outputs = [id(model.head.kernel), id(model.head.bias)] if order is not None else []
    for weight in model.weights:
        value = np.asarray(weight.numpy())
        if id(weight) in outputs:
            value = np.ascontiguousarray(value[..., order])
        digest.update(f"{weight.name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    if model.tokenizer is not None:
        digest.update(model.tokenizer.fingerprint.encode())
    return digest.hexdigest()


def identity(model: Any, label_names: Sequence[str] | None = None) -> str:
    """Return the SHA-256 of all that decides a model's outputs in training: its `fingerprint` and its config.

    Args:
        model: the model.
        label_names: the same classes in another order, to get the identity of the model with its outputs in that order.
    """
    config = json.dumps(asdict(model.config), sort_keys=True, default=str)
    return hashlib.sha256(f"{fingerprint(model, label_names)} {config}".encode()).hexdigest()
