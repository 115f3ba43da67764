"""Tables that several verbs print."""

from __future__ import annotations

from collections.abc import Mapping

from tfdistill.metrics.notation import shown
from tfdistill.system.console import make_table, show, show_table


def show_scores(title: str, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Print one row for each split and one column for each metric."""
    metrics = list(dict.fromkeys(name for split in scores.values() for name in split))
    rows = [
        [split, *(shown(name, values[name]) if name in values else "" for name in metrics)]
        for split, values in scores.items()
    ]
    show_table(make_table(["split", *(name.replace("_", " ") for name in metrics)], rows, title=title))


def show_next(command: str) -> None:
    """Print the command that usually follows."""
    show(f"next: {command}")
