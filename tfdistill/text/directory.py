"""Read the tokenizer of a model directory, as Hugging Face writes it; what cannot be honoured is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tfdistill.errors import UserError
from tfdistill.system.files import read_json, read_utf8
from tfdistill.system.notes import note
from tfdistill.text.added_tokens import AddedToken, added_tokens
from tfdistill.text.vocabulary import CLS, MASK, PAD, SEP, UNK

_TXT, _CONFIG, _FULL = "vocab.txt", "tokenizer_config.json", "tokenizer.json"
_LEGACY, _MAP, _MODEL = "added_tokens.json", "special_tokens_map.json", "config.json"
_LARGEST = 1 << 28  # bytes
_PARTS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}
_SPECIAL = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP, "mask_token": MASK}

# Classes whose tokens are BERT's.
_CLASSES = {
    *(
        f"{name}Tokenizer"
        for name in ("Bert", "DistilBert", "MobileBert", "Electra", "SqueezeBert", "RetriBert", "ConvBert")
    ),
    *(
        f"{name}TokenizerFast"
        for name in ("Bert", "DistilBert", "MobileBert", "Electra", "SqueezeBert", "RetriBert", "ConvBert")
    ),
    "PreTrainedTokenizer",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
}
# Classes of other tokens in vocab.txt.
_REFUSED = {"BertJapaneseTokenizer"}
_SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "sentencepiece.model")
_OPTIONS = {"unk_token": UNK, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
# Settings that can have one value alone, or none.
_ONLY = {
    "do_basic_tokenize": True,
    "do_word_tokenize": True,
    "do_subword_tokenize": True,
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "wordpiece",
    "split_special_tokens": False,
    "wordpieces_prefix": "##",
}


class Stored(NamedTuple):
    """Hold a vocabulary and its settings.

    Attributes:
        path: the file of the vocabulary.
        tokens: the tokens in the order of their ids, without added ones.
        lower_case: as in `Tokenizer`, like the next two.
        added: tokens that were added to the vocabulary.
    """

    path: Path
    tokens: list[str]
    lower_case: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool
    added: tuple[AddedToken, ...]


def is_berts(directory: Path) -> bool:
    """Return whether `read_directory` reads this tokenizer; else `tfdistill.text.library_files` does.

    Raises:
        UserError: a file is damaged, or there are files of SentencePiece alone.
    """
    full = _read_json(directory / _FULL)
    if full.get("model") is None:
        others = [name for name in _SENTENCEPIECE if _is_there(directory / name)]
        if _is_there(directory / _TXT):
            return True
        if _is_there(directory / "vocab.json") and _is_there(directory / "merges.txt"):
            return False
        if others:
            raise UserError(
                f"{directory / others[0]} is the only tokenizer file. Write tokenizer.json with transformers: "
                f'AutoTokenizer.from_pretrained("{directory}").save_pretrained("{directory}").'
            )
        return True
    name = _read_json(directory / _CONFIG).get("tokenizer_class")
    if isinstance(name, str) and name not in _CLASSES and name not in _REFUSED:
        return False
    return _is_wordpiece(full) and _is_berts_frame(full.get("post_processor"))


def _is_wordpiece(full: dict[str, Any]) -> bool:
    """Return whether the parts of a tokenizer.json are BERT's."""
    kinds = [part.get("type") if isinstance(part, dict) else None for part in map(full.get, _PARTS)]
    model = full["model"]
    return (
        kinds == list(_PARTS.values())
        and all(model.get(name, value) == value for name, value in _OPTIONS.items())
        and full["normalizer"].get("clean_text", True) is True
    )


def read_directory(directory: Path) -> Stored:
    """Read the vocabulary and the settings that Hugging Face writes; see `Tokenizer.from_directory`.

    Raises:
        UserError: a file is missing or damaged, it does not describe a BERT tokenizer, or files differ.
    """
    config, full, legacy, special = (_read_json(directory / name) for name in (_CONFIG, _FULL, _LEGACY, _MAP))
    path, tokens = directory / _TXT, _tokens_in(directory / _FULL, full)
    if tokens is None or _is_there(path):
        lines = _lines(path)
        if tokens is not None and tokens != lines:
            raise UserError(f"{path} and {_FULL} have different tokens. Remove the file that is not the model's.")
        tokens = lines
    else:
        path = directory / _FULL
    _check_kind(directory, config)
    added = added_tokens(
        tokens,
        decoder=config.get("added_tokens_decoder"),
        full=full.get("added_tokens"),
        legacy=legacy,
        specials=_specials(directory, special | {name: value for name, value in config.items() if value is not None}),
        directory=directory,
    )
    _check_settings(directory, config, full, [token.content for token in added])
    normalizer = _normalizer(directory, full)

    def setting(name: str, name_in_normalizer: str, default: bool | None) -> Any:
        value = config.get(name, normalizer.get(name_in_normalizer, default))
        if not (isinstance(value, bool) or value is default is None):
            raise UserError(f'{directory / _CONFIG}: "{name}" is {_short(value)}. Use true or false.')
        return value

    lower_case = setting("do_lower_case", "lowercase", True)
    strip_accents = setting("strip_accents", "strip_accents", None)
    chinese = setting("tokenize_chinese_chars", "handle_chinese_chars", True)
    return Stored(path, tokens, lower_case, strip_accents, chinese, added)


# --- what is supported ----------------------------------------------------------------------------------------------


