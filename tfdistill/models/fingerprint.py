"""Compute hashes of models, which tell two of them apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np


def fingerprint(model: Any) -> str:
    """Return the SHA-256 of a model's weights, their names and shapes, and its vocabulary."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.asarray(weight.numpy())
        digest.update(f"{weight.name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    if model.tokenizer is not None:
        digest.update(model.tokenizer.fingerprint.encode())
    return digest.hexdigest()


def identity(model: Any) -> str:
    """Return the SHA-256 of all that decides a model's outputs in training: its `fingerprint` and its config."""
    config = json.dumps(asdict(model.config), sort_keys=True, default=str)
    return hashlib.sha256(f"{fingerprint(model)} {config}".encode()).hexdigest()
