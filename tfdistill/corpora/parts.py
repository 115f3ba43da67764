"""Name the parts of a corpus, and read their arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tfdistill.errors import UserError
from tfdistill.system.files import require_regular

Part = Literal["train", "held_out"]

PARTS: tuple[Part, ...] = ("train", "held_out")
SUMS = "sums.json"  # SHA-256 of the other files of a cached corpus


@dataclass(frozen=True)
class Stored:
    """Hold one part of a corpus.

    Args:
        ids: (T,) token ids, with [SEP] behind each document.
        sentences: (S + 1,) the first token of each sentence.
        documents: (D + 1,) the first sentence of each document.
        starts: (T,) bool, whether a word begins with each token; None unless the text is segmented.
    """

    ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    starts: np.ndarray | None = None


def load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Load an array of a corpus. Raises UserError if it is missing or damaged."""
    size = require_regular(path, f"{path.parent} is damaged: delete it and try again")
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            if dtype.kind not in "biuf" or file.tell() + math.prod(shape) * dtype.itemsize != size:
                raise ValueError(f"{path.name} does not hold the {dtype} {shape} of its header")
        return np.load(path, mmap_mode=mmap_mode)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path.parent} is damaged ({error}). Delete it and try again.") from error
