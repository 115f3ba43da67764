"""Find the tokens of two tokenizers that represent the same words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfdistill.text.encoded import TEXT_SHIFT, Encoded
from tfdistill.text.tokenizer import Tokenizer

NO_WORD = -1


def align_words(
    first: Encoded, first_tokenizer: Tokenizer, second: Encoded, second_tokenizer: Tokenizer
) -> tuple[Encoded, Encoded]:
    """Number the words that two encodings of the same texts share.

    Returns:
        Both encodings with `words`, equal for the same word of an example. The first token, [CLS] or <s>, is 0 and shared words
        count from 1. [SEP] is −1, and so are words that only one encoding has, because the other was
        cut shorter or has no second text.

    Raises:
        ValueError: the encodings have different numbers of examples.
    """
    if len(first) != len(second):
        raise ValueError(f"got {len(first)} and {len(second)} examples; expected two encodings of the same texts")
    keys = [_keys(first, first_tokenizer), _keys(second, second_tokenizer)]
    # Sorted by example, [CLS] first, then the words of the first and of the second text. The last value matches no key.
    common = np.append(np.intersect1d(keys[0][keys[0] >= 0], keys[1][keys[1] >= 0]), np.iinfo(np.int64).max)
    examples = common >> 32
    numbers = np.arange(len(common)) - np.searchsorted(examples, examples)

    def words(own: np.ndarray) -> np.ndarray:
        place = np.searchsorted(common, own)
        return np.where(common[place] == own, numbers[place], NO_WORD).astype(np.int32)

    return replace(first, words=words(keys[0])), replace(second, words=words(keys[1]))


def _keys(encoded: Encoded, tokenizer: Tokenizer) -> np.ndarray:
    """Return a number (total,) int64 for the example, text and word of each token; −1 outside words."""
    example = np.repeat(np.arange(len(encoded), dtype=np.int64), encoded.lengths)
    if encoded.places is None:
        word = tokenizer.word_ids(encoded).astype(np.int64)
        place = np.where(word < 0, -1, (encoded.segment_ids.astype(np.int64) << TEXT_SHIFT) | (word + 1))
    else:
        place = encoded.places.astype(np.int64)
    key = (example << 32) | np.maximum(place, 0)
    starts = encoded.offsets[:-1][encoded.lengths > 0]
    is_cls = np.zeros(len(key), bool)
    is_cls[starts] = encoded.token_ids[starts] == tokenizer.cls_id
    return np.where((place >= 0) | is_cls, key, -1)
