"""Which tokens of two tokenizers stand for the same words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer

NO_WORD = -1


def align_words(
    first: Encoded, first_tokenizer: Tokenizer, second: Encoded, second_tokenizer: Tokenizer
) -> tuple[Encoded, Encoded]:
    """Both corpora with `words`: for each token the number of its word in the row, the same in both.

    [CLS] is number 0, the words that both have are numbered from 1. [SEP] and words that only one of them has (the other
    was cut at its length, or reads further columns) are −1.

    Raises ValueError for corpora of different size.
    """
    if len(first) != len(second):
        raise ValueError(f"got {len(first)} and {len(second)} rows; expected the same texts, tokenized twice")
    keys = [_keys(first, first_tokenizer), _keys(second, second_tokenizer)]
    # Sorted: row by row, [CLS] first, then the words of the first and of the second text. Behind them what no key reaches.
    common = np.append(np.intersect1d(keys[0][keys[0] >= 0], keys[1][keys[1] >= 0]), np.iinfo(np.int64).max)
    rows = common >> 32
    numbers = np.arange(len(common)) - np.searchsorted(rows, rows)

    def words(own: np.ndarray) -> np.ndarray:
        place = np.searchsorted(common, own)
        return np.where(common[place] == own, numbers[place], NO_WORD).astype(np.int32)

    return replace(first, words=words(keys[0])), replace(second, words=words(keys[1]))


def _keys(encoded: Encoded, tokenizer: Tokenizer) -> np.ndarray:
    """A number (total,) int64 for the row, text and word of each token; −1 for tokens of no word. [CLS] counts as a word."""
    row = np.repeat(np.arange(len(encoded), dtype=np.int64), encoded.lengths)
    word = tokenizer.word_ids(encoded).astype(np.int64)
    key = (row << 32) | (encoded.segment_ids.astype(np.int64) << 24) | (word + 1)
    starts = encoded.offsets[:-1][encoded.lengths > 0]
    is_cls = np.zeros(len(key), bool)
    is_cls[starts] = encoded.token_ids[starts] == tokenizer.cls_id
    return np.where((word >= 0) | is_cls, key, -1)
