"""Tables that several verbs print."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table


def show_scores(title: str, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Print one row for each split and one column for each metric."""
    table = Table(title=title)
    table.add_column("split")
    metrics = list(dict.fromkeys(name for split in scores.values() for name in split))
    for name in metrics:
        table.add_column(name.replace("_", " "), justify="right")
    for split, values in scores.items():
        table.add_row(split, *(f"{values[name]:.4f}" if name in values else "" for name in metrics))
    Console().print(table)


def show_next(command: str) -> None:
    """Print the command that usually follows."""
    Console().print(f"next: {command}", highlight=False, soft_wrap=True)
