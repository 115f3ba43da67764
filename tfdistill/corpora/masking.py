"""Dynamic masking for masked language models (Devlin et al. 2019, section 3.1), drawn anew in every epoch.

Every draw is a function of (seed, epoch, example, position) alone, a hash of these four numbers: the same call gives the
same masks in any batch, in any order and in any process. NumPy's own generators promise no such thing between versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import SPECIAL
from tfdistill.text.words import continuations, has_chinese, word_starts

_CHOICE, _ACTION, _REPLACEMENT = 1, 2, 3  # streams of random numbers
_UNIT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mix(values: np.ndarray) -> np.ndarray:
    """One step of SplitMix64 (Steele, Lea and Flood 2014) on each of `values`, uint64; it wraps around on purpose."""
    values = values + _UNIT
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLIERS[0]
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLIERS[1]
    return values ^ (values >> np.uint64(31))


def uniforms(seed: int, epoch: int, stream: int, examples: np.ndarray, count: int = 1) -> np.ndarray:
    """Numbers above 0 and below 1, (B, count) float64, for the examples (B,); each depends on these numbers alone."""
    state = np.zeros(1, np.uint64)
    for number in (seed, epoch, stream):
        state = _mix(state ^ np.uint64(number))
    state = _mix(state ^ np.asarray(examples).astype(np.uint64))[:, None]
    state = _mix(state ^ np.arange(count, dtype=np.uint64)[None, :])
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


@dataclass(frozen=True)
class Masking:
    """How to mask.

    Args:
        share: part of the tokens of a row that is predicted, [CLS] and [SEP] counted as in BERT's own data.
        mask, random: of these, the part that becomes [MASK], and the part that becomes any piece; the rest stays.
        whole_words: mask all pieces of a word or none (Cui et al. 2021). A word is a piece and the ## pieces behind it.
        smoothing: exponent of token-frequency smoothing: a piece is chosen with a weight of count^-smoothing, so that rare
            pieces are predicted more often. DistilBERT has 0.7; 0 chooses evenly, as BERT does.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    whole_words: bool = False
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"the masked share is {self.share}; expected a number above 0 and below 1, such as 0.15")
        if min(self.mask, self.random) < 0 or self.mask + self.random > 1:
            raise UserError(
                f"of the masked tokens {self.mask} become [MASK] and {self.random} random pieces; expected two shares that "
                "are together at most 1"
            )
        if self.smoothing < 0:
            raise UserError(f"the smoothing exponent is {self.smoothing}; expected 0 or more, such as 0.7")

    def predictions(self, length: int) -> int:
        """K, the most tokens that are predicted in a row of `length`."""
        return max(1, round(self.share * length))


def require_words(tokenizer: Tokenizer, counts: np.ndarray) -> None:
    """Raises UserError where most of the pieces, of which the text has `counts` (V,), are Chinese characters: these have neither
    ## nor spaces that tell which of them make a word, so that single characters would be masked."""
    chinese = np.array([has_chinese(piece) for piece in tokenizer.vocabulary])
    if 2 * counts[chinese].sum() > counts.sum():
        raise UserError(
            "whole_words is set and the text is Chinese, which says nowhere what its words are; expected words with spaces between "
            "them, as a segmenter cuts them, and --set segmented=true (pretrain, distilbert, mobilebert), or whole_words=false"
        )


