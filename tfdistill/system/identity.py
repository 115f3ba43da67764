"""Decide whether a directory holds the same work that is requested now, and describe the differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, with_advice


def as_json(data: Any) -> Any:
    """Return `data` the way it is read from a JSON file: tuples as lists, all keys as strings."""
    return json.loads(json.dumps(data))


def digest(data: Any) -> str:
    """Return the SHA-256 of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, str]:
    """Compare plain data key by key.

    Args:
        now: what is requested, nested dicts and lists of plain values.
        then: what is stored.

    Returns:
        One text such as "settings.epochs is 4, stored is 3" for each value that differs, by its dotted key.
    """
    return dict(_differences(as_json(now), as_json(then), ""))


def _differences(now: Any, then: Any, name: str) -> Iterable[tuple[str, str]]:
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        now, then = (dict(enumerate(values)) for values in (now, then))
    if isinstance(now, dict) and isinstance(then, dict):
        for key in [*now, *(key for key in then if key not in now)]:
            yield from _differences(now.get(key), then.get(key), f"{name}.{key}" if name else str(key))
    elif now != then:
        yield name, f"{name} is {json.dumps(now)[:60]}, stored is {json.dumps(then)[:60]}"


def summary(texts: Iterable[str], limit: int = 3) -> str:
    """Join the texts of `differences` with semicolons, at most `limit` of them."""
    texts = list(texts)
    return "; ".join(texts[:limit]) + (f"; and {len(texts) - limit} more" if len(texts) > limit else "")


def require_same(path: str | Path, now: Mapping[str, Any], then: Mapping[str, Any], advice: str) -> None:
    """Check that the work stored at `path` is the work requested now.

    Args:
        path: the directory, for the message.
        now: what is requested, plain data.
        then: what the directory stores about itself.
        advice: what to do otherwise, the last sentence of the message.

    Raises:
        UserError: they differ; the message lists the first differences.
    """
    other = differences(now, then)
    if other:
        raise UserError(with_advice(f"{path} holds other work: {summary(other.values())}", advice))
