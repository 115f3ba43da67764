"""Mask tokens for masked language models (Devlin et al. 2019, section 3.1), differently every epoch.

Every draw is a hash of (seed, epoch, example, position): the masks of an example do not depend on its
batch, the order or the process. NumPy's generators do not guarantee this between versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import MASK, SPECIAL
from tfdistill.text.words import continuations, has_chinese, word_starts

_CHOICE, _ACTION, _REPLACEMENT = 1, 2, 3  # streams of random numbers
_UNIT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mix(values: np.ndarray) -> np.ndarray:
    """Do one step of SplitMix64 (Steele, Lea and Flood 2014) on uint64 values, modulo 2**64."""
    values = values + _UNIT
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLIERS[0]
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLIERS[1]
    return values ^ (values >> np.uint64(31))


def uniforms(seed: int, epoch: int, stream: int, examples: np.ndarray, count: int = 1) -> np.ndarray:
    """Return random numbers above 0 and below 1, (B, count) float64, for the examples (B,)."""
    state = np.zeros(1, np.uint64)
    for number in (seed, epoch, stream):
        state = _mix(state ^ np.uint64(number))
    state = _mix(state ^ np.asarray(examples).astype(np.uint64))[:, None]
    state = _mix(state ^ np.arange(count, dtype=np.uint64)[None, :])
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


@dataclass(frozen=True)
class Masking:
    """Set how to mask.

    Args:
        share: share of the tokens of a sequence that are predicted, counting [CLS] and [SEP] as BERT does.
        mask: share of the predicted tokens that become [MASK].
        random: share that become a random token; the rest stays.
        whole_words: mask all tokens of a word or none (Cui et al. 2021). A word is a token and the ##
            tokens behind it.
        smoothing: exponent of token-frequency smoothing. The weight of a token is count^-smoothing, so
            that rare tokens are predicted more often. DistilBERT has 0.7; BERT has 0, equal weights.

    Raises:
        UserError: a number is out of range.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    whole_words: bool = False
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"the masked share is {self.share}. Use a number above 0 and below 1, such as 0.15.")
        if min(self.mask, self.random) < 0 or self.mask + self.random > 1:
            raise UserError(
                f"the shares of [MASK] and of random tokens are {self.mask} and {self.random}. "
                "Use two shares with a sum of at most 1."
            )
        if self.smoothing < 0:
            raise UserError(f"the smoothing exponent is {self.smoothing}. Use 0 or more, such as 0.7.")

    def predictions(self, length: int) -> int:
        """Return K, the largest number of predicted tokens in a sequence of `length`."""
        return max(1, round(self.share * length))


def require_words(tokenizer: Tokenizer, counts: np.ndarray) -> None:
    """Check that whole words can be masked in a text.

    Chinese characters have neither ## nor spaces that show the words, so that single characters would
    be masked.

    Args:
        tokenizer: the tokenizer.
        counts: (V,) the count of each token in the text.

    Raises:
        UserError: most tokens are Chinese characters.
    """
    chinese = np.array([has_chinese(token) for token in tokenizer.vocabulary])
    if 2 * counts[chinese].sum() > counts.sum():
        raise UserError(
            "`whole_words` is set, but the text is Chinese and does not show its words. Segment it with spaces and use "
            "`--set segmented=true` (pretrain, distilbert, mobilebert), or use `whole_words=false`."
        )


class Masker:
    """Mask sequences of one vocabulary.

    Args:
        masking: the settings.
        vocabulary: V tokens with [MASK].
        counts: (V,) the count of each token in the corpus; needed for smoothing.

    Raises:
        UserError: the vocabulary has no [MASK], or smoothing lacks the counts of this vocabulary.
    """

    def __init__(self, masking: Masking, vocabulary: Sequence[str], counts: np.ndarray | None = None):
        if MASK not in vocabulary:
            raise UserError("the vocabulary has no [MASK], which masked language models need. Use a BERT vocabulary.")
        self.masking, self.mask_id = masking, vocabulary.index(MASK)
        self._special = np.array([token in SPECIAL for token in vocabulary])
        self._continuations = continuations(vocabulary)
        unused = np.array([re.fullmatch(r"\[[A-Za-z0-9 ]+\]", token) is not None for token in vocabulary])
        self._replacements = np.flatnonzero(~(self._special | unused)).astype(np.int32)
        self._log_weights = np.zeros(len(vocabulary))
        if masking.smoothing:
            if counts is None or len(counts) != len(vocabulary):
                have = "none" if counts is None else str(len(counts))
                raise UserError(f"smoothing needs a count for each of {len(vocabulary)} tokens; received {have}.")
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
        """Mask a batch. Special tokens are neither predicted nor drawn as random tokens.

        Args:
            token_ids: (B, L) integers.
            padding_mask: (B, L) integers, 1 for real tokens.
            examples: (B,) the number of each sequence in the corpus.
            seed: with `epoch`, decides which tokens are masked.
            epoch: number of the pass, from 0.
            words: (B, L), for `whole_words`: the word of each token, if ## does not show it (Chinese text
                that another program segmented).

        Returns:
            token_ids (B, L) int32 with masks, masked_positions (B, K) int32 in rising order, masked_labels
            (B, K) int32, the original tokens there, and masked_weights (B, K) float32, 1 for predictions
            and 0 for padding.
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
        # Chosen positions come first; both kinds are in rising order.
        order = np.argsort(~chosen, axis=1, kind="stable")[:, :limit]
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
    """Return the `wanted` (B,) largest keys of each sequence, (B, L) bool.

    With Gumbel noise on logarithmic weights this is weighted sampling without replacement (Efraimidis
    and Spirakis 2006).
    """
    rank = np.empty(keys.shape, np.int64)
    order = np.argsort(-keys, axis=1, kind="stable")
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(keys.shape[1]), keys.shape), axis=1)
    return (rank < wanted[:, None]) & np.isfinite(keys)


def _whole_words(words: np.ndarray, log_weights: np.ndarray, noise: np.ndarray, wanted: int, limit: int) -> np.ndarray:
    """Choose words in random order, (L,) bool, while their tokens fit into `wanted`; the first may reach `limit`."""
    names, first, sizes = np.unique(words, return_index=True, return_counts=True)
    real = names >= 0
    names, first, sizes = names[real], first[real], sizes[real]
    weights = np.array([np.logaddexp.reduce(log_weights[words == name]) for name in names])
    chosen: list[int] = []
    total = 0
    for index in np.argsort(-(weights + noise[first]), kind="stable"):
        size = int(sizes[index])
        if total + size <= wanted or (not chosen and size <= limit):
            chosen.append(int(names[index]))
            total += size
        if total >= wanted:
            break
    return np.isin(words, chosen) & (words >= 0)
