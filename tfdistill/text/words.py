"""Words of a text as BERT's tokenizer sees them, with the place where each one stands, so that a text can be changed word
by word and keep its spaces, case and punctuation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfdistill.text import character_classes as _unicode

# English words that carry grammar rather than content, and what BERT's tokenizer leaves of contractions (isn't: isn ' t).
# TinyBERT's augmentation leaves them as they are.
_STOP_WORDS = """
    a an the this that these those
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
    it its itself they them their theirs themselves one who whom whose which what
    am is are was were be been being do does did doing done have has had having
    can could may might must shall should will would ought
    and or but nor so yet if because as until while although though unless since whether than
    of at by for with about against between into through during before after above below to from up down in out on off over
    under upon within without toward towards among across around behind beyond along
    not no none neither either both each every any some all few more most other another such same own only too very just
    again further then once here there when where why how ever never also even still
    s t d ll m re ve don didn doesn isn aren wasn weren hasn haven hadn won wouldn couldn shouldn mustn shan needn ain y
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def _python_class(ranges: str) -> str:
    """`ranges` of `_unicode` as the inside of a character class of `re`."""
    return "".join("-".join(f"\\U{int(end, 16):08x}" for end in item.split("-")) for item in ranges.split())


_CHINESE = _python_class(_unicode.CHINESE)
_PUNCTUATION = _python_class(_unicode.PUNCTUATION)
_SPACES = _python_class(_unicode.SPACES)
_HAS_CHINESE = re.compile(f"[{_CHINESE}]")
_WORD = re.compile(rf"\[(?:PAD|UNK|CLS|SEP|MASK)\]|[{_CHINESE}]|[{_PUNCTUATION}]|[^{_CHINESE}{_PUNCTUATION}{_SPACES}]+")


class PieceTokenizer(Protocol):
    """What is asked of `tfdistill.text.tokenizer.Tokenizer`."""

    vocabulary: Any

    def tokenize(self, text: Any) -> Any: ...


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word: a run of characters that are no white space, a Chinese character, a punctuation mark, or
    a special token such as [MASK]."""
    return [match.span() for match in _WORD.finditer(text)]


def has_chinese(text: str) -> bool:
    """Whether there is a Chinese character in it."""
    return _HAS_CHINESE.search(text) is not None


def spaced_words(text: str) -> tuple[list[str], list[bool]]:
    """The words of a text, and for each whether white space stands before it.

    A word is what stands between white space, punctuation included; where Chinese characters are in it, which have no spaces
    between words, each of them is one, and so is each of what else `word_spans` finds there.

    >>> spaced_words("not bad, 好看 film")
    (['not', 'bad,', '好', '看', 'film'], [False, True, True, False, True])
    """
    words: list[str] = []
    spaced: list[bool] = []
    for part in text.split():
        parts = [part[slice(*span)] for span in word_spans(part)] if has_chinese(part) else [part]
        spaced += [bool(words), *([False] * (len(parts) - 1))]
        words += parts
    return words, spaced


def replaced(text: str, spans: Sequence[tuple[int, int]], changes: Mapping[int, str]) -> str:
    """`text` with word number w (of `spans`) exchanged for `changes[w]`; all else stays as it was."""
    parts, end = [], 0
    for word in sorted(changes):
        start, stop = spans[word]
        parts += [text[end:start], changes[word]]
        end = stop
    return "".join([*parts, text[end:]])


def piece_ids(words: Iterable[str], tokenizer: PieceTokenizer) -> dict[str, np.ndarray]:
    """The ids of the pieces of each word, int32, every different word tokenized once."""
    different = list(dict.fromkeys(words))
    if not different:
        return {}
    rows = tokenizer.tokenize([word.encode() for word in different])
    ids, splits = rows.flat_values.numpy(), rows.row_splits.numpy()
    return {word: ids[splits[i] : splits[i + 1]] for i, word in enumerate(different)}


def surface_pieces(words: Iterable[str], tokenizer: PieceTokenizer) -> dict[str, list[str]]:
    """The pieces of each word as they are written (play ##ing: play, ing). A word with an unknown part is one piece."""
    found = {}
    for word, ids in piece_ids(words, tokenizer).items():
        pieces = [tokenizer.vocabulary[i] for i in ids]
        found[word] = [word] if "[UNK]" in pieces or not pieces else [piece.removeprefix("##") for piece in pieces]
    return found
