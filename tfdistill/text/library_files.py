"""Read tokenizer.json of any kind, or vocab.json with merges.txt, and the settings that Hugging Face writes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import BertProcessing, RobertaProcessing

from tfdistill.errors import UserError
from tfdistill.system.files import read_json, read_utf8
from tfdistill.text.library_tokenizer import LibraryTokenizer

_ADVICE = "Expected what Hugging Face writes."
_LARGEST = 1 << 28  # bytes
# Names of special tokens, where no file gives them.
_NAMES = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "mask": ("<mask>", "[MASK]"),
    "cls": ("<s>", "[CLS]"),
    "sep": ("</s>", "[SEP]"),
}
_ONE_SEGMENT = ("roberta", "xlm-roberta", "camembert")  # values of model_type
_IN_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_library(directory: Path, *, lower_case: bool | None = None) -> LibraryTokenizer:
    """Read the tokenizer of a directory as transformers does.

    Args:
        directory: has tokenizer.json, or vocab.json and merges.txt.
        lower_case: overrides the setting in the files, if the tokenizer cleans texts as BERT does.

    Raises:
        UserError: a file is missing or damaged, or the tokenizer frames texts in another way than models of this project.
    """
    config, special, model = (
        _json(directory / name) for name in ("tokenizer_config.json", "special_tokens_map.json", "config.json")
    )
    own = config.get("auto_map")
    if isinstance(own, dict) and own.get("AutoTokenizer"):
        raise UserError(
            f'{directory / "tokenizer_config.json"}: "auto_map" names a tokenizer with its own code. Save it as tokenizer.json.'
        )
    if lower_case is not None:
        config = {**config, "do_lower_case": lower_case}
    path = directory / "tokenizer.json"
    if path.exists():
        library = _from_json(path, config)
    else:
        path = directory / "vocab.json"
        library = _from_merges(directory, config)
    vocabulary = library.get_vocab(with_added_tokens=True)
    names = {}
    for name, candidates in _NAMES.items():
        named = [_content(files.get(f"{name}_token")) for files in (config, special)]
        known = [token for token in (*named, *candidates) if token in vocabulary]
        if known:
            names[name] = known[0]
    _add(library, config.get("added_tokens_decoder"), directory)
    if library.post_processor is None and {"cls", "sep"} <= names.keys():
        sep, cls = ((names[name], vocabulary[names[name]]) for name in ("sep", "cls"))
        library.post_processor = RobertaProcessing(sep, cls) if cls[0] == "<s>" else BertProcessing(sep, cls)
    inputs = config.get("model_input_names")
    segments = "token_type_ids" in inputs if isinstance(inputs, list) else True
    try:
        return LibraryTokenizer(library, names=names, segments=segments and model.get("model_type") not in _ONE_SEGMENT)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _from_json(path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    content = read_json(path, _ADVICE, strict=True)
    normalizer, before = content.get("normalizer"), content.get("pre_tokenizer")
    if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
        normalizer.update({own: config[name] for name, own in _IN_NORMALIZER.items() if name in config})
    if (
        isinstance(before, dict)
        and before.get("type") == "ByteLevel"
        and isinstance(config.get("add_prefix_space"), bool)
    ):
        before["add_prefix_space"] = config["add_prefix_space"]
    return _built(lambda: tokenizers.Tokenizer.from_str(json.dumps(content)), path)


def _from_merges(directory: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """Return RoBERTa's tokenizer of vocab.json and merges.txt."""
    path = directory / "merges.txt"
    ids = read_json(directory / "vocab.json", _ADVICE, strict=True)
    lines = read_utf8(path, "Expected two tokens on each line.", _LARGEST).split("\n")
    merges = []
    for number, line in enumerate(lines, start=1):
        parts = line.rstrip("\r").split(" ")
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        if len(parts) != 2:
            raise UserError(f"{path}, line {number}: {line[:60]!r} is not two tokens. {_ADVICE}")
        merges.append((parts[0], parts[1]))
    if not all(type(number) is int and 0 <= number < 1 << 24 for number in ids.values()):
        raise UserError(f"{directory / 'vocab.json'} has a token without an id. {_ADVICE}")
    prefix = config.get("add_prefix_space") is True
    library = _built(lambda: tokenizers.Tokenizer(BPE(ids, merges)), path)
    library.pre_tokenizer = ByteLevel(add_prefix_space=prefix)
    special = {
        name: next((each for each in (_content(config.get(f"{name}_token")), *_NAMES[name]) if each in ids), None)
        for name in _NAMES
    }
    if special["cls"] is None or special["sep"] is None:
        raise UserError(f"{directory / 'vocab.json'} has no <s> and </s>. Use the vocabulary of a RoBERTa model.")
    library.post_processor = RobertaProcessing(
        (special["sep"], ids[special["sep"]]), (special["cls"], ids[special["cls"]]), add_prefix_space=prefix
    )
    # The text before <mask> loses its last space, as RoBERTa was trained.
    library.add_special_tokens(
        [
            tokenizers.AddedToken(token, lstrip=name == "mask", normalized=False, special=True)
            for name, token in special.items()
            if token is not None
        ]
    )
    return library


def _add(library: tokenizers.Tokenizer, decoder: Any, directory: Path) -> None:
    """Add tokens that tokenizer_config.json names and tokenizer.json lacks."""
    if not isinstance(decoder, dict):
        return
    known = library.get_added_tokens_decoder()
    for number, entry in sorted(decoder.items(), key=lambda item: int(item[0]) if item[0].isdecimal() else -1):
        content = _content(entry)
        if not isinstance(content, str) or not number.isdecimal():
            raise UserError(f"{directory}: `added_tokens_decoder` is malformed. {_ADVICE}")
        if int(number) in known:
            continue
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        token = tokenizers.AddedToken(
            content, **{name: entry[name] for name in flags if isinstance(entry.get(name), bool)}
        )
        (library.add_special_tokens if token.special else library.add_tokens)([token])
        if library.token_to_id(content) != int(number):
            raise UserError(
                f"{directory}: the added token {content[:60]!r} has the id {number}; {library.token_to_id(content)} is free. "
                "Use the tokenizer files of this model."
            )


def _content(token: Any) -> Any:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _built(make: Any, path: Path) -> tokenizers.Tokenizer:
    try:
        return make()
    except BaseException as error:  # the library raises plain exceptions, and panics that are not even such
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UserError(f"{path} is not a tokenizer: {str(error)[:200]}. {_ADVICE}") from error


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, _ADVICE, strict=True) if path.exists() or path.is_symlink() else {}
