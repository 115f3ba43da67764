"""Where in a text each piece comes from: pieces with character offsets, and words of more than one Chinese character.

`Tokenizer` splits text inside the graph and forgets the places. Here the same steps run over one character at a time, in
Python, and remember them; the pieces of each word come from the same vocabulary search.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from tfdistill.errors import UserError
from tfdistill.text import character_classes as _unicode
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import CLS, MASK, PAD, SEP, UNK, Tokenizer

_BATCH = 512  # texts whose words are looked up together


@dataclass(frozen=True)
class Pieces:
    """Pieces of texts without [CLS] and [SEP]. Text i has the pieces offsets[i]:offsets[i + 1].

    ids (total,) int32; starts, ends (total,) int32: piece p stands for text[starts[p]:ends[p]]; words (total,) int32: the
    number of its word in the text, from 0; offsets (n + 1,) int64.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


def pieces_with_offsets(tokenizer: Tokenizer, texts: Sequence[str]) -> Pieces:
    """The pieces of `texts` as `tokenizer.tokenize` gives them, with the characters that each stands for.

    Characters that the tokenizer removes (accents, controls) belong to the character before them in the same word. A word
    that becomes [UNK] is one piece.
    """
    tables = [np.zeros((0, 4), np.int32)]
    counts = [0]
    for begin in range(0, len(texts), _BATCH):
        words = [_words(tokenizer, text) for text in texts[begin : begin + _BATCH]]
        flat = [word for row in words for word in row]
        found = iter(tokenizer.pieces([word.text for word in flat]).to_list() if flat else [])
        for row in words:
            spans = [
                (piece, *span, number)
                for number, word in enumerate(row)
                for piece, span in _spans(tokenizer, word, next(found))
            ]
            counts.append(len(spans))
            tables.append(np.array(spans, np.int32).reshape(-1, 4))
    ids, starts, ends, numbers = np.concatenate(tables).T
    return Pieces(ids, starts, ends, numbers, np.cumsum(counts, dtype=np.int64))


def segmented_word_ids(
    tokenizer: Tokenizer,
    encoded: Encoded,
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    *,
    segment: Callable[[str], Iterable[str]],
) -> np.ndarray:
    """As `Tokenizer.word_ids`, but words are those of `segment`, for languages written without spaces.

    Args:
        encoded: `tokenizer.encode(texts, texts_b, max_length=...)`.
        segment: cuts a text into its words, which joined give the text again: `jieba.lcut`, or `maximum_matching` of a
            word list. The tokenizer's own words are never cut, nor are pieces.

    Raises:
        UserError: `segment` loses or changes characters.
    """
    ids = np.full(len(encoded.token_ids), -1, np.int32)
    special, _ = tokenizer._piece_kinds
    for number, column in enumerate([texts] if texts_b is None else [texts, texts_b]):
        pieces = pieces_with_offsets(tokenizer, column)
        for row, text in enumerate(column):
            span = slice(pieces.offsets[row], pieces.offsets[row + 1])
            cuts = _cuts(text, segment)
            starts = np.searchsorted(cuts, pieces.starts[span], side="right")
            ends = np.searchsorted(cuts, pieces.ends[span], side="left")
            # A new word begins where a piece starts after the word in which the one before it ended, and with a word of
            # the tokenizer's own.
            begins = np.ones(len(starts), bool)
            begins[1:] = (starts[1:] > ends[:-1]) & (np.diff(pieces.words[span]) > 0)
            words = np.cumsum(begins) - 1
            tokens = np.arange(encoded.offsets[row], encoded.offsets[row + 1])
            own = tokens[encoded.segment_ids[tokens] == number]
            own = own[1:-1] if number == 0 else own[:-1]  # less [CLS] and the last [SEP]
            ids[own] = words[: len(own)]
            ids[own[special[encoded.token_ids[own]]]] = -1
    return ids


def maximum_matching(words: Iterable[str]) -> Callable[[str], list[str]]:
    """A segmenter that takes, from left to right, the longest of `words` that fits, or else one character."""
    known = frozenset(words)
    longest = max(map(len, known), default=1)

    def segment(text: str) -> list[str]:
        cut, start = [], 0
        while start < len(text):
            end = next(
                (end for end in range(min(len(text), start + longest), start + 1, -1) if text[start:end] in known),
                start + 1,
            )
            cut.append(text[start:end])
            start = end
        return cut

    return segment


def aligned_words(first: Encoded, second: Encoded, first_words: np.ndarray, second_words: np.ndarray) -> np.ndarray:
    """Tokens of two encodings of the same texts that begin the same word: (m, 3) int64 of row, position in the row of
    `first`, and position in the row of `second`; ordered by row and position.

    Words that only one of them still has, because the other was cut sooner, are left out.

    Args:
        first_words, second_words: from `Tokenizer.word_ids` of their tokenizers, which must split words alike (the same
            choice for Chinese characters and accents); vocabularies, case and lengths may differ.
    """
    if len(first) != len(second):
        raise UserError(f"got encodings of {len(first)} and {len(second)} rows; expected both of the same texts")
    keys, places = zip(*(_word_keys(*pair) for pair in ((first, first_words), (second, second_words))), strict=True)
    _, in_first, in_second = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    rows = np.searchsorted(first.offsets, places[0][in_first], side="right") - 1
    return np.stack(
        [rows, places[0][in_first] - first.offsets[rows], places[1][in_second] - second.offsets[rows]], axis=1
    ).astype(np.int64)


