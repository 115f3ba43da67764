"""Stored parts of a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tfdistill.errors import UserError

Part = Literal["train", "held_out"]


PARTS: tuple[Part, ...] = ("train", "held_out")
SUMS = "sums.json"  # SHA-256 of the other files of a cached corpus


@dataclass(frozen=True)
class Stored:
    """One part of a corpus: ids (T,), sentences (S + 1,) starts in ids, documents (D + 1,) starts in sentences; starts (T,) bool,
    whether a word begins there, of segmented text."""

    ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    starts: np.ndarray | None = None


def load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """An array of a corpus. Raises UserError where it is missing or damaged."""
    try:
        return np.load(path, mmap_mode=mmap_mode)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path.parent} is damaged ({error}); delete it and try again") from error
