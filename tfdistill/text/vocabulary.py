"""Check the vocabulary of a BERT tokenizer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tfdistill.errors import UserError

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNK, CLS, SEP, MASK)

_BRACKETS = re.compile(r"\[.*\]")
_CASED = 0.1  # share of the tokens with letters that have capitals, above which a vocabulary is cased; BERT's has 0.4


def ids_of(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the id of each token. Raises UserError if this is not a BERT vocabulary."""
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary):
        if token in ids:
            raise UserError(
                f"the vocabulary has the token {token!r} twice, on lines {ids[token] + 1} and {index + 1}. Remove one."
            )
        if "\n" in token or "\r" in token:
            raise UserError(f"the token {token!r} on line {index + 1} of the vocabulary has a line break. Remove it.")
        ids[token] = index
    missing = [token for token in (PAD, UNK, CLS, SEP) if token not in ids]
    if missing:
        raise UserError(f"the vocabulary of {len(ids)} tokens lacks {', '.join(missing)}. Use a BERT vocabulary.")
    return ids


def casing_line(vocabulary: Sequence[str], lower_case: bool) -> str:
    """Return a line about lower-casing that does not fit a vocabulary, or "".

    The share of tokens with capital letters decides, since an uncased vocabulary may have a few names
    in the place of its [unused] tokens.
    """
    capitals = cased = 0
    for token in vocabulary:
        if _BRACKETS.fullmatch(token):
            continue
        cased += any(letter.lower() != letter.upper() for letter in token)
        capitals += any(letter.lower() != letter and unicodedata.category(letter) == "Lu" for letter in token)
    share = f"{capitals} of {cased} tokens with letters have capitals"
    if lower_case and capitals > _CASED * cased:
        return f"The vocabulary looks cased ({share}), but texts are lower-cased: tokens with capitals are never found."
    if not lower_case and cased and capitals <= _CASED * cased:
        return f"The vocabulary looks uncased ({share}), but texts keep their capitals: such words become {UNK}."
    return ""