def _word_keys(encoded: Encoded, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(key, flat position) of the first token of every word; keys grow with row, text and word."""
    row = np.repeat(np.arange(len(encoded)), encoded.lengths)
    key = (row.astype(np.int64) * 2 + encoded.segment_ids) * 2**32 + words
    first = words >= 0
    first[1:] &= key[1:] != key[:-1]
    places = np.flatnonzero(first)
    return key[places], places


# --- words with the places of their characters ----------------------------------------------------------------------


@dataclass
class _Word:
    """A cleaned word. Character i comes from text[starts[i]:ends[i]]."""

    text: str
    starts: list[int]
    ends: list[int]


_SPACE, _ALONE, _LETTERS = "space", "alone", "letters"


@cache
def _codes(ranges: str) -> frozenset[int]:
    codes: set[int] = set()
    for item in ranges.split():
        first, _, last = item.partition("-")
        codes.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(codes)


@cache
def _small_letters() -> np.ndarray:
    return _unicode.small_letters()


@cache
def _cleaned(character: str, lower: bool, strip: bool, chinese: bool) -> tuple[tuple[str, str], ...]:
    """What becomes of one character: (kind, character) for each that stands in its place; none where it is removed."""
    point = ord(character)
    if point in _codes(_unicode.DROPPED):
        return ()
    if point in _codes(_unicode.SPACES):
        return ((_SPACE, " "),)
    is_chinese = chinese and point in _codes(_unicode.CHINESE)
    made = character
    if strip:
        made = "".join(c for c in unicodedata.normalize("NFD", made) if ord(c) not in _codes(_unicode.MARKS))
    if lower:
        table = _small_letters()
        made = made.replace("\u0130", "i\u0307")
        made = "".join(chr(table[ord(c)]) if ord(c) < len(table) else c for c in made)
    return tuple((_ALONE if is_chinese or ord(c) in _codes(_unicode.PUNCTUATION) else _LETTERS, c) for c in made)


def _words(tokenizer: Tokenizer, text: str) -> list[_Word]:
    options = (tokenizer.lower_case, tokenizer._strips_accents, tokenizer.tokenize_chinese_chars)
    words: list[_Word] = []
    open_word: _Word | None = None
    position = 0
    for part in _special(tokenizer).split(text):
        if part in _SPECIAL and part in tokenizer._ids:
            words.append(_Word(part, [position], [position + len(part)]))
            position += len(part)
            open_word = None
            continue
        for start, character in enumerate(part, start=position):
            made = _cleaned(character, *options)
            if not made and open_word is not None:
                open_word.ends[-1] = start + 1
            for kind, clean in made:
                if kind != _LETTERS or open_word is None:
                    open_word = None
                    if kind == _SPACE:
                        continue
                    words.append(_Word("", [], []))
                words[-1].text += clean
                words[-1].starts.append(start)
                words[-1].ends.append(start + 1)
                open_word = words[-1] if kind == _LETTERS else None
        position += len(part)
    return words


_SPECIAL = (PAD, UNK, CLS, SEP, MASK)


def _special(tokenizer: Tokenizer) -> re.Pattern[str]:
    return re.compile("(" + "|".join(re.escape(piece) for piece in _SPECIAL if piece in tokenizer._ids) + ")")


def _spans(tokenizer: Tokenizer, word: _Word, ids: list[int]) -> list[tuple[int, tuple[int, int]]]:
    """(piece id, (start, end)) of the pieces of one word."""
    if word.text in _SPECIAL and word.text in tokenizer._ids and len(word.starts) == 1:
        return [(tokenizer._ids[word.text], (word.starts[0], word.ends[0]))]
    if len(ids) == 1:
        return [(ids[0], (word.starts[0], word.ends[-1]))]
    spans, begin = [], 0
    for number, piece in enumerate(ids):
        end = begin + len(tokenizer.vocabulary[piece]) - (2 if number else 0)
        spans.append((piece, (word.starts[begin], word.ends[end - 1])))
        begin = end
    return spans


def _cuts(text: str, segment: Callable[[str], Iterable[str]]) -> np.ndarray:
    """Where the words of `segment` begin, in characters, without the first."""
    words = list(segment(text))
    if "".join(words) != text:
        raise UserError(
            f"the segmenter turned {text[:40]!r} into other characters; expected words that join to the text"
        )
    return np.cumsum([len(word) for word in words])[:-1] if words else np.zeros(0, np.int64)
