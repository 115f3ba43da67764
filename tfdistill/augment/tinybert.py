"""Augment texts as TinyBERT does (Jiao et al. 2020, algorithm 1).

Each word is exchanged with probability p = 0.4 for one of K = 15 candidates. For a word that is a
single token these are the most probable words of a masked language model at its place in the query
[CLS] sentence with the word masked [SEP] original sentence [SEP], as in the authors' code; for
another word, its nearest neighbours in GloVe. Stop words and words with other characters than letters
stay.

As in the authors' code, the candidates come from the original sentence and serve all its copies; in
the paper's algorithm they depend on the words exchanged so far. The word itself may be a candidate.
This module differs from the code where that departs from the paper or is wrong: K words remain after
parts of words were left out; the second text of a pair is made from the original pair; spaces, case
and punctuation stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from tfdistill.augment.copies import Augmented, Stream, augmented_split, make_copies
from tfdistill.augment.glove import GloVe
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.words import STOP_WORDS, replaced, token_ids_of, word_spans

_PREDICTIONS = 4  # times K, since some predictions are parts of words
_BATCH_TOKENS = 4096  # Tokens of a batch of queries, including padding.


class MaskedLM(Protocol):
    """Predict masked tokens; `tfdistill.training.word_candidates.fill_mask` makes one from a model."""

    def __call__(self, inputs: dict[str, np.ndarray], k: int) -> np.ndarray:
        """Return the `k` most probable ids (B, k) at one masked position of each example.

        Args:
            inputs: token_ids, padding_mask, segment_ids (B, L) and masked_positions (B, 1), int32.
            k: predictions of each example, the most probable first.
        """
        ...


@dataclass(frozen=True, eq=False)
class Candidates:
    """Hold a text, the spans of its words, and the replacements `choices[w]` of word w, never empty."""

    text: str
    spans: list[tuple[int, int]]
    choices: dict[int, list[str]]

    def copy(self, stream: Stream, p: float) -> str:
        """Exchange each word that has candidates with probability `p`."""
        draws, numbers = stream.random(2 * len(self.choices)).reshape(2, -1)
        changes = {
            word: choices[int(number * len(choices))]
            for (word, choices), draw, number in zip(self.choices.items(), draws, numbers, strict=True)
            if draw < p
        }
        return replaced(self.text, self.spans, changes)


@dataclass(frozen=True, eq=False)
class Finder:
    """Find candidates for the words of texts.

    Args:
        tokenizer: the model's tokenizer.
        mlm: gives the candidates of words that are a single token.
        glove: gives the candidates of other words; None leaves these words as they are.
        k: candidates of each word.
        stop_words: lower-case words that stay.
        max_length: tokens of a query. The end of the original sentence is cut first; words beyond
            `max_length` stay.
        batch_tokens: tokens of a batch of queries, which have similar lengths.
    """

    tokenizer: Tokenizer
    mlm: MaskedLM
    glove: GloVe | None = None
    k: int = 15
    stop_words: Collection[str] = STOP_WORDS
    max_length: int = 512
    batch_tokens: int = _BATCH_TOKENS

    def __post_init__(self) -> None:
        self.tokenizer.require_wordpiece("`--masked-lm` proposes words")
        if "[MASK]" not in self.tokenizer.vocabulary:
            raise UserError("the vocabulary has no [MASK]. Use a masked language model for `--masked-lm`.")

    def __call__(self, texts: Sequence[str], advance: Callable[..., Any] | None = None) -> dict[str, Candidates]:
        """Return the candidates of each different text; `advance` gets the number of answered queries."""
        candidates = {text: Candidates(text, word_spans(text), {}) for text in texts}
        words = {text: [text[slice(*span)] for span in each.spans] for text, each in candidates.items()}
        ids = token_ids_of(chain.from_iterable(words.values()), self.tokenizer)
        free = {word for word in ids if word.isalpha() and word.lower() not in self.stop_words and len(ids[word])}
        neighbours: dict[str, list[str]] = {}
        if self.glove is not None:
            neighbours = self.glove.neighbours((word for word in ids if word in free and len(ids[word]) > 1), self.k)
        sentences: list[np.ndarray] = []
        queries: list[tuple[str, int, int, int]] = []  # text, word, its sentence, position in the query
        for text in candidates:
            lengths = [len(ids[word]) for word in words[text]]
            starts = np.cumsum([0, *lengths])
            for number, word in enumerate(words[text]):
                if word not in free:
                    continue
                if lengths[number] == 1:
                    if starts[number] < self.max_length - 2:
                        queries.append((text, number, len(sentences), int(starts[number]) + 1))
                elif neighbours.get(word):
                    candidates[text].choices[number] = neighbours[word]
            sentences.append(np.concatenate([np.zeros(0, np.int32), *(ids[word] for word in words[text])]))
        self._predict(candidates, sentences, queries, advance)
        # The order of the text decides which random number belongs to which word.
        return {
            text: Candidates(text, each.spans, dict(sorted(each.choices.items()))) for text, each in candidates.items()
        }

    def _predict(
        self,
        candidates: dict[str, Candidates],
        sentences: list[np.ndarray],
        queries: list[tuple[str, int, int, int]],
        advance: Callable[..., Any] | None,
    ) -> None:
        words = {i: token for i, token in enumerate(self.tokenizer.vocabulary) if _is_word(token)}
        cuts = [self._cut(len(sentence)) for sentence in sentences]
        lengths = np.array([3 + sum(cuts[sentence]) for _, _, sentence, _ in queries], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")  # The longest are first, so that memory peaks at the start.
        start = 0
        while start < len(order):
            longest = _rounded(int(lengths[order[start]]), self.max_length)
            rows = order[start : start + max(1, self.batch_tokens // longest)]
            batch = [queries[row] for row in rows]
            predictions = self.mlm(self._inputs(batch, sentences, cuts, longest), _PREDICTIONS * self.k)
            for (text, word, _, _), row in zip(batch, predictions, strict=True):
                choices = [words[i] for i in row.tolist() if i in words][: self.k]
                if choices:
                    candidates[text].choices[word] = choices
            start += len(rows)
            if advance is not None:
                advance(len(rows))

    def _cut(self, length: int) -> tuple[int, int]:
        """Return how many tokens of a sentence are in the first and in the second part of a query."""
        first = min(length, self.max_length - 2)
        return first, max(0, min(length, self.max_length - 3 - first))

    def _inputs(
        self,
        batch: list[tuple[str, int, int, int]],
        sentences: list[np.ndarray],
        cuts: list[tuple[int, int]],
        longest: int,
    ) -> dict[str, np.ndarray]:
        special = {token: self.tokenizer.vocabulary.index(token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")}
        ids = np.full((len(batch), longest), special["[PAD]"], np.int32)
        mask, segments = np.zeros_like(ids), np.zeros_like(ids)
        for row, (_, _, sentence, position) in enumerate(batch):
            (first, second), tokens = cuts[sentence], sentences[sentence]
            ids[row, 0], ids[row, first + 1] = special["[CLS]"], special["[SEP]"]
            ids[row, 1 : first + 1] = tokens[:first]
            ids[row, position] = special["[MASK]"]
            end = first + 2
            if second:
                ids[row, end : end + second] = tokens[:second]
                ids[row, end + second] = special["[SEP]"]
                segments[row, end : end + second + 1] = 1
                end += second + 1
            mask[row, :end] = 1
        positions = np.array([[position] for *_, position in batch], np.int32)
        return {"token_ids": ids, "padding_mask": mask, "segment_ids": segments, "masked_positions": positions}


def _is_word(token: str) -> bool:
    """Return whether a token is a whole word of letters."""
    return token.isalpha()


def _rounded(length: int, most: int) -> int:
    """Round up to a multiple of 8, so that there are few different shapes."""
    return min(-(-length // 8) * 8, most)


def augment_tinybert(
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    *,
    find: Finder,
    copies: int = 20,
    seed: int,
    p: float = 0.4,
    first: int = 0,
    advance: Callable[..., Any] | None = None,
) -> Augmented:
    """Make up to `copies` new texts from each text.

    Copy c of example i depends only on (seed, i, c) and the candidates of its text. If two predictions
    are equal up to rounding, their order may depend on the batch. Duplicates of the texts and of
    earlier copies are left out.

    Args:
        texts: the first text of each example.
        texts_b: the second text of each pair; None for single texts.
        find: finds the candidates.
        copies: copies of each example: 20 in the paper; the code has 30 for CoLA, MRPC and RTE, 10 for
            MNLI and QQP.
        seed: the seed of all copies.
        p: probability that a word is exchanged.
        first: the number of the first example, if these are a part of many.
        advance: called with the number of answered queries.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"got p={p}; expected a probability from 0 to 1")
    candidates = find([*texts, *(texts_b or [])], advance)

    def copy(text: str, stream: Stream) -> str:
        return candidates[text].copy(stream, p)

    return make_copies(texts, texts_b, copy, copies=copies, seed=seed, first=first)


def tinybert_split(
    copies: int, find: Callable[[Split], Finder] | Finder, p: float = 0.4
) -> Callable[[Split, int], Split]:
    """Return a function (split, seed) -> copies of `split` with the labels of their sources.

    Args:
        copies: copies of each example.
        find: the finder, or a function that makes it for a split when it is needed.
        p: probability that a word is exchanged.
    """

    def augment(split: Split, seed: int) -> Split:
        finder = find if isinstance(find, Finder) else find(split)
        made = augment_tinybert(split.texts, split.texts_b, find=finder, copies=copies, seed=seed, p=p)
        return augmented_split(split, made)

    return augment
