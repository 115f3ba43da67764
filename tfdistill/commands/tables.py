"""Tables and hints that several verbs print."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

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


def show_next(*words: object) -> None:
    """Print the command that usually follows, on one line and as a shell takes it."""
    show(f"next: {shlex.join(map(str, words))}")


def show_next_of_run(debug: bool, *words: object) -> None:
    """Print the command that usually follows a run; after a debug run that is the same command without `--debug`."""
    if not debug:
        return show_next(*words)
    again = [word for word in sys.argv[1:] if word != "--debug"]
    show("this was a debug run: its model learned next to nothing")
    show_next("tfdistill", *again, *([] if "--force" in again else ["--force"]))


def show_next_of_export(bundle: Path, pairs: bool) -> None:
    """Print the command that tries a bundle on a text."""
    show_next("tfdistill", "predict", bundle, "your text", *(["--text-b", "your second text"] if pairs else []))


def show_next_of_bundle(bundle: Path) -> None:
    """Print which file has the code for apps."""
    if (bundle / "README.md").is_file():
        show(f"next: {bundle / 'README.md'} has the code for Android, iOS and web")


def new_name(name: str) -> str:
    """Return a name for a directory that does not exist yet: RUN, or else RUN2, RUN3, …"""
    numbered = (f"{name}{number}" for number in count(2))
    return next(each for each in chain([name], numbered) if not os.path.lexists(each))
