"""TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1): words exchanged for what a masked language model or GloVe puts in
their place.

Each word is exchanged with probability p = 0.4 for one of K = 15 candidates. Of a word that is a single piece they are the
most probable words at its place in the query [CLS] sentence with the word masked [SEP] original sentence [SEP] (as in the
authors' code); of another word its nearest neighbours in GloVe. Stop words and what is not made of letters alone stay.

As in the authors' code the candidates come from the original sentence, once, and serve all its copies; in the paper's algorithm
they depend on the words exchanged so far. The word itself may be among the model's candidates. Ours differs from the code
where that departs from the paper or is wrong: K words remain after pieces of words have been left out; the second text of a pair
is made from the original pair; spaces, case and punctuation stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from tfdistill.augment.copies import FIRST, SECOND, Augmented, Stream, augmented_split, make_copies
from tfdistill.augment.glove import GloVe
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.words import STOP_WORDS, replaced, token_ids_of, word_spans

_ASKED = 4  # times K: how many predictions are asked for, since some are no words
_BATCH_TOKENS = 4096  # of one batch of queries, padding included


class MaskedLM(Protocol):
    """A masked language model as this module needs it; `tfdistill.training.word_candidates.fill_mask` makes one of a model."""

    def __call__(self, inputs: dict[str, np.ndarray], k: int) -> np.ndarray:
        """The `k` most probable ids (B, k) at one masked position of each row, most probable first.

        inputs: token_ids, padding_mask, segment_ids (B, L) and masked_positions (B, 1), int32.
        """
        ...


@dataclass(frozen=True, eq=False)
class Candidates:
    """A text, its words' places, and what may take the place of some of them: `choices[w]` of word number w, never empty."""

    text: str
    spans: list[tuple[int, int]]
    choices: dict[int, list[str]]

    def copy(self, stream: Stream, p: float) -> str:
        """The text with each word that has candidates exchanged with probability `p`."""
        draws, numbers = stream.random(2 * len(self.choices)).reshape(2, -1)
        changes = {
            word: choices[int(number * len(choices))]
            for (word, choices), draw, number in zip(self.choices.items(), draws, numbers, strict=True)
            if draw < p
        }
        return replaced(self.text, self.spans, changes)


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds candidates for the words of texts.

    Args:
        tokenizer: the model's.
        mlm: gives words that are a single piece their candidates.
        glove: gives the others theirs; None leaves them as they are.
        k: candidates of each word.
        stop_words: words, in small letters, that stay.
        max_length: pieces of a query at most. What does not fit is cut from the end of the original sentence; words beyond
            `max_length` in the sentence stay.
        batch_tokens: pieces in a batch of queries; queries of about one length are put together.
    """

    tokenizer: Tokenizer
    mlm: MaskedLM
    glove: GloVe | None = None
    k: int = 15
    stop_words: Collection[str] = STOP_WORDS
    max_length: int = 512
    batch_tokens: int = _BATCH_TOKENS

    def __post_init__(self) -> None:
        if "[MASK]" not in self.tokenizer.vocabulary:
            raise UserError(
                "the vocabulary has no [MASK]; expected that of a masked language model, give another --mlm"
            )

    def __call__(self, texts: Sequence[str], advance: Callable[..., Any] | None = None) -> dict[str, Candidates]:
        """Candidates of each different text. `advance` is told how many queries were answered."""
        found = {text: Candidates(text, word_spans(text), {}) for text in texts}
        words = {text: [text[slice(*span)] for span in each.spans] for text, each in found.items()}
        ids = token_ids_of(chain.from_iterable(words.values()), self.tokenizer)
        free = {word for word in ids if word.isalpha() and word.lower() not in self.stop_words and len(ids[word])}
        neighbours: dict[str, list[str]] = {}
        if self.glove is not None:
            neighbours = self.glove.neighbours((word for word in ids if word in free and len(ids[word]) > 1), self.k)
        sentences: list[np.ndarray] = []
        queries: list[tuple[str, int, int, int]] = []  # text, word, its sentence, position in the query
        for text in found:
            lengths = [len(ids[word]) for word in words[text]]
            starts = np.cumsum([0, *lengths])
            for number, word in enumerate(words[text]):
                if word not in free:
                    continue
                if lengths[number] == 1:
                    if starts[number] < self.max_length - 2:
                        queries.append((text, number, len(sentences), int(starts[number]) + 1))
                elif neighbours.get(word):
                    found[text].choices[number] = neighbours[word]
            sentences.append(np.concatenate([np.zeros(0, np.int32), *(ids[word] for word in words[text])]))
        self._ask(found, sentences, queries, advance)
        # Words are drawn for in the order of the text, wherever their candidates come from.
        return {text: Candidates(text, each.spans, dict(sorted(each.choices.items()))) for text, each in found.items()}

    def _ask(
        self,
        found: dict[str, Candidates],
        sentences: list[np.ndarray],
        queries: list[tuple[str, int, int, int]],
        advance: Callable[..., Any] | None,
    ) -> None:
        words = {i: piece for i, piece in enumerate(self.tokenizer.vocabulary) if _is_word(piece)}
        cuts = [self._cut(len(sentence)) for sentence in sentences]
        lengths = np.array([3 + sum(cuts[sentence]) for _, _, sentence, _ in queries], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")  # longest first: memory peaks at the start
        start = 0
        while start < len(order):
            longest = _rounded(int(lengths[order[start]]), self.max_length)
            rows = order[start : start + max(1, self.batch_tokens // longest)]
            batch = [queries[row] for row in rows]
            predictions = self.mlm(self._inputs(batch, sentences, cuts, longest), _ASKED * self.k)
            for (text, word, _, _), row in zip(batch, predictions, strict=True):
                choices = [words[i] for i in row.tolist() if i in words][: self.k]
                if choices:
                    found[text].choices[word] = choices
            start += len(rows)
            if advance is not None:
                advance(len(rows))

    def _cut(self, length: int) -> tuple[int, int]:
        """How many pieces of a sentence stand in the first and in the second part of a query."""
        first = min(length, self.max_length - 2)
        return first, max(0, min(length, self.max_length - 3 - first))

    def _inputs(
        self,
        batch: list[tuple[str, int, int, int]],
        sentences: list[np.ndarray],
        cuts: list[tuple[int, int]],
        longest: int,
    ) -> dict[str, np.ndarray]:
        special = {piece: self.tokenizer.vocabulary.index(piece) for piece in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")}
        ids = np.full((len(batch), longest), special["[PAD]"], np.int32)
        mask, segments = np.zeros_like(ids), np.zeros_like(ids)
        for row, (_, _, sentence, position) in enumerate(batch):
            (first, second), pieces = cuts[sentence], sentences[sentence]
            ids[row, 0], ids[row, first + 1] = special["[CLS]"], special["[SEP]"]
            ids[row, 1 : first + 1] = pieces[:first]
            ids[row, position] = special["[MASK]"]
            end = first + 2
            if second:
                ids[row, end : end + second] = pieces[:second]
                ids[row, end + second] = special["[SEP]"]
                segments[row, end : end + second + 1] = 1
                end += second + 1
            mask[row, :end] = 1
        positions = np.array([[position] for *_, position in batch], np.int32)
        return {"token_ids": ids, "padding_mask": mask, "segment_ids": segments, "masked_positions": positions}


def _is_word(piece: str) -> bool:
    """Whether a piece can stand for a word: it begins one, and it is made of letters."""
    return piece.isalpha()


def _rounded(length: int, most: int) -> int:
    """The next multiple of 8, so that there are few different shapes."""
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
    """Up to `copies` new texts from each text: 20 in the paper; the code has 30 for CoLA, MRPC and RTE, 10 for MNLI and QQP.

    Copy c of example i depends on (seed, i, c) and its own text's candidates alone (`tinybert_copy` makes it again; where two
    predictions are equal but for rounding, a model that is asked in other batches may order them otherwise). What equals one
    of the given texts, or an earlier row, is left out.

    Args:
        find: makes the candidates.
        p: probability that a word is exchanged.
        first: the number of the first example, when these are some of many.
        advance: is told how many queries were answered.

    Raises ValueError when an argument is out of range.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"got p={p}; expected a probability from 0 to 1")
    candidates = find([*texts, *(texts_b or [])], advance)

    def copy(text: str, stream: Stream) -> str:
        return candidates[text].copy(stream, p)

    return make_copies(texts, texts_b, copy, copies=copies, seed=seed, first=first)


def tinybert_copy(
    text: str, *, find: Finder, seed: int, index: int, copy: int, p: float = 0.4, second: bool = False
) -> str:
    """Copy `copy` of example `index` alone, as `augment_tinybert` makes it. `second`: the text is the second of a pair."""
    return find([text])[text].copy(Stream(seed, index, copy, SECOND if second else FIRST), p)


def tinybert_split(
    copies: int, find: Callable[[Split], Finder] | Finder, p: float = 0.4
) -> Callable[[Split, int], Split]:
    """A function (split, seed) -> the augmented rows of `split`, each with its source's label.

    `find` may be a function that makes the finder for the split's texts; it is called when it is needed.
    """

    def augment(split: Split, seed: int) -> Split:
        finder = find if isinstance(find, Finder) else find(split)
        made = augment_tinybert(split.texts, split.texts_b, find=finder, copies=copies, seed=seed, p=p)
        return augmented_split(split, made)

    return augment