class Masker:
    """A `Masking` for one vocabulary.

    Args:
        masking: the settings.
        tokenizer: gives the vocabulary; it must have [MASK].
        counts: (V,) how often each piece stands in the corpus; needed for smoothing.

    Raises:
        UserError: the vocabulary has no [MASK]; smoothing without counts, or with as many as another vocabulary has.
    """

    def __init__(self, masking: Masking, tokenizer: Tokenizer, counts: np.ndarray | None = None):
        if tokenizer.mask_id is None:
            raise UserError("the vocabulary has no [MASK], which masked language models need; use a BERT vocabulary")
        self.masking, self.mask_id = masking, tokenizer.mask_id
        vocabulary = tokenizer.vocabulary
        self._special = np.array([token in SPECIAL for token in vocabulary])
        self._continuations = continuations(vocabulary)
        unused = np.array([re.fullmatch(r"\[[A-Za-z0-9 ]+\]", piece) is not None for piece in vocabulary])
        self._replacements = np.flatnonzero(~(self._special | unused)).astype(np.int32)
        self._log_weights = np.zeros(len(vocabulary))
        if masking.smoothing:
            if counts is None or len(counts) != len(vocabulary):
                have = "none" if counts is None else str(len(counts))
                raise UserError(f"smoothing needs a count for each of {len(vocabulary)} pieces; received {have}")
            self._log_weights = -masking.smoothing * np.log(np.maximum(np.asarray(counts, np.float64), 1))

    def __call__(
        self,
        token_ids: np.ndarray,
        padding_mask: np.ndarray,
        examples: np.ndarray,
        *,
        seed: int,
        epoch: int,
        words: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Mask a batch. Special tokens are neither chosen nor put in.

        Args:
            token_ids, padding_mask: (B, L) integers.
            examples: (B,) a number for each row that is its own in the corpus.
            words: (B, L), for `whole_words`: the word each token belongs to, -1 for none, where ## does not tell
                (Chinese, cut into words by another program).

        Returns:
            token_ids (B, L) int32 with the masks in, masked_positions (B, K) int32 in rising order, masked_labels (B, K)
            int32, the pieces that stood there, and masked_weights (B, K) float32, 1 for a prediction and 0 for filling.
        """
        token_ids = np.asarray(token_ids, np.int32)
        rows, length = token_ids.shape
        allowed = (np.asarray(padding_mask) > 0) & ~self._special[token_ids]
        if self.masking.whole_words:
            if words is None:
                words = np.cumsum(word_starts(token_ids, allowed, self._continuations), axis=1)
            words = np.where(allowed, words, -1)
        else:
            words = None
        real = (np.asarray(padding_mask) > 0).sum(axis=1)
        limit = self.masking.predictions(length)
        wanted = np.clip(np.rint(self.masking.share * real).astype(np.int64), 1, limit)
        noise = -np.log(-np.log(uniforms(seed, epoch, _CHOICE, examples, length)))
        if words is None:
            chosen = _largest(np.where(allowed, self._log_weights[token_ids] + noise, -np.inf), wanted)
        else:
            chosen = np.stack(
                [
                    _whole_words(words[row], self._log_weights[token_ids[row]], noise[row], int(wanted[row]), limit)
                    for row in range(rows)
                ]
            )
        order = np.argsort(~chosen, axis=1, kind="stable")[
            :, :limit
        ]  # chosen positions first, each kind in rising order
        weights = np.take_along_axis(chosen, order, axis=1)
        positions = np.where(weights, order, 0).astype(np.int32)
        labels = np.where(weights, np.take_along_axis(token_ids, positions, axis=1), 0).astype(np.int32)

        action = uniforms(seed, epoch, _ACTION, examples, length)
        drawn = (uniforms(seed, epoch, _REPLACEMENT, examples, length) * len(self._replacements)).astype(np.int64)
        share = self.masking
        masked = np.where(chosen & (action < share.mask), self.mask_id, token_ids)
        replaced = chosen & (action >= share.mask) & (action < share.mask + share.random)
        masked = np.where(replaced, self._replacements[drawn], masked)
        return {
            "token_ids": masked.astype(np.int32),
            "masked_positions": positions,
            "masked_labels": labels,
            "masked_weights": weights.astype(np.float32),
        }


def _largest(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(B, L) bool: the `wanted` (B,) largest keys of each row. With Gumbel noise on logarithmic weights this is weighted
    drawing without replacement (Efraimidis and Spirakis 2006)."""
    rank = np.empty(keys.shape, np.int64)
    order = np.argsort(-keys, axis=1, kind="stable")
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(keys.shape[1]), keys.shape), axis=1)
    return (rank < wanted[:, None]) & np.isfinite(keys)


def _whole_words(words: np.ndarray, log_weights: np.ndarray, noise: np.ndarray, wanted: int, limit: int) -> np.ndarray:
    """(L,) bool: words in random order, those left out that would exceed `wanted` pieces. The first may, up to `limit`."""
    names, first, sizes = np.unique(words, return_index=True, return_counts=True)
    real = names >= 0
    names, first, sizes = names[real], first[real], sizes[real]
    weights = np.array([np.logaddexp.reduce(log_weights[words == name]) for name in names])
    taken: list[int] = []
    total = 0
    for index in np.argsort(-(weights + noise[first]), kind="stable"):
        size = int(sizes[index])
        if total + size <= wanted or (not taken and size <= limit):
            taken.append(int(names[index]))
            total += size
        if total >= wanted:
            break
    return np.isin(words, taken) & (words >= 0)