def _check_kind(directory: Path, config: dict[str, Any]) -> None:
    """Raise UserError for a tokenizer of another class than BERT's, in either config."""
    model = _read_json(directory / _MODEL)
    for path, content in ((directory / _CONFIG, config), (directory / _MODEL, model)):
        name = content.get("tokenizer_class")
        if name is not None and not (isinstance(name, str) and name in _CLASSES):
            raise UserError(
                f'{path}: "tokenizer_class" is {_short(name)}. Other tokenizers than BERT\'s are read from tokenizer.json: '
                "write it with save_pretrained of transformers."
            )
    own = config.get("auto_map")
    if isinstance(own, dict) and own.get("AutoTokenizer"):
        raise UserError(
            f'{directory / _CONFIG}: "auto_map" names a tokenizer with its own code. Only BERT\'s is supported.'
        )


def _check_settings(directory: Path, config: dict[str, Any], full: dict[str, Any], added: list[str]) -> None:
    """Raise UserError for a setting that changes ids and is not supported; say what makes no difference to whole texts."""
    path = directory / _CONFIG
    for name, value in _ONLY.items():
        if config.get(name) not in (None, value):
            raise UserError(
                f'{path}: "{name}" is {_short(config[name])}. Only {_short(value)} is supported: remove it if the model was '
                "trained without."
            )
    kept = config.get("never_split")
    if kept and (not isinstance(kept, list) or any(token not in (*_SPECIAL.values(), *added) for token in kept)):
        raise UserError(
            f'{path}: "never_split" is {_short(kept)}. It is not supported: remove it if the model was trained without, or '
            "name these tokens in `additional_special_tokens`."
        )
    for name, what in (("padding_side", "padded"), ("truncation_side", "cut")):
        if config.get(name) not in (None, "right"):
            note(f'{path}: "{name}" is {_short(config[name])}, which is not supported: texts are {what} at the right.')
    _check_frame(directory / _FULL, full.get("post_processor"))


def _check_frame(path: Path, processor: Any) -> None:
    """Raise UserError if tokenizer.json frames texts in another way than [CLS] a [SEP] b [SEP]."""
    if not _is_berts_frame(processor):
        raise UserError(f'{path}: "post_processor" is not BERT\'s, {CLS} a {SEP} b {SEP}, the only supported one.')


def _is_berts_frame(processor: Any) -> bool:
    if processor is None:
        return True
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "BertProcessing":
        ends = map(processor.get, ("cls", "sep"))
        return [each[0] if isinstance(each, list) and each else None for each in ends] == [CLS, SEP]
    frames = [_template(processor.get(name)) for name in ("single", "pair")]
    berts = [[(CLS, 0), ("A", 0), (SEP, 0)], [(CLS, 0), ("A", 0), (SEP, 0), ("B", 1), (SEP, 1)]]
    return processor.get("type") == "TemplateProcessing" and frames == berts


def _template(parts: Any) -> list[tuple[Any, Any]]:
    pairs = []
    for part in parts if isinstance(parts, list) else []:
        for content in part.values() if isinstance(part, dict) else []:
            pairs.append((content.get("id"), content.get("type_id")) if isinstance(content, dict) else (None, None))
    return pairs


def _normalizer(directory: Path, full: dict[str, Any]) -> dict[str, Any]:
    normalizer = full.get("normalizer") or {}
    if not isinstance(normalizer, dict):
        raise UserError(
            f'{directory / _FULL}: "normalizer" is {_short(normalizer)}. Expected what Hugging Face writes.'
        )
    if normalizer.get("clean_text", True) is not True:
        raise UserError(
            f'{directory / _FULL}: "clean_text" is {_short(normalizer["clean_text"])}. Only true is supported.'
        )
    return normalizer


def _specials(directory: Path, content: dict[str, Any]) -> Iterator[str]:
    """Yield the special tokens besides BERT's. Raises UserError if BERT's have other names."""
    for name, expected in _SPECIAL.items():
        token = _name_of(content.get(name))
        if token not in (None, expected):
            raise UserError(
                f"{directory}: `{name}` is {_short(token)}. Only {expected} is supported: rename it in all files."
            )
    more = content.get("additional_special_tokens") or content.get("extra_special_tokens") or []
    if isinstance(more, dict):
        more = list(more.values())
    if not isinstance(more, list):
        raise UserError(f"{directory}: `additional_special_tokens` is {_short(more)}. Use a list of tokens.")
    for each in [*more, content.get("bos_token"), content.get("eos_token")]:
        token = _name_of(each)
        if token is not None and not (isinstance(token, str) and token):
            raise UserError(f"{directory}: the special token {_short(each)} is not a text. Use the token as a text.")
        if token is not None and token not in _SPECIAL.values():
            yield token


def _name_of(token: Any) -> Any:
    return token.get("content", token) if isinstance(token, dict) else token


# --- files ----------------------------------------------------------------------------------------------------------


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _lines(path: Path) -> list[str]:
    # `str.splitlines` would also split at U+2028, which may be a token.
    lines = read_utf8(path, "Expected a BERT vocabulary in UTF-8, one token per line.", _LARGEST).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _tokens_in(path: Path, full: dict[str, Any]) -> list[str] | None:
    """Return the WordPiece vocabulary of tokenizer.json, if it has one. Raises UserError for gaps between ids."""
    model = full.get("model")
    if model is None:
        return None
    ids = model.get("vocab")
    if (
        not isinstance(ids, dict)
        or any(type(number) is not int for number in ids.values())
        or sorted(ids.values()) != list(range(len(ids)))
    ):
        raise UserError(f"{path} has no vocabulary with the ids 0, 1, 2, … Expected what Hugging Face writes.")
    return sorted(ids, key=ids.__getitem__)


def _read_json(path: Path) -> dict[str, Any]:
    if not _is_there(path):
        return {}
    return read_json(path, "Expected the JSON that Hugging Face writes.", strict=True)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
