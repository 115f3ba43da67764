"""Check types and ranges of the fields of model configs, before anything is built from them."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from numbers import Integral
from typing import Any

import numpy as np

from tfdistill.errors import UserError

# Sizes that count something are at least 1; these may be 0.
_MAY_BE_0 = ("type_vocab_size", "dense_size", "convolution_layers", "dense_layers", "pad_token_id", "padding_idx")
# Sizes that no shape limits: of dense layers that may start with random weights, and of a head before pruning.
_LIMITS = {"pooler_size": 100_000, "dense_size": 100_000, "convolution_size": 100_000, "attention_head_size": 10_000}
_LARGEST = 2**31 - 1


def shown(value: Any) -> str:
    """Return a value from a file as it is written in JSON, cut to what fits in a message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_fields(config: Any) -> None:
    """Check every field of a config against its annotation and its range.

    Args:
        config: a dataclass whose annotations are texts, such as "int" or "float | None".

    Raises:
        UserError: a field has another type, or is out of its range.
    """
    for field in fields(config):
        value, kind = getattr(config, field.name), str(field.type)
        if value is None and kind.endswith("None"):
            continue
        expected = _expected(field.name, kind.removesuffix(" | None"), value)
        if expected:
            raise UserError(f"`{field.name}` is {shown(value)}. Use {expected}.")


def _expected(name: str, kind: str, value: Any) -> str:
    """Return what a field should be; "" if `value` is that."""
    if kind == "int":
        least, most = int(name not in _MAY_BE_0), _LIMITS.get(name, _LARGEST)
        return "" if _is_whole(value) and least <= value <= most else f"an integer in {least}..{most}"
    if kind.startswith("tuple"):
        whole = isinstance(value, list | tuple) and all(_is_whole(each) and 1 <= each <= _LARGEST for each in value)
        return "" if whole else "a list of integers of at least 1"
    if kind == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if kind == "str":
        return "" if isinstance(value, str) else "a text"
    real = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    number = float(value) if real and -(2**31) < value < 2**31 else math.nan
    if name == "layer_norm_eps":
        return "" if 0 < number <= 0.1 else "a number above 0 and at most 0.1"
    if name == "initializer_range":
        return "" if 0 <= number <= 10 else "a number in 0..10"
    return "" if 0 <= number < 1 else "a number of at least 0 and below 1"


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
