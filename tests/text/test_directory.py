"""Tokenizer files of Hugging Face: added tokens, settings that are honoured, and settings that are refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tokenizers
from tokenizers.implementations import BertWordPieceTokenizer

from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[unused1]",
    "good",
    "film",
    "##s",
    "a",
    "the",
    "covid",
    "!",
    "new",
]
TEXTS = ["A good film!", "[E1] good [E2] films", "COVID19 the covid", "<num> a <num>films", "[unused1] [MASK]", "[e1]"]
E1, E2 = {"content": "[E1]", "special": True, "normalized": False}, {"content": "[E2]", "special": True}
NUM = {"content": "<num>", "normalized": True, "lstrip": False, "rstrip": False, "single_word": False, "special": False}


def write(directory: Path, words: list[str] = WORDS, **files: object) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return directory


def reference(directory: Path, added: list[tokenizers.AddedToken]) -> list[list[int]]:
    """Return the ids of TEXTS from a tokenizer that is built by hand."""
    theirs = BertWordPieceTokenizer(str(directory / "vocab.txt"), lowercase=True)
    for token in added:
        (theirs.add_special_tokens if token.special else theirs.add_tokens)([token])
    return [encoding.ids for encoding in theirs.encode_batch(TEXTS)]


def ids(tokenizer: Tokenizer) -> list[list[int]]:
    encoded = tokenizer.encode(TEXTS, max_length=64)
    return [row.tolist() for row in encoded.rows(range(len(TEXTS)))]


SPECIAL_E = [tokenizers.AddedToken(f"[E{n}]", special=True, normalized=False) for n in (1, 2)]
PLAIN_NUM = tokenizers.AddedToken("<num>", normalized=True)


@pytest.mark.parametrize(
    ("files", "added"),
    [
        ({}, []),
        ({"tokenizer_config": {"added_tokens_decoder": {"15": E2, "14": E1, "16": NUM}}}, [*SPECIAL_E, PLAIN_NUM]),
        ({"added_tokens": {"<num>": 14}}, [PLAIN_NUM]),
        (
            {"added_tokens": {"[E2]": 15, "[E1]": 14}, "special_tokens_map": {"additional_special_tokens": ["[E1]", "[E2]"]}},
            SPECIAL_E,
        ),
        ({"special_tokens_map": {"additional_special_tokens": ["[E1]", {"content": "[E2]"}]}}, SPECIAL_E),
        ({"tokenizer_config": {"additional_special_tokens": ["[unused1]", "[E1]"]}},
         [tokenizers.AddedToken("[unused1]", special=True, normalized=False), SPECIAL_E[0]]),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"14": {**NUM, "content": "vid", "single_word": True}}}},
            [tokenizers.AddedToken("vid", single_word=True, normalized=True)],
        ),
    ],
)  # fmt: skip
def test_added_tokens_have_the_ids_that_the_library_gives(tmp_path, files, added):
    directory = write(tmp_path / "theirs", **files)
    tokenizer = Tokenizer.from_directory(directory)
    assert ids(tokenizer) == reference(directory, added)
    assert len(tokenizer.vocabulary) == len(WORDS) + sum(token.content not in WORDS for token in added)
    (tmp_path / "ours").mkdir()
    tokenizer.save(tmp_path / "ours")
    again = Tokenizer.from_directory(tmp_path / "ours")
    assert again.fingerprint == tokenizer.fingerprint and ids(again) == ids(tokenizer)


def test_added_tokens_of_tokenizer_json(tmp_path):
    whole = BertWordPieceTokenizer({word: n for n, word in enumerate(WORDS)}, lowercase=True)
    whole.add_special_tokens(SPECIAL_E)
    whole.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert ids(tokenizer) == [encoding.ids for encoding in whole.encode_batch(TEXTS)]
    assert tokenizer.vocabulary[-2:] == ("[E1]", "[E2]")


def test_added_tokens_are_words_and_survive_trimming(tmp_path):
    files = {"tokenizer_config": {"added_tokens_decoder": {"14": E1}}}
    tokenizer = Tokenizer.from_directory(write(tmp_path, **files))
    encoded = tokenizer.encode(["good[E1]films"], max_length=16)
    assert tokenizer.words_of(encoded.token_ids) == ["[CLS]", "good", "[E1]", "films", "[SEP]"]
    small = tokenizer.of([0, 1, 2, 3, 6, 7, 14])
    assert small.vocabulary == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "film", "[E1]")
    assert small.token_ids(["good [E1]"]).token_ids.tolist() == [4, 6]


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}},
        {"config": {"tokenizer_class": "BertJapaneseTokenizer", "model_type": "bert"}},
        {"tokenizer_config": {"tokenizer_class": "RobertaTokenizer"}},
        {"tokenizer_config": {"tokenizer_class": ["BertTokenizer"]}},
        {"tokenizer_config": {"word_tokenizer_type": "mecab"}},
        {"tokenizer_config": {"subword_tokenizer_type": "character"}},
        {"tokenizer_config": {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}},
        {"tokenizer_config": {"do_basic_tokenize": False}},
        {"tokenizer_config": {"never_split": ["covid"]}},
        {"tokenizer_config": {"unk_token": "<unk>"}},
        {"special_tokens_map": {"cls_token": {"content": "<s>"}}},
        {"tokenizer_config": {"pad_token": "<pad>"}},
        {"tokenizer_config": {"sep_token": "</s>"}},
        {"tokenizer_config": {"mask_token": "<mask>"}},
        {"tokenizer_config": {"split_special_tokens": True}},
        {"tokenizer_config": {"strip_accents": "no"}},
        {"tokenizer_config": {"tokenize_chinese_chars": 1}},
        {"tokenizer_config": {"additional_special_tokens": "x"}},
        {"tokenizer_config": {"additional_special_tokens": [1]}},
        {"tokenizer_config": {"added_tokens_decoder": {"99": E1}}},
        {"tokenizer_config": {"added_tokens_decoder": {"3": E1}}},
        {"tokenizer_config": {"added_tokens_decoder": {"x": E1}}},
        {"tokenizer_config": {"added_tokens_decoder": [E1]}},
        {"tokenizer_config": {"added_tokens_decoder": {"14": {"content": "x", "special": "yes"}}}},
        {"tokenizer_config": {"added_tokens_decoder": {"7": {"content": "[PAD]"}}}},
        {"added_tokens": {"x": "y"}},
        {"added_tokens": []},
        {"tokenizer": {"added_tokens": [1]}},
        {"tokenizer": {"normalizer": {"clean_text": False}}},
        {"tokenizer": {"post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}}},
        {"tokenizer": {"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}]}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, files):
    with pytest.raises(UserError) as caught:
        Tokenizer.from_directory(write(tmp_path, **files))
    message, content = str(caught.value), next(iter(files.values()))
    assert "\n" not in message and len(message) < 600
    name = next(iter(content), "added_tokens") if isinstance(content, dict) else "added_tokens"
    if name in ("added_tokens", "added_tokens_decoder", "x", "normalizer"):
        return
    assert name in message or "special token" in message


@pytest.mark.parametrize(
    "config",
    [
        {"do_basic_tokenize": True, "never_split": None, "model_max_length": 10**30},
        {"tokenizer_class": "DistilBertTokenizerFast", "clean_up_tokenization_spaces": True, "never_split": ["[MASK]"]},
        {"unk_token": {"content": "[UNK]", "lstrip": False}, "word_tokenizer_type": "basic", "bos_token": None},
    ],
)
def test_usual_settings_are_taken(tmp_path, config, capsys):
    tokenizer = Tokenizer.from_directory(write(tmp_path, tokenizer_config=config))
    assert ids(tokenizer) == reference(tmp_path, []) and not capsys.readouterr().err


CASED = [*WORDS[:6], "Good", "Film", "##s", "a", "The", "good", "!"]


@pytest.mark.parametrize(
    ("words", "lower_case", "warns"),
    [
        (WORDS, True, False),
        (WORDS, False, True),
        (CASED, False, False),
        (CASED, True, True),
        ([*WORDS, *(f"word{n}" for n in range(40)), "Berlin", "[unused2]", "Paris"], True, False),
        ([*WORDS[:5], "我", "你", "!"], False, False),
        ([*WORDS[:5], "\u211d", "Ⅷ"], True, False),
    ],
)
def test_casing_that_does_not_fit_the_vocabulary_is_a_line(tmp_path, words, lower_case, warns, capsys):
    directory = write(tmp_path, words, tokenizer_config={"do_lower_case": lower_case})
    assert Tokenizer.from_directory(directory).lower_case is lower_case
    printed = capsys.readouterr().err
    assert ("do_lower_case" in printed) is warns and printed.count("\n") <= 1


def test_left_padding_is_a_line(tmp_path, capsys):
    Tokenizer.from_directory(write(tmp_path, tokenizer_config={"truncation_side": "left", "padding_side": "left"}))
    printed = capsys.readouterr().err
    assert "truncation_side" in printed and "padding_side" in printed


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer_config.json", "tokenizer.json", "added_tokens.json"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    path = write(tmp_path) / name
    path.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "directory": os.mkdir, "device": lambda each: os.symlink("/dev/zero", each)}[kind](path)
    with pytest.raises(UserError, match=name):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', "\ufeff{}", '{"a": ' + "9" * 5000 + "}"]
)
def test_malformed_json_is_one_line(tmp_path, content):
    (write(tmp_path) / "tokenizer_config.json").write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"tokenizer_config\.json"):
        Tokenizer.from_directory(tmp_path)
