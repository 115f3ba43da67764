"""BERT's tokenizer: Hugging Face's `tokenizers` library with a vocabulary and three settings."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from tfdistill.errors import UserError
from tfdistill.system.files import atomic_write
from tfdistill.system.notes import note
from tfdistill.text.added_tokens import AddedToken
from tfdistill.text.directory import is_berts, read_directory
from tfdistill.text.encoded import Encoded, Tokens
from tfdistill.text.vocabulary import CLS, MASK, PAD, SEP, SPECIAL, UNK, casing_line
from tfdistill.text.vocabulary import ids_of as vocabulary_ids
from tfdistill.text.words import continuations, word_starts

MAX_CHARACTERS_PER_WORD = 100  # As in BERT: a longer word is [UNK].
BATCH = 4096  # Texts whose results the library holds at the same time.

# Without a value the library warns in every forked process. Its threads do not exist there, so it must not wait for them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))


class Tokenizer:
    """Clean a text, split it into words and the words into tokens, as BERT does.

    Args:
        vocabulary: tokens in the order of their ids. [PAD], [UNK], [CLS] and [SEP] are required,
            [MASK] is optional.
        lower_case: whether letters become lower-case.
        strip_accents: whether accents are removed. None: only if `lower_case`, as in BERT.
        tokenize_chinese_chars: whether every Chinese character is a word.
        added: tokens that the text is searched for before it is split, in the order of their ids. Those
            that are not in `vocabulary` are behind it.

    Attributes:
        vocabulary: all tokens in the order of their ids, with added ones.

    Raises:
        UserError: the vocabulary lacks a special token, or has a token twice.

    Example:
        >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "##ness"])
        >>> tokenizer(["Goodness!"], length=6)["token_ids"].tolist()
        [[2, 4, 5, 1, 3, 0]]
    """

    is_wordpiece = True  # whether ids alone show the words, through tokens that begin with ##
    separators = 1  # special tokens between the texts of a pair
    segments = True  # whether the tokens of a second text have the segment 1

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        added: Sequence[AddedToken] = (),
    ):
        self.added = tuple(added)
        known = set(vocabulary)
        self.base = tuple(vocabulary)
        self.vocabulary = (*vocabulary, *(token.content for token in self.added if token.content not in known))
        self.lower_case = lower_case
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self._ids = vocabulary_ids(self.vocabulary)
        self._lock = threading.Lock()

    @property
    def pad_id(self) -> int:
        return self._ids[PAD]

    @property
    def unk_id(self) -> int:
        return self._ids[UNK]

    @property
    def cls_id(self) -> int:
        return self._ids[CLS]

    @property
    def sep_id(self) -> int:
        return self._ids[SEP]

    @property
    def mask_id(self) -> int | None:
        """The id of [MASK], None if the vocabulary lacks it."""
        return self._ids.get(MASK)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and the settings, as hexadecimal text."""
        strips = self.lower_case if self.strip_accents is None else self.strip_accents
        settings: list = [self.lower_case, strips, self.tokenize_chinese_chars]
        settings += [sorted(token.as_json().items()) for token in self.added]
        return hashlib.sha256(json.dumps([settings, self.vocabulary]).encode()).hexdigest()

    @classmethod
    def from_directory(cls, directory: str | os.PathLike, *, lower_case: bool | None = None) -> Tokenizer:
        """Read the vocabulary and the settings that Hugging Face writes.

        A BERT vocabulary is vocab.txt, or else the one in tokenizer.json. Settings come from
        tokenizer_config.json, then from the normalizer in tokenizer.json, then they are BERT's. A
        tokenizer.json of another kind, or vocab.json with merges.txt, becomes a `LibraryTokenizer`.

        Args:
            directory: the model's directory.
            lower_case: overrides the setting in the files.

        Raises:
            UserError: a file is missing, damaged, or describes a tokenizer that is not supported.
        """
        if not is_berts(Path(directory)):
            from tfdistill.text.library_files import read_library

            return read_library(Path(directory), lower_case=lower_case)
        stored = read_directory(Path(directory))
        try:
            tokenizer = cls(
                stored.tokens,
                lower_case=stored.lower_case if lower_case is None else lower_case,
                strip_accents=stored.strip_accents,
                tokenize_chinese_chars=stored.tokenize_chinese_chars,
                added=stored.added,
            )
        except UserError as error:
            raise UserError(f"{stored.path}: {error}") from error
        if line := casing_line(tokenizer.base, tokenizer.lower_case):
            note(f'{stored.path}: {line} Check "do_lower_case" in tokenizer_config.json.')
        return tokenizer

    def of(self, kept: Sequence[int]) -> Tokenizer:
        """Return a tokenizer with some of the tokens and the same settings.

        Args:
            kept: ascending ids, with those of the special and of the added tokens.
        """
        number = {self.vocabulary[i]: n for n, i in enumerate(kept)}
        return Tokenizer(
            [self.vocabulary[i] for i in kept if i < len(self.base)],
            lower_case=self.lower_case,
            strip_accents=self.strip_accents,
            tokenize_chinese_chars=self.tokenize_chinese_chars,
            added=[replace(token, id=number[token.content]) for token in self.added],
        )

    def save(self, directory: str | os.PathLike) -> None:
        """Write vocab.txt and tokenizer_config.json, which Hugging Face's BertTokenizer reads.

        Other tokenizer files in `directory` are removed: Hugging Face would read them too, and they may
        belong to another tokenizer.
        """
        directory = Path(directory)
        special = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP}
        if self.mask_id is not None:
            special["mask_token"] = MASK
        config: dict[str, Any] = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            **special,
        }
        if self.added:
            config["added_tokens_decoder"] = {str(token.id): token.as_json() for token in self.added}
        atomic_write(directory / "vocab.txt", "".join(token + "\n" for token in self.base))
        atomic_write(directory / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
        for name in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
            (directory / name).unlink(missing_ok=True)

    def to_json(self) -> str:
        """Return the content of a tokenizer.json, which the libraries `tokenizers` of several languages read."""
        library = tokenizers.Tokenizer.from_str(self._library.to_str())
        library.no_truncation()
        library.no_padding()
        return library.to_str(pretty=False)

    def __call__(
        self, texts: Sequence[str], texts_b: Sequence[str] | None = None, *, length: int
    ) -> dict[str, np.ndarray]:
        """Make padded model inputs from texts or pairs; cuts them as `encode` does.

        Returns:
            token_ids, padding_mask and segment_ids, each (n, length) int32. Segment 1 is the second
            text with its [SEP].

        Raises:
            UserError: as `encode`.
        """
        encoded = self.encode(texts, texts_b, max_length=length)
        padding_mask = np.arange(length) < encoded.lengths[:, None]
        token_ids = np.full(padding_mask.shape, self.pad_id, np.int32)
        segment_ids = np.zeros_like(token_ids)
        token_ids[padding_mask], segment_ids[padding_mask] = encoded.token_ids, encoded.segment_ids
        return {"token_ids": token_ids, "padding_mask": padding_mask.astype(np.int32), "segment_ids": segment_ids}

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None, *, max_length: int) -> Encoded:
        """Tokenize texts to [CLS] a [SEP], or pairs to [CLS] a [SEP] b [SEP].

        Args:
            texts: n texts.
            texts_b: the second texts of pairs.
            max_length: tokens kept of an example. The end is cut; of a pair, the longer text first.

        Raises:
            UserError: an example is not a text or has a lone surrogate, the columns differ in length, or
                `max_length` is too small.
        """
        least, what = (3, "texts") if texts_b is None else (4 + self.separators, "pairs of texts")
        if max_length < least:
            raise UserError(f"the length is {max_length}. Use at least {least} for {what} with [CLS] and [SEP].")
        first, second = checked(texts), None if texts_b is None else checked(texts_b)
        if second is not None and len(first) != len(second):
            raise UserError(f"received {len(first)} first and {len(second)} second texts. Use the same number of both.")
        batch: Sequence = first if second is None else list(zip(first, second, strict=True))
        return self._encoded(batch, max_length)

    def token_ids(self, texts: Iterable[str]) -> Encoded:
        """Tokenize whole texts without [CLS] and [SEP].

        Raises:
            UserError: an example is not a text, or has a lone surrogate.
        """
        return self._encoded(checked(texts), None)

    def _encoded(self, texts: Sequence, max_length: int | None) -> Encoded:
        ids, segments, lengths, uncut = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [0], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            encodings = self._encodings(batch, max_length)
            rows = [encoding.ids for encoding in encodings]
            lengths += map(len, rows)
            uncut.append(self._uncut(batch, [len(row) for row in rows], max_length))
            ids.append(flat(rows))
            is_pair = isinstance(texts[0], tuple)
            segments.append(flat([e.type_ids for e in encodings]) if is_pair else np.zeros_like(ids[-1]))
        offsets = np.cumsum(lengths, dtype=np.int64)
        return Encoded(np.concatenate(ids), np.concatenate(segments), offsets, uncut=np.concatenate(uncut))

    def _uncut(self, batch: Sequence, lengths: Sequence[int], max_length: int | None) -> np.ndarray:
        """Return the lengths (n,) that examples have without cutting. Only full ones can have been cut."""
        uncut = np.array(lengths, np.int64)
        full = [number for number, length in enumerate(lengths) if length == max_length]
        if full:
            special = 2 + self.separators if isinstance(batch[0], tuple) else 2
            uncut[full] = [len(each) + special for each in self._encodings([batch[i] for i in full], None)]
        return uncut

    def tokens(self, texts: Iterable[str]) -> Tokens:
        """Tokenize whole texts without [CLS] and [SEP], with the characters and the word of each token.

        A word is what BERT looks for tokens in: letters in a row, one punctuation mark, one Chinese
        character or one special token.

        Raises:
            UserError: an example is not a text, or has a lone surrogate.
        """
        texts = checked(texts)
        rows, numbers = [np.zeros((0, 4), np.int32)], [0]
        for start in range(0, len(texts), BATCH):
            for encoding in self._encodings(texts[start : start + BATCH], None, offsets=True):
                row = zip(encoding.ids, encoding.offsets, encoding.word_ids, strict=True)
                rows.append(np.array([(token, *span, word) for token, span, word in row], np.int32).reshape(-1, 4))
                numbers.append(len(encoding))
        ids, starts, ends, words = np.concatenate(rows).T.copy()
        return Tokens(ids, starts, ends, words, np.cumsum(numbers, dtype=np.int64))

    def word_token_ids(self, words: Sequence[str]) -> Encoded:
        """Tokenize words of a sentence one by one."""
        return self.token_ids(words)

    def require_wordpiece(self, what: str) -> None:
        """Raise UserError unless token ids alone show the words, which `what` says in three or more words is needed."""
        if not self.is_wordpiece:
            raise UserError(f"{what} only with a WordPiece vocabulary (vocab.txt), as BERT has. Use a model with one.")

    def clean(self, word: str) -> str:
        """Return one word as the tokenizer sees it: case, accents and control characters."""
        if word in SPECIAL or any(word == token.content for token in self.added):
            return word
        return self._library.normalizer.normalize_str(word).strip()

    def word_ids(self, encoded: Encoded) -> np.ndarray:
        """Number the words of encoded texts, from 0 in each text.

        Tokenizers with other vocabularies give the same words the same numbers.

        Returns:
            (total,) int32; −1 for [CLS], [SEP] and [PAD].
        """
        inside = ~np.isin(encoded.token_ids, (self.pad_id, self.cls_id, self.sep_id))
        starts = word_starts(encoded.token_ids, inside, self._continuations)
        new_text = np.zeros(len(starts), bool)
        new_text[encoded.offsets[:-1][encoded.lengths > 0]] = True
        new_text[1:] |= encoded.segment_ids[1:] != encoded.segment_ids[:-1]
        before = np.append(0, np.cumsum(starts))[:-1]  # words before each token
        first = np.maximum.accumulate(np.where(new_text, np.arange(len(starts)), 0))
        return np.where(inside, before + starts - 1 - before[first], -1).astype(np.int32)

    def words_of(self, token_ids: np.ndarray) -> list[str]:
        """Join the tokens (n,) of one example to words; each special token is a word."""
        tokens = [self.vocabulary[i] for i in token_ids]
        inside = np.array([token not in SPECIAL for token in tokens], bool)
        words: list[str] = []
        for token, begins in zip(tokens, ~inside | word_starts(token_ids, inside, self._continuations), strict=True):
            if begins:
                words.append(token)
            else:
                words[-1] += token[2:]
        return words

    @cached_property
    def _continuations(self) -> np.ndarray:
        return continuations(self.vocabulary)

    @cached_property
    def _library(self) -> tokenizers.Tokenizer:
        library = tokenizers.Tokenizer(
            WordPiece(
                {token: self._ids[token] for token in self.base},
                unk_token=UNK,
                max_input_chars_per_word=MAX_CHARACTERS_PER_WORD,
            )
        )
        library.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.tokenize_chinese_chars,
            strip_accents=self.strip_accents,
            lowercase=self.lower_case,
        )
        library.pre_tokenizer = BertPreTokenizer()
        library.post_processor = BertProcessing((SEP, self.sep_id), (CLS, self.cls_id))
        library.add_special_tokens([token for token in SPECIAL if token in self._ids])
        for token in self.added:
            flags = {name: value for name, value in token.as_json().items() if name != "content"}
            each = tokenizers.AddedToken(token.content, **flags)
            (library.add_special_tokens if token.special else library.add_tokens)([each])
            if library.token_to_id(token.content) != token.id:
                raise UserError(
                    f"the added token {token.content!r} cannot have the id {token.id}. Add it without flags."
                )
        return library

    def _encodings(self, batch: Sequence, max_length: int | None, offsets: bool = False) -> list[tokenizers.Encoding]:
        """Tokenize: cut to `max_length` with [CLS] and [SEP], or whole without them."""
        with self._lock:  # The library keeps the length as a setting.
            if max_length is None:
                self._library.no_truncation()
            else:
                self._library.enable_truncation(max_length)
            encode = self._library.encode_batch if offsets else self._library.encode_batch_fast
            return encode(batch, add_special_tokens=max_length is not None)


def flat(rows: Sequence[Iterable[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), np.int32)


def checked(texts: Iterable[str]) -> list[str]:
    """Return the texts as a list. Raises UserError for the first example that is not a text."""
    if isinstance(texts, str | bytes):
        raise UserError(f"received one text, {texts[:40]!r}. Use a list of texts.")
    texts = list(texts)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise UserError(
                f"example {number} is {text!r} ({type(text).__name__}), not a text. Fix or remove the example."
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"example {number} has the lone surrogate {text[error.start]!a} at character {error.start}. "
                "Read the file as UTF-8, or remove the example."
            ) from error
    return texts
