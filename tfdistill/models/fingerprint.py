"""Fingerprints of models, which tell two of them apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np


def fingerprint(model: Any) -> str:
    """SHA-256 over the weights of a model, their names and shapes, and its vocabulary."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.asarray(weight.numpy())
        digest.update(f"{weight.name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    digest.update(getattr(getattr(model, "tokenizer", None), "fingerprint", "").encode())
    return digest.hexdigest()


def identity(model: Any) -> str:
    """SHA-256 over all that decides what a model says: its `fingerprint`, and dropout rates and whatever else is in its config."""
    said = json.dumps(asdict(model.config), sort_keys=True, default=str)
    return hashlib.sha256(f"{fingerprint(model)} {said}".encode()).hexdigest()
