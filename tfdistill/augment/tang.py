"""Augment texts as Tang et al. 2019 do.

"Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", section 3.3. Words are
masked or exchanged for words of the same part of speech, then perhaps only an n-gram is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from tfdistill.augment.copies import Augmented, Stream, augmented_split, make_copies
from tfdistill.augment.parts_of_speech import PosTable, Tagger
from tfdistill.data.splits import Split
from tfdistill.text.words import spaced_words

_WORDS, _POS, _TOKENS = 0, 1, 2  # what a stream is for

TokenSplitter = Callable[[Iterable[str]], dict[str, list[str]]]
"""Return the tokens of each word without ##; joined, they are the word."""


@dataclass(frozen=True)
class Tang:
    """Set what `augment_tang` does to a text. The defaults are the paper's.

    Args:
        p_mask: probability that a word becomes `mask`.
        p_pos: probability that a word is exchanged for one of the same part of speech, drawn by its
            frequency in the training text. Used only with `pos`.
        p_ng: probability that only n words in a row are kept.
        ngram: the smallest and the largest n, which is drawn uniformly.
        mask: the text of a masked word.
        pos: the words by part of speech. None: no word is exchanged.
        tokens: None masks whole words. A splitter, such as `written_tokens`, masks every token of a
            word independently, except in exchanged words. This changes the text: play[MASK] is read
            as play and [MASK], but in [MASK]ing the tokenizer reads ing and not ##ing.

    Raises:
        ValueError: a number is out of range.
    """

    p_mask: float = 0.1
    p_pos: float = 0.1
    p_ng: float = 0.25
    ngram: tuple[int, int] = (1, 5)
    mask: str = "[MASK]"
    pos: PosTable | None = None
    tokens: TokenSplitter | None = None

    def __post_init__(self) -> None:
        for name in ("p_mask", "p_pos", "p_ng"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"got {name}={getattr(self, name)}; expected a probability from 0 to 1")
        if self.pos is not None and self.p_mask + self.p_pos > 1:
            raise ValueError(f"got p_mask={self.p_mask} and p_pos={self.p_pos}; expected at most 1 together")
        if not 1 <= self.ngram[0] <= self.ngram[1]:
            raise ValueError(f"got ngram={self.ngram}; expected (shortest, longest) with 1 <= shortest <= longest")

    def copy(
        self,
        words: Sequence[str],
        spaced: Sequence[bool],
        stream: Stream,
        tags: Sequence[str],
        tokens: dict[str, list[str]],
    ) -> str:
        """Return a changed copy of a text from its `spaced_words`; `tags` and `tokens` may be empty if unused."""
        draws = stream.random(len(words) + 3, _WORDS)
        changed = list(words)
        exchanged = np.zeros(len(words), bool)
        if self.pos is not None:
            choices = stream.random(len(words), _POS)
            exchanged = (self.p_mask <= draws[:-3]) & (draws[:-3] < self.p_mask + self.p_pos)
            for place in np.flatnonzero(exchanged).tolist():
                changed[place] = self.pos.draw(words[place], tags[place], float(choices[place]))
        if self.tokens is None:
            changed = [self.mask if draw < self.p_mask else word for draw, word in zip(draws, changed, strict=False)]
        else:
            numbers = iter(stream.random(sum(len(tokens[word]) for word in words), _TOKENS))
            for place, word in enumerate(words):
                masked = [next(numbers) < self.p_mask for _ in tokens[word]]
                if any(masked) and not exchanged[place]:
                    parts = (self.mask if hide else part for hide, part in zip(masked, tokens[word], strict=True))
                    changed[place] = "".join(parts)
        keep, length, start = draws[len(words) :]
        begin = 0
        if keep < self.p_ng:
            low, high = self.ngram
            n = min(low + int(length * (high - low + 1)), len(changed))
            begin = int(start * (len(changed) - n + 1))
            changed = changed[begin : begin + n]
        before = [" " if space else "" for space in spaced[begin : begin + len(changed)]]
        return "".join(chain.from_iterable(zip(before, changed, strict=True))).strip()


def augment_tang(
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    *,
    copies: int,
    seed: int,
    first: int = 0,
    **options: Any,
) -> Augmented:
    """Make up to `copies` new texts from each text; the paper has 20, and 10 for pairs.

    Words are from `tfdistill.text.words.spaced_words`. The texts of a pair are changed independently.
    Copy c of example i depends only on (seed, i, c), its text and the options. Duplicates of the texts
    and of earlier copies are left out.

    Args:
        texts: the first text of each example.
        texts_b: the second text of each pair; None for single texts.
        copies: copies of each example.
        seed: the seed of all copies.
        first: the number of the first example, if these are a part of many.
        options: the fields of `Tang`.

    Raises:
        ValueError: an argument is out of range.
    """
    method = Tang(**options)
    every = list(chain(texts, texts_b or []))
    words = {text: spaced_words(text) for text in every}
    tags = {} if method.pos is None else {text: method.pos.tags(words[text][0]) for text in words}
    tokens = {} if method.tokens is None else method.tokens(chain.from_iterable(some for some, _ in words.values()))

    def copy(text: str, stream: Stream) -> str:
        return method.copy(*words[text], stream, tags.get(text, ()), tokens)

    return make_copies(texts, texts_b, copy, copies=copies, seed=seed, first=first, by_turns=True)


def augment_split(copies: int, *, tagger: Tagger | None = None, **options: Any) -> Callable[[Split, int], Split]:
    """Return a function (split, seed) -> copies of `split` with the labels of their sources.

    Args:
        copies: copies of each example.
        tagger: tags words, such as `default_tagger`; the replacements are words of the split. None:
            no word is exchanged.
        options: options of `augment_tang`.
    """

    def augment(split: Split, seed: int) -> Split:
        chosen = dict(options)
        if tagger is not None:
            chosen["pos"] = PosTable.build(chain(split.texts, split.texts_b or []), tagger)
        return augmented_split(split, augment_tang(split.texts, split.texts_b, copies=copies, seed=seed, **chosen))

    return augment
