"""Read the class names of a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LABELS = "labels.txt"


def label_names_in(directory: Path, raw: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the class names in labels.txt, or else in a parsed config.json; None if there are none."""
    path = directory / LABELS
    if path.is_file():
        return tuple(path.read_text("utf-8").splitlines())
    named = raw.get("id2label") or {}
    ordered = tuple(str(named[key]) for key in sorted(named, key=int))
    return ordered if ordered and not ordered[0].startswith("LABEL_") else None
