"""Read the tokens that Hugging Face's files add to a vocabulary. The text is searched for them before it is split into words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.text.vocabulary import SPECIAL

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class AddedToken:
    """Describe a token that was added to a vocabulary, with the names of the `tokenizers` library.

    Args:
        content: the text that becomes the token.
        id: its id: that of the same token in the vocabulary, or one behind the vocabulary.
        single_word: whether the token is not found inside a word.
        lstrip: whether spaces before it belong to it.
        rstrip: whether spaces behind it belong to it.
        normalized: whether it is looked for in the cleaned text, in lower case for example.
        special: whether it is not part of the text, such as [MASK].
    """

    content: str
    id: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the entry of this token in `added_tokens_decoder` of tokenizer_config.json."""
        return {name: value for name, value in asdict(self).items() if name != "id"}


def added_tokens(
    tokens: Sequence[str],
    *,
    decoder: Any,
    full: Any,
    legacy: dict[str, Any],
    specials: Iterable[str],
    directory: Path,
) -> tuple[AddedToken, ...]:
    """Return the added tokens in the order of their ids.

    Args:
        tokens: the vocabulary.
        decoder: `added_tokens_decoder` of tokenizer_config.json, or None.
        full: `added_tokens` of tokenizer.json, or None.
        legacy: added_tokens.json, which counts only without `decoder`.
        specials: further special tokens; one that is not in the vocabulary gets the next id.
        directory: for messages.

    Raises:
        UserError: an entry is malformed, two differ, or ids are not those of the vocabulary or the next ones behind it.
    """
    known = {token: number for number, token in enumerate(tokens)}
    specials = list(specials)
    added: dict[str, AddedToken] = {}
    for token in [*_from_decoder(decoder, directory), *_from_full(full, directory)]:
        added.setdefault(token.content, token)
        if added[token.content].id != token.id:
            raise _error(directory, token.content, f"has the ids {added[token.content].id} and {token.id}")
    if decoder is None:
        for content, number in legacy.items():
            special = content in specials or content in SPECIAL
            flags = {"normalized": not special, "special": special}
            added.setdefault(content, _token({"content": content, "id": number, **flags}, directory))
    behind = max([len(tokens) - 1, *(token.id for token in added.values())]) + 1
    for content in specials:
        if content not in added:
            number = known.get(content, behind)
            behind += number == behind
            added[content] = AddedToken(content, number, normalized=False, special=True)
    ordered = sorted(added.values(), key=lambda token: token.id)
    expected = len(tokens)
    for token in ordered:
        if known.get(token.content, expected) != token.id:
            raise _error(
                directory, token.content, f"has the id {token.id}; {known.get(token.content, expected)} is free"
            )
        expected += token.content not in known
    return tuple(token for token in ordered if not (token.content in SPECIAL and token.content in known))


def _from_decoder(decoder: Any, directory: Path) -> Iterator[AddedToken]:
    if decoder is None:
        return
    if not isinstance(decoder, dict) or not all(isinstance(entry, dict) for entry in decoder.values()):
        raise UserError(f"{directory}: `added_tokens_decoder` is malformed. Expected what Hugging Face writes.")
    for number, entry in decoder.items():
        yield _token({**entry, "id": int(number) if number.isdecimal() and len(number) < 10 else number}, directory)


def _from_full(full: Any, directory: Path) -> Iterator[AddedToken]:
    if full is None:
        return
    if not isinstance(full, list) or not all(isinstance(entry, dict) for entry in full):
        raise UserError(
            f"{directory}: `added_tokens` of tokenizer.json is malformed. Expected what Hugging Face writes."
        )
    for entry in full:
        yield _token(entry, directory)


def _token(entry: dict[str, Any], directory: Path) -> AddedToken:
    content, number = entry.get("content"), entry.get("id")
    flags = {name: entry[name] for name in _FLAGS if name in entry}
    flags.setdefault("normalized", not flags.get("special", False))
    if (
        not isinstance(content, str)
        or not content
        or isinstance(number, bool)
        or not isinstance(number, int)
        or not all(isinstance(flag, bool) for flag in flags.values())
    ):
        shown = json.dumps(entry, default=str)[:100]
        raise UserError(f"{directory}: the added token {shown} is malformed. Expected what Hugging Face writes.")
    return AddedToken(content, number, **flags)


def _error(directory: Path, content: str, why: str) -> UserError:
    return UserError(f"{directory}: the added token {content[:60]!r} {why}. Use the tokenizer files of this model.")
