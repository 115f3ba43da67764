"""A BERT tokenizer inside tf.data, with the ids of Hugging Face's `BertTokenizer`.

Text is cleaned and split into words by regular expressions in the graph, and words into pieces by tensorflow-text's
FastWordpiece (Song et al. 2021, "Fast WordPiece Tokenization"). What a character is (punctuation, mark, control, small
letter) comes from `_unicode.py` and not from the locale or the installed ICU.

Known differences from `tokenizers` 0.23, over all characters and only when accents are stripped: 21 letters of five
rare scripts (Todhri, Tulu-Tigalari, Gurung Khema, Kirat Rai; U+11938), which ICU in tensorflow-text 2.21 decomposes
otherwise, and the order of neighbouring marks that Unicode 8 does not know. A word with these is [UNK] on both sides
unless the vocabulary has those very characters.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfdistill.errors import UserError
from tfdistill.system.files import atomic_write
from tfdistill.text import character_classes as _unicode
from tfdistill.text.encoded import Encoded

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MAX_CHARACTERS_PER_WORD = 100  # as in BERT: a longer word is [UNK]

# Private-use characters are removed from every text, so they are free to stand for the special tokens within a text.
_SENTINELS = {piece: chr(0xF8F0 + index) for index, piece in enumerate((PAD, UNK, CLS, SEP, MASK))}
_UNREACHABLE = "\ue000"  # begins the stand-ins of pieces that no text can contain
_ENCODE_BATCH = 1024


class Tokenizer:
    """BERT's tokenizer: clean, split into words, split words into pieces.

    Args:
        vocabulary: pieces in the order of their ids. [PAD], [UNK], [CLS] and [SEP] must be there; [MASK] may be.
        lower_case: make all letters small.
        strip_accents: remove accents. None: when lower-casing, as in BERT.
        tokenize_chinese_chars: make every Chinese character a word.

    Raises:
        UserError: the vocabulary lacks a special token, names a piece twice, or has capital letters
            while lower-casing is on.

    Example:
        >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "##ness"])
        >>> tokenizer(["Goodness!"], length=6)["token_ids"].numpy().tolist()
        [[2, 4, 5, 1, 3, 0]]
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ):
        self.vocabulary = tuple(vocabulary)
        self.lower_case = lower_case
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self._ids = _checked_ids(self.vocabulary)
        self._assemblers: dict[tuple[int, int], Callable[..., Any]] = {}
        if lower_case:
            _refuse_capitals(self.vocabulary)

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
        """The id of [MASK], None where the vocabulary has none."""
        return self._ids.get(MASK)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and the settings, as hexadecimal text."""
        settings = [self.lower_case, self._strips_accents, self.tokenize_chinese_chars]
        return hashlib.sha256(json.dumps([settings, self.vocabulary]).encode()).hexdigest()

    @classmethod
    def from_directory(cls, directory: str | os.PathLike, *, lower_case: bool | None = None) -> Tokenizer:
        """Read vocab.txt and the settings that Hugging Face keeps beside it.

        Settings come from tokenizer_config.json, else from the normalizer in tokenizer.json, else they are BERT's:
        lower-case. `lower_case`, where given, wins over both.

        Raises:
            UserError: a file is missing, damaged or not a BERT tokenizer's.
        """
        directory = Path(directory)
        settings = _read_settings(directory)
        lower = bool(settings["do_lower_case"]) if lower_case is None else lower_case
        path = directory / "vocab.txt"
        vocabulary = _read_vocabulary(path)
        try:
            return cls(
                vocabulary,
                lower_case=lower,
                strip_accents=settings["strip_accents"],
                tokenize_chinese_chars=bool(settings["tokenize_chinese_chars"]),
            )
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def save(self, directory: str | os.PathLike) -> None:
        """Write vocab.txt and tokenizer_config.json as Hugging Face's BertTokenizer reads them.

        A tokenizer.json in `directory` is removed: Hugging Face would read it instead, and it may be another
        tokenizer's.
        """
        directory = Path(directory)
        special = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP}
        if self.mask_id is not None:
            special["mask_token"] = MASK
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            **special,
        }
        atomic_write(directory / "vocab.txt", "".join(piece + "\n" for piece in self.vocabulary))
        atomic_write(directory / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
        (directory / "tokenizer.json").unlink(missing_ok=True)

    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Piece ids of `text` (batch,) string, without [CLS] and [SEP]: (batch, None) int32. Works in a graph."""
        words = self._words(tf.convert_to_tensor(text, tf.string))
        flat = words.flat_values
        too_long = tf.strings.length(flat, unit="UTF8_CHAR") > MAX_CHARACTERS_PER_WORD
        pieces = self._wordpiece.tokenize(tf.where(too_long, _SENTINELS[UNK], flat))
        return tf.RaggedTensor.from_row_splits(
            pieces.flat_values, tf.gather(pieces.row_splits, words.row_splits), validate=False
        )

    def __call__(
        self, text: tf.Tensor | Sequence[str], text_b: tf.Tensor | Sequence[str] | None = None, *, length: int
    ) -> dict[str, tf.Tensor]:
        """Model inputs for texts (batch,) or pairs of them: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

        What is longer than `length` is cut at the end; of a pair, the longer text is cut first.

        Returns:
            token_ids, padding_mask, segment_ids, each (batch, length) int32. Segment 1 is the second text with
            its [SEP].
        """
        text, text_b = _tensor(text), None if text_b is None else _tensor(text_b)
        if text_b is not None:
            _check_columns(text.shape[0], text_b.shape[0])
        token_ids, segment_ids = self._assemble(text, text_b, length)
        shape = (None, length)
        return {
            "token_ids": token_ids.to_tensor(self.pad_id, shape=shape),
            "padding_mask": tf.ones_like(token_ids).to_tensor(0, shape=shape),
            "segment_ids": segment_ids.to_tensor(0, shape=shape),
        }

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None, *, max_length: int) -> Encoded:
        """Tokenize a corpus of texts, or of pairs, to at most `max_length` tokens a row with [CLS] and [SEP].

        Raises:
            UserError: a row is no text, or cannot be written as UTF-8; columns of different length; max_length too
                short.
        """
        columns = [_utf8(texts)] if texts_b is None else [_utf8(texts), _utf8(texts_b)]
        _check_columns(len(columns[0]), len(columns[-1]))
        _check_length(max_length, pair=texts_b is not None)
        if not columns[0]:
            return Encoded.concatenate([])

        assemble = self._assembler(len(columns), max_length)
        data = tf.data.Dataset.from_tensor_slices(tuple(tf.constant(column) for column in columns))
        data = data.batch(_ENCODE_BATCH).map(assemble, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
        token_ids, segment_ids, lengths = zip(*data.as_numpy_iterator(), strict=True)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return Encoded(np.concatenate(token_ids), np.concatenate(segment_ids), offsets)

    def _assembler(self, columns: int, max_length: int) -> Callable[..., Any]:
        """What `encode` does to a batch of one or two columns of text, traced once."""
        if (columns, max_length) not in self._assemblers:

            def flat(*batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                token_ids, segment_ids = self._assemble(batch[0], batch[1] if columns == 2 else None, max_length)
                return token_ids.flat_values, segment_ids.flat_values, token_ids.row_lengths()

            signature = [tf.TensorSpec((None,), tf.string)] * columns
            self._assemblers[columns, max_length] = tf.function(flat, input_signature=signature, autograph=False)
        return self._assemblers[columns, max_length]

    def word_ids(self, encoded: Encoded) -> np.ndarray:
        """The number of the word that each token belongs to, (total,) int32; −1 for [CLS], [SEP] and [PAD].

        A word is what BERT splits text into before it looks for pieces: letters in a row, one punctuation mark, or one
        Chinese character (for words of several, see `tfdistill.text.offsets.segmented_word_ids`). Words are counted from 0
        in each text of a row, so that tokenizers with other vocabularies give the same words the same numbers.
        """
        special, inside = self._piece_kinds
        is_special, continues = special[encoded.token_ids], inside[encoded.token_ids]
        starts = ~(is_special | continues)
        number = np.cumsum(starts) - 1
        new_text = np.zeros(len(number), bool)
        new_text[encoded.offsets[:-1][encoded.lengths > 0]] = True
        new_text[1:] |= encoded.segment_ids[1:] != encoded.segment_ids[:-1]
        # How many words there were before the text that the token is in.
        before = (number + 1 - starts)[np.maximum.accumulate(np.where(new_text, np.arange(len(number)), 0))]
        return np.where(is_special, -1, number - before).astype(np.int32)

    @cached_property
    def _piece_kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """Which pieces are special and no part of a text, and which go on with a word; (vocabulary,) bool each."""
        return (
            np.array([piece in (PAD, CLS, SEP) for piece in self.vocabulary]),
            np.array([piece.startswith("##") for piece in self.vocabulary]),
        )

    def pieces(self, words: Sequence[str]) -> tf.RaggedTensor:
        """Piece ids (n, None) int32 of single words that are cleaned already: small letters, no accents, no spaces."""
        flat = tf.constant([word.encode("utf-8") for word in words], tf.string)
        too_long = tf.strings.length(flat, unit="UTF8_CHAR") > MAX_CHARACTERS_PER_WORD
        return self._wordpiece.tokenize(tf.where(too_long, _SENTINELS[UNK], flat))

    @property
    def _strips_accents(self) -> bool:
        return self.lower_case if self.strip_accents is None else self.strip_accents

    @cached_property
    def _wordpiece(self) -> tf_text.FastWordpieceTokenizer:
        # Built at first use (0.2 s for 30,000 pieces), outside any graph that is being traced.
        vocabulary = []
        for index, piece in enumerate(self.vocabulary):
            if piece in _SENTINELS:
                vocabulary.append(_SENTINELS[piece])
            elif piece in ("", "##") or any("\ue000" <= character <= "\uf8ff" for character in piece):
                vocabulary.append(f"{_UNREACHABLE}{index}")
            else:
                vocabulary.append(piece)
        with tf.init_scope():
            return tf_text.FastWordpieceTokenizer(
                vocabulary,
                unknown_token=_SENTINELS[UNK],
                max_bytes_per_word=4 * MAX_CHARACTERS_PER_WORD,  # longer words have been replaced already
                no_pretokenization=True,
                token_out_type=tf.int32,
            )

    @cached_property
    def _small_letters(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant(_unicode.small_letters())

    def _words(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Cleaned words of `text` (batch,), (batch, None) string, in the order of steps of the reference."""
        replace = tf.strings.regex_replace
        sentinels = "".join(_SENTINELS.values())
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")  # bytes that are no UTF-8 become U+FFFD, which goes
        text = replace(text, f"[{sentinels}]", _UNREACHABLE)
        for piece, sentinel in _SENTINELS.items():
            if piece in self._ids:
                text = replace(text, re.escape(piece), f" {sentinel} ")
        text = replace(text, f"[{_DROPPED}]+", "")
        text = replace(text, f"[{_SPACES}]+", " ")
        if self.tokenize_chinese_chars:
            text = replace(text, f"([{_CHINESE}])", r" \1 ")
        if self._strips_accents:
            text = replace(tf_text.normalize_utf8(text, "NFD"), f"[{_MARKS}]+", "")
        if self.lower_case:
            text = self._lower(replace(text, "\u0130", "i\u0307"))
        text = replace(text, f"([{_PUNCTUATION}])", r" \1 ")
        return tf.strings.split(text)

    def _lower(self, text: tf.Tensor) -> tf.Tensor:
        # tf.strings.lower follows the locale of the machine (a Turkish one has a small I without dot) and final sigmas.
        points = tf.strings.unicode_decode(text, "UTF-8")
        table = self._small_letters
        inside = points.flat_values < table.shape[0]
        small = tf.gather(table, tf.where(inside, points.flat_values, 0))
        small = points.with_flat_values(tf.where(inside, small, points.flat_values))
        return tf.strings.unicode_encode(small, "UTF-8")

    def _assemble(
        self, text: tf.Tensor, text_b: tf.Tensor | None, length: int
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Token ids and segment ids with special tokens, at most `length` a row, (batch, None) int32."""
        _check_length(length, pair=text_b is not None)
        first = self.tokenize(text)
        start, end = (tf.fill([first.nrows(), 1], special) for special in (self.cls_id, self.sep_id))
        if text_b is None:
            token_ids = tf.concat([start, _head(first, tf.minimum(first.row_lengths(), length - 2)), end], axis=1)
            return token_ids, tf.zeros_like(token_ids)
        second = self.tokenize(text_b)
        keep_first, keep_second = longest_first(first.row_lengths(), second.row_lengths(), length - 3)
        first = tf.concat([start, _head(first, keep_first), end], axis=1)
        second = tf.concat([_head(second, keep_second), end], axis=1)
        return (
            tf.concat([first, second], axis=1),
            tf.concat([tf.zeros_like(first), tf.ones_like(second)], axis=1),
        )


def longest_first(first: tf.Tensor, second: tf.Tensor, room: int) -> tuple[tf.Tensor, tf.Tensor]:
    """How many pieces (batch,) of each text to keep, of at most `room` together: the longer text loses first.

    Where both must be cut each keeps half, and the one that was longer (the second, of equals) the odd piece. As in
    `tokenizers`, a text that is itself longer than `room` leads to that half even when the other text needs less.
    """
    shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
    rest = tf.where(shorter > room, shorter, tf.maximum(shorter, room - shorter))
    halve = shorter + rest > room
    half = tf.cast(room // 2, shorter.dtype)
    fits = shorter + longer <= room
    keep_shorter = tf.where(fits, shorter, tf.where(halve, half, shorter))
    keep_longer = tf.where(fits, longer, tf.where(halve, half + room % 2, rest))
    second_is_longer = first <= second
    return tf.where(second_is_longer, keep_shorter, keep_longer), tf.where(second_is_longer, keep_longer, keep_shorter)


def _head(rows: tf.RaggedTensor, keep: tf.Tensor) -> tf.RaggedTensor:
    """The first `keep` (batch,) items of each row."""
    row = rows.value_rowids()
    position = tf.range(tf.size(row, out_type=tf.int64)) - tf.gather(rows.row_starts(), row)
    kept = tf.boolean_mask(rows.flat_values, position < tf.gather(keep, row))
    return tf.RaggedTensor.from_row_lengths(kept, keep, validate=False)


def _check_length(length: int, *, pair: bool) -> None:
    least, what = (5, "pairs of texts") if pair else (3, "texts")
    if length < least:
        raise UserError(f"length is {length}; expected at least {least} for {what} with [CLS] and [SEP]")


def _check_columns(first: int | None, second: int | None) -> None:
    if first is not None and second is not None and first != second:
        raise UserError(f"received {first} first and {second} second texts; expected as many of each")


def _tensor(text: tf.Tensor | Sequence[str]) -> tf.Tensor:
    return text if tf.is_tensor(text) else tf.constant(_utf8(text), tf.string)


def _utf8(texts: Sequence[str]) -> list[bytes]:
    """`texts` as UTF-8. Raises UserError that names the first row that is no text or cannot be encoded."""
    if isinstance(texts, str | bytes):
        raise UserError(f"received one text, {texts[:40]!r}; expected a list of texts")
    encoded = []
    for row, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise UserError(
                f"row {row} is {text!r} ({type(text).__name__}); expected a text (str), mend or drop the row"
            )
        try:
            encoded.append(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise UserError(
                f"row {row} has the lone surrogate {text[error.start]!a} at character {error.start}, which is no text; "
                "read the file as UTF-8, or drop the row"
            ) from error
    return encoded


def _checked_ids(vocabulary: tuple[str, ...]) -> dict[str, int]:
    """Ids of the pieces. Raises UserError for what is no BERT vocabulary."""
    if not vocabulary:
        raise UserError("the vocabulary is empty; expected one piece a line, such as [PAD]")
    ids: dict[str, int] = {}
    for index, piece in enumerate(vocabulary):
        if piece in ids:
            raise UserError(
                f"the vocabulary has the piece {piece!r} twice, on lines {ids[piece] + 1} and {index + 1}; "
                "expected every piece once"
            )
        if "\n" in piece or "\r" in piece:
            raise UserError(
                f"the piece {piece!r} on line {index + 1} of the vocabulary has a line break within; remove it"
            )
        ids[piece] = index
    missing = [piece for piece in (PAD, UNK, CLS, SEP) if piece not in ids]
    if missing:
        raise UserError(
            f"the vocabulary of {len(ids)} pieces lacks {', '.join(missing)}; expected a BERT vocabulary with "
            f"{PAD}, {UNK}, {CLS} and {SEP}"
        )
    return ids


def _refuse_capitals(vocabulary: tuple[str, ...]) -> None:
    capitals = [
        piece
        for piece in vocabulary
        if not re.fullmatch(r"\[.*\]", piece)
        and any(character.lower() != character and unicodedata.category(character) == "Lu" for character in piece)
    ]
    if capitals:
        raise UserError(
            f"the vocabulary is cased ({len(capitals)} pieces with capital letters, such as {capitals[0]!r}) but "
            'lower-casing is on; set "do_lower_case": false in tokenizer_config.json beside it'
        )


def _read_vocabulary(path: Path) -> list[str]:
    try:
        # Text mode takes \r\n for a line's end; str.splitlines would also split at U+2028, which is a piece.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; expected a BERT vocabulary with one piece a line") from error
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; expected a BERT vocabulary, one piece a line"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8, one piece a line") from error
    return lines[:-1] if lines[-1] == "" else lines


def _read_settings(directory: Path) -> dict[str, bool | None]:
    """The settings that the directory's files make, under the names of tokenizer_config.json."""
    config = _read_json(directory / "tokenizer_config.json")
    full = _read_json(directory / "tokenizer.json")
    normalizer = full.get("normalizer") or {}
    fields = (
        ("do_lower_case", "lowercase", True),
        ("strip_accents", "strip_accents", None),
        ("tokenize_chinese_chars", "handle_chinese_chars", True),
    )
    settings: dict[str, bool | None] = {}
    for in_config, in_normalizer, default in fields:
        value = config.get(in_config, normalizer.get(in_normalizer, default))
        if not (isinstance(value, bool) or (value is None and in_config == "strip_accents")):
            raise UserError(
                f'{directory / "tokenizer_config.json"}: "{in_config}" is {json.dumps(value)}; expected true or false'
            )
        settings[in_config] = value
    added = [*(full.get("added_tokens") or []), *(config.get("added_tokens_decoder") or {}).values()]
    for token in added:
        if token["content"] not in _SENTINELS:
            raise UserError(
                f"{directory}: the tokenizer has the added token {token['content']!r}, which is not supported; "
                f"expected no tokens but {', '.join(_SENTINELS)} added to vocab.txt"
            )
    return settings


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected the JSON that Hugging Face writes") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; expected a JSON object, as Hugging Face writes")
    return content


# All private-use characters go, except the sentinels that have just been put in.
_DROPPED = _unicode.regex_class(_unicode.DROPPED.replace("E000-F8FF", "E000-F8EF F8F5-F8FF"))
_SPACES = _unicode.regex_class(_unicode.SPACES)
_CHINESE = _unicode.regex_class(_unicode.CHINESE)
_MARKS = _unicode.regex_class(_unicode.MARKS)
_PUNCTUATION = _unicode.regex_class(_unicode.PUNCTUATION)
