"""Find the words of a text or of its token ids, and exchange words in a text.

A word is what BERT's tokenizer looks for tokens in: letters in a row, one punctuation mark, one
Chinese character, or one special token such as [MASK]. In token ids a word is a token and the ##
tokens behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from tfdistill.text.vocabulary import SPECIAL, UNK

if TYPE_CHECKING:
    from tfdistill.text.tokenizer import Tokenizer

# English words of grammar rather than content, and the parts of contractions (isn't: isn ' t).
# TinyBERT's augmentation does not change them.
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


# --- words in token ids ---------------------------------------------------------------------------------------------


def continuations(vocabulary: Sequence[str]) -> np.ndarray:
    """Return which tokens continue a word (##...), (V,) bool."""
    return np.array([token.startswith("##") and len(token) > 2 for token in vocabulary])


def word_starts(token_ids: np.ndarray, inside: np.ndarray, continuations: np.ndarray) -> np.ndarray:
    """Return which tokens begin a word.

    Args:
        token_ids: (..., L) integers.
        inside: (..., L) bool, whether a token belongs to a word.
        continuations: (V,) bool, from `continuations`.

    Returns:
        (..., L) bool. A ## token begins a word only if the token before it is not `inside`.
    """
    before = np.zeros_like(inside)
    before[..., 1:] = inside[..., :-1]
    return inside & ~(continuations[token_ids] & before)


# --- words in a text ------------------------------------------------------------------------------------------------


@cache
def _splitter(lower_case: bool = False) -> tokenizers.Tokenizer:
    """Return BERT's cleaning and splitting; every word of its result is [UNK]."""
    splitter = tokenizers.Tokenizer(WordLevel({UNK: 0}, unk_token=UNK))
    splitter.normalizer = BertNormalizer(lowercase=lower_case, strip_accents=lower_case)
    splitter.pre_tokenizer = BertPreTokenizer()
    splitter.add_special_tokens(list(SPECIAL))
    return splitter


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the first and the last character (exclusive) of each word of `text`."""
    return _splitter().encode(text, add_special_tokens=False).offsets


def clean_word_spans(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Return the spans of the words of each text for a tokenizer that strips accents: an accent alone is not a word."""
    return [each.offsets for each in _splitter(True).encode_batch(list(texts), add_special_tokens=False)]


def has_chinese(text: str) -> bool:
    """Return whether `text` has a Chinese character."""
    if text.isascii():
        return False
    spaced = BertNormalizer(clean_text=False, strip_accents=False, lowercase=False).normalize_str(text)
    return spaced != text


def spaced_words(text: str) -> tuple[list[str], list[bool]]:
    """Split a text at white space; around Chinese characters into the words of `word_spans`.

    Returns:
        The words, and whether white space precedes each.

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
    """Return `text` with word w, which is at spans[w], exchanged for changes[w]."""
    parts, end = [], 0
    for word in sorted(changes):
        start, stop = spans[word]
        parts += [text[end:start], changes[word]]
        end = stop
    return "".join([*parts, text[end:]])


# --- tokens of single words -----------------------------------------------------------------------------------------


def token_ids_of(words: Iterable[str], tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Return the token ids of each different word, int32."""
    different = list(dict.fromkeys(words))
    return dict(zip(different, tokenizer.word_token_ids(different).rows(range(len(different))), strict=True))


def written_tokens(words: Iterable[str], tokenizer: Tokenizer) -> dict[str, list[str]]:
    """Return the tokens of each different word without ## (playing: play, ing).

    A word with an unknown part is one token.
    """
    written = {}
    if not tokenizer.is_wordpiece:
        different = list(dict.fromkeys(words))
        read = tokenizer.tokens(different)
        for number, word in enumerate(different):
            row = read.row(number)
            parts = [word[start:end] for start, end in zip(row.starts, row.ends, strict=True)]
            written[word] = parts if "".join(parts) == word and tokenizer.unk_id not in row.ids else [word]
        return written
    for word, ids in token_ids_of(words, tokenizer).items():
        tokens = [tokenizer.vocabulary[i] for i in ids]
        written[word] = [word] if UNK in tokens or not tokens else [token.removeprefix("##") for token in tokens]
    return written


def cleaned_words(texts: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Return all words of all texts as the tokenizer cleans them: case, accents, controls."""
    tokens = tokenizer.tokens(texts)
    text_of = np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))
    first = np.flatnonzero(np.diff((text_of << 32) | tokens.words, prepend=-1))
    last = np.append(first, len(text_of))[1:] - 1
    spans = zip(text_of[first], tokens.starts[first], tokens.ends[last], strict=True)
    return [tokenizer.clean(texts[text][start:end]) for text, start, end in spans]
