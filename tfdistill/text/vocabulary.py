"""Read and check the vocabulary and settings of a BERT tokenizer."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfdistill.errors import UserError

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNK, CLS, SEP, MASK)

_TXT, _CONFIG, _FULL = "vocab.txt", "tokenizer_config.json", "tokenizer.json"


class Settings(NamedTuple):
    """The settings of BERT's tokenizer; see `Tokenizer`."""

    lower_case: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool


def ids_of(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the id of each token. Raises UserError if this is not a BERT vocabulary."""
    ids: dict[str, int] = {}
    for index, token in enumerate(vocabulary):
        if token in ids:
            raise UserError(
                f"The vocabulary has the token {token!r} twice, on lines {ids[token] + 1} and {index + 1}. Remove one."
            )
        if "\n" in token or "\r" in token:
            raise UserError(f"The token {token!r} on line {index + 1} of the vocabulary has a line break. Remove it.")
        ids[token] = index
    missing = [token for token in (PAD, UNK, CLS, SEP) if token not in ids]
    if missing:
        raise UserError(f"The vocabulary of {len(ids)} tokens lacks {', '.join(missing)}. Use a BERT vocabulary.")
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
            f"The vocabulary is cased ({len(capitals)} tokens with capital letters, such as {capitals[0]!r}), but "
            f'lower-casing is on. Set "do_lower_case": false in {_CONFIG}.'
        )


def read_vocabulary(directory: Path) -> tuple[Path, list[str]]:
    """Return the file and the tokens, from vocab.txt or else from tokenizer.json.

    Raises:
        UserError: neither is there, one is damaged or no BERT vocabulary, or they differ.
    """
    path, full = directory / _TXT, directory / _FULL
    model = _read_json(full).get("model")
    tokens = None if model is None else _tokens_in(full, model)
    if not path.is_file() and tokens is not None:
        return full, tokens
    try:
        # Text mode reads \r\n as the end of a line; str.splitlines would also split at U+2028, which may be a token.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing. Expected a BERT vocabulary with one token per line.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Expected a BERT vocabulary.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8, one token per line.") from error
    lines = lines[:-1] if lines[-1] == "" else lines
    if tokens is not None and tokens != lines:
        raise UserError(f"{path} and {full} have different tokens. Remove the file that is not the model's.")
    return path, lines


def _tokens_in(path: Path, model: Any) -> list[str]:
    """Return the vocabulary of tokenizer.json. Raises UserError for a tokenizer that is not BERT's."""
    full = _read_json(path)
    kinds = [part.get("type") if isinstance(part, dict) else None for part in map(full.get, _PARTS)]
    options = {"unk_token": UNK, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    if kinds != list(_PARTS.values()) or any(model.get(name, value) != value for name, value in options.items()):
        raise UserError(
            f"{path} has a {' + '.join(map(str, kinds))} tokenizer. Only BERT's is supported: {' + '.join(_PARTS.values())}."
        )
    ids = model.get("vocab")
    if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{path} has no vocabulary with the ids 0, 1, 2, … Expected what Hugging Face writes.")
    return sorted(ids, key=ids.__getitem__)


_PARTS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}


def read_settings(directory: Path) -> Settings:
    """Return the settings of tokenizer_config.json, or else of tokenizer.json, or else BERT's.

    Raises:
        UserError: a file is damaged, a setting has no such value, or tokens were added.
    """
    config, full = _read_json(directory / _CONFIG), _read_json(directory / _FULL)
    normalizer = full.get("normalizer") or {}
    fields = (
        ("do_lower_case", "lowercase", True),
        ("strip_accents", "strip_accents", None),
        ("tokenize_chinese_chars", "handle_chinese_chars", True),
    )
    values: list[Any] = []
    for name, name_in_normalizer, default in fields:
        value = config.get(name, normalizer.get(name_in_normalizer, default))
        if not (isinstance(value, bool) or (value is None and name == "strip_accents")):
            raise UserError(f'{directory / _CONFIG}: "{name}" is {json.dumps(value)}. Use true or false.')
        values.append(value)
    for token in [*(full.get("added_tokens") or []), *(config.get("added_tokens_decoder") or {}).values()]:
        if token["content"] not in SPECIAL:
            raise UserError(
                f"{directory}: the added token {token['content']!r} is not supported. "
                f"Only {', '.join(SPECIAL)} may be added to the vocabulary."
            )
    return Settings(*values)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {path}: {error}. Expected the JSON that Hugging Face writes.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}. Expected the JSON object that Hugging Face writes.")
    return content
