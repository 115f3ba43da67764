"""Report texts that are longer than a model reads, and propose a length."""

from __future__ import annotations

import numpy as np

from tfdistill.text.encoded import Encoded

FEW = 0.05  # the share of cut examples that a proposed length stays under
_MULTIPLE = 8  # proposed lengths


def shortest_length(uncut: np.ndarray, longest: int | None = None) -> int:
    """Return the shortest length, a multiple of 8, that cuts fewer than 5 % of the examples.

    Args:
        uncut: (n,) tokens of each example before it is cut.
        longest: the number of tokens that the model can read, which is returned if more would be needed.
    """
    allowed = int(np.ceil(FEW * len(uncut))) - 1  # examples that may be longer
    needed = int(np.sort(uncut)[len(uncut) - 1 - max(allowed, 0)]) if len(uncut) else 1
    length = -(-needed // _MULTIPLE) * _MULTIPLE
    return length if longest is None else min(length, longest)


def cut_line(encoded: Encoded, max_length: int, *, option: str = "", longest: int | None = None) -> str | None:
    """Return a line about examples that were cut; None if none was.

    Args:
        encoded: n tokenized examples.
        max_length: the number of tokens that they were cut to.
        option: what sets this number, such as "--length"; it is proposed with a length that cuts fewer than 5 %.
        longest: the number of tokens that the model can read.
    """
    cut = int(encoded.cut.sum())
    if not cut:
        return None
    assert encoded.uncut is not None
    share = f"{100 * cut / len(encoded):.1f} % of the rows ({cut:,} of {len(encoded):,})"
    return (
        f"{share} are longer than {max_length} tokens and are cut{advice(encoded.uncut, max_length, option, longest)}"
    )


def advice(uncut: np.ndarray, max_length: int, option: str, longest: int | None = None) -> str:
    """Return the end of a line about cut examples: "; --length 128 cuts fewer than 5 %", or ""."""
    proposed = shortest_length(uncut, longest)
    if not option or proposed <= max_length:
        return ""
    left = float(np.mean(uncut > proposed))
    sign = "" if option.endswith("=") else " "
    effect = "cuts fewer than 5 %" if left < FEW else f"the most that the model reads, cuts {100 * left:.0f} %"
    return f"; {option}{sign}{proposed}{' ' if left < FEW else ', '}{effect}"
