"""The ids that a bundle's own vocabulary gives a text, by Hugging Face's `tokenizers`. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bundle.manifest import ADVICE, TOKENIZER, read_lines, read_object, short
from tfdistill.export.tflite.metadata import VOCABULARY

# As in tfdistill.text.tokenizer, whose import would bring TensorFlow.
PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MAX_CHARACTERS_PER_WORD = 100
_LEAST_LENGTH = 5  # for a pair of texts with [CLS] and [SEP]


def word_pieces(
    directory: Path, texts: Sequence[str], seconds: Sequence[str] | None, length: int
) -> list[tuple[list[int], list[int]]]:
    """(token ids, segment ids) of each text, or pair of texts, cut to `length` with [CLS] and [SEP].

    Args:
        directory: with vocab.txt and tokenizer_config.json.
        texts, seconds: as many of each; None without second texts.

    Raises:
        UserError: `tokenizers` is not installed, no such vocabulary or settings, too short a length, or text that cannot be
            written as UTF-8.
    """
    if length < _LEAST_LENGTH:
        raise UserError(f"{directory} takes {length} tokens; expected {_LEAST_LENGTH} or more; {ADVICE}")
    tokenizer = _tokenizer(directory)
    tokenizer.enable_truncation(length)
    for text in [*texts, *(seconds or [])]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"{short(text)} has a lone surrogate, which is no text; {ADVICE}") from error
    if seconds is None:
        found = [tokenizer.encode(text) for text in texts]
    else:
        found = [tokenizer.encode(first, second) for first, second in zip(texts, seconds, strict=True)]
    return [(each.ids, each.type_ids) for each in found]


def _tokenizer(directory: Path) -> Any:
    try:
        from tokenizers import Tokenizer
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer
        from tokenizers.processors import BertProcessing
    except ImportError as error:
        raise UserError(
            "tokenizers is not installed, and the golden texts are tokenized with it: pip install tokenizers"
        ) from error
    pieces, settings = read_lines(directory / VOCABULARY), read_object(directory / TOKENIZER)
    ids = {piece: number for number, piece in enumerate(pieces)}
    missing = [piece for piece in (PAD, UNK, CLS, SEP) if piece not in ids]
    if missing or len(ids) != len(pieces):
        what = f"lacks {', '.join(missing)}" if missing else "names a piece twice"
        raise UserError(f"{directory / VOCABULARY} {what}; expected a BERT vocabulary; {ADVICE}")
    lower, strip, chinese = (settings.get(key) for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"))
    if not isinstance(lower, bool) or not isinstance(chinese, bool) or not (strip is None or isinstance(strip, bool)):
        said = short({"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": chinese})
        raise UserError(f"{directory / TOKENIZER} says {said}; expected true or false for each; {ADVICE}")
    tokenizer = Tokenizer(WordPiece(ids, unk_token=UNK, max_input_chars_per_word=MAX_CHARACTERS_PER_WORD))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing((SEP, ids[SEP]), (CLS, ids[CLS]))
    tokenizer.add_special_tokens([piece for piece in (PAD, UNK, CLS, SEP, MASK) if piece in ids])
    return tokenizer
