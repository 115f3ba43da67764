"""Use a tokenizer of any kind that tokenizer.json describes: byte-level BPE, Unigram, WordPiece with its own cleaning."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tfdistill.errors import UserError
from tfdistill.system.files import atomic_write
from tfdistill.text.encoded import TEXT_SHIFT, Encoded, Tokens
from tfdistill.text.tokenizer import BATCH, Tokenizer, checked, flat
from tfdistill.text.words import clean_word_spans

_MOST = 1 << 24  # ids; the largest vocabularies have a million
_SPECIAL = ("pad", "unk", "cls", "sep", "mask")


class LibraryTokenizer(Tokenizer):
    """Tokenize as the `tokenizers` library does with the settings of a tokenizer.json.

    Texts are framed as `cls a sep`, pairs as `cls a sep b sep` or with two `sep` between the texts, as RoBERTa does. Words
    are those of BERT's splitting, so that tokens of different kinds are aligned; a token belongs to the word of its first
    character that is not white space.

    Args:
        library: the tokenizer; it belongs to this object from now on.
        names: the tokens that are "pad", "unk" and "mask", as far as there are any.
        segments: whether the tokens of a second text have the segment 1, if the library numbers them so.

    Raises:
        UserError: texts are framed in another way.
    """

    is_wordpiece = False

    def __init__(self, library: tokenizers.Tokenizer, *, names: Mapping[str, str], segments: bool):
        library.no_padding()
        library.no_truncation()
        ids = library.get_vocab(with_added_tokens=True)
        if max(ids.values(), default=0) >= _MOST:
            raise UserError(
                f"a token has the id {max(ids.values())}, expected less than {_MOST}. Expected what Hugging Face writes."
            )
        tokens = [""] * (max(ids.values(), default=-1) + 1)
        for token, number in ids.items():
            tokens[number] = token
        self.vocabulary = self.base = tuple(tokens)
        self.added, self.lower_case, self.strip_accents, self.tokenize_chinese_chars = (), False, None, True
        self._ids, self._lock, self._library = ids, threading.Lock(), library
        self._cls, self._sep, self.separators, numbered = _frame(library)
        self.segments = segments and numbered
        self._names = {name: token for name, token in names.items() if token in ids}

    @property
    def pad_id(self) -> int:
        """The id of padding; 0 if the files name none."""
        return self._id("pad", 0)

    @property
    def unk_id(self) -> int:
        """The id of what the vocabulary lacks; -1 if there is none."""
        return self._id("unk", -1)

    @property
    def cls_id(self) -> int:
        return self._cls

    @property
    def sep_id(self) -> int:
        return self._sep

    @property
    def mask_id(self) -> int | None:
        return self._ids[self._names["mask"]] if "mask" in self._names else None

    def _id(self, name: str, default: int) -> int:
        return self._ids[self._names[name]] if name in self._names else default

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of tokenizer.json and the settings, as hexadecimal text."""
        return hashlib.sha256(json.dumps([self.to_json(), self._names, self.segments]).encode()).hexdigest()

    def _content(self) -> str:
        with self._lock:
            self._library.no_truncation()
            return self._library.to_str()

    def of(self, kept: Sequence[int]) -> Tokenizer:
        """Raise UserError: only WordPiece vocabularies are trimmed."""
        self.require_wordpiece("A vocabulary is trimmed")
        raise AssertionError

    def save(self, directory: str | os.PathLike) -> None:
        """Write tokenizer.json and tokenizer_config.json, and remove other tokenizer files."""
        directory = Path(directory)
        special = {**self._names, "cls": self.vocabulary[self._cls], "sep": self.vocabulary[self._sep]}
        added = self._library.get_added_tokens_decoder()
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", *(["token_type_ids"] if self.segments else []), "attention_mask"],
            **{f"{name}_token": special[name] for name in _SPECIAL if name in special},
            "added_tokens_decoder": {str(number): _as_json(token) for number, token in sorted(added.items())},
        }
        atomic_write(directory / "tokenizer.json", self.to_json())
        atomic_write(directory / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
        for name in ("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
            (directory / name).unlink(missing_ok=True)

    def _encoded(self, texts: Sequence, max_length: int | None) -> Encoded:
        empty = np.zeros(0, np.int32)
        ids, segments, places, lengths, uncut = [empty], [empty], [empty], [0], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            encodings = self._encodings(batch, max_length, offsets=True)
            rows = [encoding.ids for encoding in encodings]
            lengths += map(len, rows)
            uncut.append(self._uncut(batch, [len(row) for row in rows], max_length))
            ids.append(flat(rows))
            places += _places(batch, encodings)
            numbered = self.segments and isinstance(texts[0], tuple)
            segments.append(flat([e.type_ids for e in encodings]) if numbered else np.zeros_like(ids[-1]))
        offsets = np.cumsum(lengths, dtype=np.int64)
        return Encoded(
            np.concatenate(ids),
            np.concatenate(segments),
            offsets,
            uncut=np.concatenate(uncut),
            places=np.concatenate(places),
        )

    def _encodings(self, batch: Sequence, max_length: int | None, offsets: bool = False) -> list[tokenizers.Encoding]:
        try:
            return super()._encodings(batch, max_length, offsets)
        except (
            BaseException
        ) as error:  # as in `library_files`; for example a Unigram vocabulary without an unknown token
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise UserError(
                f"The tokenizer cannot read the texts: {str(error)[:200]}. Correct its tokenizer.json."
            ) from error

    def tokens(self, texts: Iterable[str]) -> Tokens:
        """Tokenize whole texts without special tokens, with the characters and the word of each token.

        White space at the beginning of a token does not count as its character.
        """
        texts = checked(texts)
        rows, numbers = [np.zeros((0, 4), np.int32)], [0]
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            encodings = self._encodings(batch, None, offsets=True)
            for text, encoding, places in zip(batch, encodings, _places(batch, encodings), strict=True):
                spans = [_trimmed(text, *span) for span in encoding.offsets]
                last = max(int(places.max(initial=0)) - 1, 0)
                words = np.where(places < 0, last, places - 1).tolist()
                row = zip(encoding.ids, spans, words, strict=True)
                rows.append(np.array([(token, *span, word) for token, span, word in row], np.int32).reshape(-1, 4))
                numbers.append(len(encoding))
        ids, starts, ends, words = np.concatenate(rows).T.copy()
        return Tokens(ids, starts, ends, words, np.cumsum(numbers, dtype=np.int64))

    def word_token_ids(self, words: Sequence[str]) -> Encoded:
        """Tokenize words of a sentence one by one, each as if a space preceded it, as transformers does for split texts."""
        before = self._library.pre_tokenizer
        prefix = isinstance(before, tokenizers.pre_tokenizers.ByteLevel) and not before.add_prefix_space
        return self.token_ids([f" {word}" if prefix and word[:1] != " " else word for word in checked(words)])

    def clean(self, word: str) -> str:
        """Return one word as the tokenizer sees it."""
        normalizer = self._library.normalizer
        return word if normalizer is None or word in self._ids else normalizer.normalize_str(word).strip()

    def word_ids(self, encoded: Encoded) -> np.ndarray:
        """Number the words of encoded texts, from 0 in each text; -1 outside of words.

        Raises:
            UserError: the examples were not tokenized as texts, so that their words are not known.
        """
        if encoded.places is None:
            raise UserError(
                "These examples show no words of other tokens. Use a teacher with the student's vocabulary."
            )
        places = encoded.places
        return np.where(places < 0, -1, (places & ((1 << TEXT_SHIFT) - 1)) - 1).astype(np.int32)

    def words_of(self, token_ids: np.ndarray) -> list[str]:
        """Raise UserError: ids of other tokens do not show the words."""
        self.require_wordpiece("Words are read from token ids")
        raise AssertionError


def _frame(library: tokenizers.Tokenizer) -> tuple[int, int, int, bool]:
    """Return the ids of the first and last special token, the number of separators in a pair, and whether segments differ."""
    try:
        single, pair = library.encode("a"), library.encode("a", "a")
    except BaseException as error:  # as in `library_files`
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UserError(f"it cannot read texts: {str(error)[:200]}. Expected what Hugging Face writes.") from error
    around = [number for number, text in zip(single.ids, single.sequence_ids, strict=True) if text is None]
    marks = [
        number if text is None else ("a", "b")[text] for number, text in zip(pair.ids, pair.sequence_ids, strict=True)
    ]
    marks = [mark for place, mark in enumerate(marks) if isinstance(mark, int) or mark not in marks[:place]]
    if len(around) == 2:
        cls, sep = around
        for separators in (1, 2):
            if marks == [cls, "a", *[sep] * separators, "b", sep]:
                second = [kind for kind, text in zip(pair.type_ids, pair.sequence_ids, strict=True) if text == 1]
                return cls, sep, separators, second[0] == 1
    shown = [library.id_to_token(mark) if isinstance(mark, int) else mark for mark in marks]
    raise UserError(
        f'"post_processor" frames pairs as {" ".join(map(str, shown))}. Supported are {"[CLS] a [SEP] b [SEP]"} and '
        "<s> a </s></s> b </s>."
    )


def _places(batch: Sequence, encodings: Sequence[tokenizers.Encoding]) -> list[np.ndarray]:
    """Return text number << TEXT_SHIFT | word + 1 of each token; -1 outside of words."""
    if not batch:
        return []
    is_pair = isinstance(batch[0], tuple)
    texts = [text for pair in batch for text in pair] if is_pair else batch
    ends = [np.array([end for _, end in spans], np.int64) for spans in clean_word_spans(texts)]
    places = []
    for number, encoding in enumerate(encodings):
        starts = np.array([start for start, _ in encoding.offsets], np.int64)
        of_text = np.array([-1 if text is None else text for text in encoding.sequence_ids], np.int64)
        place = np.full(len(starts), -1, np.int32)
        for text in range(2 if is_pair else 1):
            own = ends[2 * number + text if is_pair else number]
            inside = np.flatnonzero(of_text == text)
            word = np.searchsorted(own, starts[inside], side="right")  # the first word that ends behind the start
            place[inside] = np.where(word < len(own), (text << TEXT_SHIFT) | (word + 1), -1)
        places.append(place)
    return places


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end - 1 and text[start].isspace():
        start += 1
    return start, end


def _as_json(token: tokenizers.AddedToken) -> dict[str, Any]:
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: getattr(token, name) for name in flags}
