"""Make a WordPiece vocabulary of the words of some texts, for a student whose teacher has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import SPECIAL

_TEXTS = 50_000  # texts to read at most, evenly spaced


def learned_tokenizer(texts: Sequence[str], size: int = 20_000) -> Tokenizer:
    """Return a lower-casing tokenizer whose tokens are the frequent words and all characters of `texts`.

    Rare words become characters. The result depends on the texts alone, unlike that of the `tokenizers` library's trainer.

    Args:
        texts: the training texts.
        size: the largest number of words in the vocabulary; a word occurs at least twice.

    >>> learned_tokenizer(["So good!", "So bad"]).vocabulary[5:]
    ('!', 'a', 'b', 'd', 'g', 'o', 's', '##!', '##a', '##b', '##d', '##g', '##o', '##s', 'so')
    """
    clean, split = BertNormalizer(lowercase=True), BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts[:: -(-len(texts) // _TEXTS) or 1]:
        words.update(word for word, _ in split.pre_tokenize_str(clean.normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    frequent = sorted((word for word, count in words.items() if count > 1), key=lambda word: (-words[word], word))
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *frequent[:size]]
    return Tokenizer(list(dict.fromkeys(token for token in tokens if "\n" not in token and "\r" not in token)))
