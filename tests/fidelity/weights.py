"""Random checkpoints that need not be stored: each tensor follows from its name."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np


def tensor(name: str, shape: Sequence[int]) -> np.ndarray:
    """Random float32 weights that keep activations near 1. NumPy promises RandomState's stream never to change."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    values = rng.standard_normal(tuple(shape))
    if "LayerNorm.weight" in name or "layer_norm.weight" in name:
        return (1 + 0.2 * values).astype("float32")
    if len(shape) == 1:
        return (0.2 * values).astype("float32")
    return (values * (0.7 if "embeddings." in name else 0.5 * shape[1] ** -0.5)).astype("float32")


def tensors(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def batch(vocab_size: int, seed: int = 0, types: int = 2) -> dict[str, np.ndarray]:
    """Three rows of 9, 5 and 1 real tokens; the first two are pairs, if there are two token types."""
    rng = np.random.RandomState(seed)
    lengths = np.array([9, 5, 1])
    mask = (np.arange(9) < lengths[:, None]).astype("int32")
    ids = rng.randint(1, vocab_size, (3, 9)).astype("int32") * mask
    segments = ((np.arange(9) >= np.array([4, 2, 9])[:, None]) * mask).astype("int32")
    segments *= types > 1
    return {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}


def vocabulary(size: int) -> str:
    """A vocab.txt of `size` pieces."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return "\n".join([*special, *(f"w{n}" for n in range(size - len(special)))]) + "\n"
