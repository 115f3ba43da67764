"""Read and check the vocabulary and settings of a BERT tokenizer."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.system.files import read_json

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNK, CLS, SEP, MASK)

_TXT, _CONFIG, _FULL = "vocab.txt", "tokenizer_config.json", "tokenizer.json"
_PARTS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}


def ids_of(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the id of each token. Raises UserError if this is not a BERT vocabulary."""
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary):
        if token in ids:
            raise UserError(
                f"the vocabulary has the token {token!r} twice, on lines {ids[token] + 1} and {index + 1}. Remove one."
            )
        if "\n" in token or "\r" in token:
            raise UserError(f"the token {token!r} on line {index + 1} of the vocabulary has a line break. Remove it.")
        ids[token] = index
    missing = [token for token in (PAD, UNK, CLS, SEP) if token not in ids]
    if missing:
        raise UserError(f"the vocabulary of {len(ids)} tokens lacks {', '.join(missing)}. Use a BERT vocabulary.")
    return ids


def check_case(vocabulary: Sequence[str]) -> None:
    """Raise UserError if the tokens have capital letters, which lower-cased text never has."""
    capitals = [
        token
        for token in vocabulary
        if token.lower() != token
        and not re.fullmatch(r"\[.*\]", token)
        and any(letter.lower() != letter and unicodedata.category(letter) == "Lu" for letter in token)
    ]
    if capitals:
        raise UserError(
            f"the vocabulary is cased ({len(capitals)} tokens with capital letters, such as {capitals[0]!r}), but "
            f'lower-casing is on. Set "do_lower_case": false in {_CONFIG}.'
        )


def read_directory(directory: Path) -> tuple[Path, list[str], bool, bool | None, bool]:
    """Read the vocabulary and the settings that Hugging Face writes; see `Tokenizer.from_directory`.

    Returns:
        The file of the vocabulary, the tokens, and the settings lower_case, strip_accents and
        tokenize_chinese_chars.

    Raises:
        UserError: a file is missing or damaged, it does not describe a BERT tokenizer, or files differ.
    """
    config, full = (_read_json(directory / name) for name in (_CONFIG, _FULL))
    path, tokens = directory / _TXT, _tokens_in(directory / _FULL, full)
    if tokens is None or path.is_file():
        lines = _lines(path)
        if tokens is not None and tokens != lines:
            raise UserError(f"{path} and {_FULL} have different tokens. Remove the file that is not the model's.")
        tokens = lines
    else:
        path = directory / _FULL
    for token in [*(full.get("added_tokens") or []), *(config.get("added_tokens_decoder") or {}).values()]:
        if token["content"] not in SPECIAL:
            raise UserError(
                f"{directory}: the added token {token['content']!r} is not supported. "
                f"Only {', '.join(SPECIAL)} may be added to the vocabulary."
            )
    normalizer = full.get("normalizer") or {}

    def setting(name: str, name_in_normalizer: str, default: bool | None) -> Any:
        value = config.get(name, normalizer.get(name_in_normalizer, default))
        if not (isinstance(value, bool) or value is default is None):
            raise UserError(f'{directory / _CONFIG}: "{name}" is {json.dumps(value)}. Use true or false.')
        return value

    lower_case, strip_accents = (
        setting("do_lower_case", "lowercase", True),
        setting("strip_accents", "strip_accents", None),
    )
    return path, tokens, lower_case, strip_accents, setting("tokenize_chinese_chars", "handle_chinese_chars", True)


def _lines(path: Path) -> list[str]:
    try:
        # Text mode reads \r\n as the end of a line; str.splitlines would also split at U+2028, which may be a token.
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}. Expected a BERT vocabulary, one token per line."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8, one token per line.") from error
    return lines[:-1] if lines[-1] == "" else lines


def _tokens_in(path: Path, full: dict[str, Any]) -> list[str] | None:
    """Return the vocabulary of tokenizer.json, if it has one. Raises UserError for another kind."""
    model = full.get("model")
    if model is None:
        return None
    kinds = [part.get("type") if isinstance(part, dict) else None for part in map(full.get, _PARTS)]
    options = {"unk_token": UNK, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    if kinds != list(_PARTS.values()) or any(model.get(name, value) != value for name, value in options.items()):
        kind = " + ".join(map(str, kinds))
        raise UserError(f"{path} has a {kind} tokenizer. Only BERT's is supported: {' + '.join(_PARTS.values())}.")
    ids = model.get("vocab")
    if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{path} has no vocabulary with the ids 0, 1, 2, … Expected what Hugging Face writes.")
    return sorted(ids, key=ids.__getitem__)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, "Expected the JSON that Hugging Face writes.") if path.exists() else {}
