"""Say what is odd about the texts of data files, and check that numbers can be scored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tfdistill.data.splits import Split
from tfdistill.data.table_files import Table
from tfdistill.errors import UserError, listing
from tfdistill.system.console import say

_NUMBER = re.compile(r"\s*[+-]?[0-9][0-9.,]*\s*")


def say_about_texts(tables: Mapping[str, Table]) -> None:
    """Say which columns are not read, and whether all texts are numbers."""
    first = next(iter(tables.values()))
    if first.ignored:
        say(f"{first.path}: these columns are not read: {listing(first.ignored)}")
    for table in tables.values():
        if all(_NUMBER.fullmatch(text) for text in table.texts):
            say(f"{table.path}: every text is a number; is another column the text?")


def repeated_texts(splits: Mapping[str, Split]) -> dict[str, int]:
    """Return how many examples of dev and test have a text, or a pair of texts, that train has too."""
    known = set(_rows(splits["train"]))
    return {name: sum(row in known for row in _rows(splits[name])) for name in ("dev", "test") if name in splits}


def _rows(split: Split) -> list[tuple[str, str]]:
    return list(zip(split.texts, split.texts_b or [""] * len(split), strict=True))


def check_spread(path: Path, name: str, split: Split) -> None:
    """Check that the numbers of a split for regression differ, so that there is something to learn and to score.

    Raises:
        UserError: all labels are the same number.
    """
    labels = set() if split.labels is None else set(split.labels.tolist())
    if len(labels) == 1 and not (name == "test" and labels == {-1.0}):
        raise UserError(
            f"{path}: the {name} split has {len(split)} rows with the same label, {labels.pop():g}; expected different numbers. "
            "Add rows with other labels."
        )
