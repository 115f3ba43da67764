from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdistill.errors import UserError
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer

VECTORS = json.loads((Path(__file__).parent / "vectors" / "bert_tokenizer.json").read_text(encoding="utf-8"))
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "##ness", "a", "b", "##b"]


def of(options: dict) -> Tokenizer:
    options = dict(options)
    return Tokenizer(VECTORS["vocabularies"][options.pop("vocabulary")], **options)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: json.dumps(case["settings"]))
def test_ids_are_those_of_hugging_face(case):
    ours = of(case["settings"]).encode(VECTORS["texts"], max_length=512)
    different = [
        (text, ids.tolist(), expected)
        for text, ids, expected in zip(VECTORS["texts"], ours.rows(range(len(ours))), case["ids"], strict=True)
        if ids.tolist() != expected
    ]
    assert not different


def test_pairs_are_cut_as_by_hugging_face():
    case = VECTORS["cases"][0]
    first, second = zip(*VECTORS["pairs"], strict=True)
    assert sorted(case["pairs"], key=int) == ["5", "8", "13", "32"]
    tokenizer = of(case["settings"])
    for length, (ids, segments) in case["pairs"].items():
        ours = tokenizer.encode(first, second, max_length=int(length))
        assert [row.tolist() for row in ours.rows(range(len(first)))] == ids
        assert ours.segment_ids.tolist() == [segment for row in segments for segment in row]


def test_padded_batch(tokenizer):
    batch = tokenizer(["Goodness!", ""], ["a b", "b"], length=9)
    assert list(batch) == ["token_ids", "padding_mask", "segment_ids"]
    assert all(value.dtype == np.int32 for value in batch.values())
    assert batch["token_ids"].tolist() == [[2, 5, 6, 1, 3, 7, 8, 3, 0], [2, 3, 8, 3, 0, 0, 0, 0, 0]]
    assert batch["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0, 0, 0, 0]]


def test_padding_id_need_not_be_zero():
    tokenizer = Tokenizer(["[UNK]", "a", "[SEP]", "[CLS]", "[PAD]"])
    assert tokenizer(["a"], length=5)["token_ids"].tolist() == [[3, 1, 2, 4, 4]]
    assert tokenizer(["a"], length=5)["segment_ids"].tolist() == [[0, 0, 0, 0, 0]]


def test_cuts_one_text_at_the_end(tokenizer):
    assert tokenizer(["a b a b a b"], length=4)["token_ids"].tolist() == [[2, 7, 8, 3]]


def test_token_ids_have_no_special_tokens(tokenizer):
    encoded = tokenizer.token_ids(["goodness [MASK]ab", "", " "])
    assert encoded.token_ids.dtype == np.int32
    assert [ids.tolist() for ids in encoded.rows(range(3))] == [[5, 6, 4, 7, 9], [], []]


def test_without_mask_token_its_name_is_text():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "mask", "[", "]"])
    assert tokenizer.mask_id is None
    assert tokenizer.token_ids(["[MASK]"]).token_ids.tolist() == [5, 4, 6]


def test_odd_tokens_keep_their_ids_and_are_never_found():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "", "##", "\uf8f0", "\ue0006", "\u2028", "a b", "a"])
    assert tokenizer.token_ids(["a\uf8f0 ## \ue0006 \u2028 a b"]).token_ids.tolist() == [10, 1, 1, 1, 10, 1]


def test_special_ids(tokenizer):
    ids = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    assert ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary == tuple(VOCABULARY)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.integers(5, 40))
def test_any_text_gives_a_well_formed_row(pairs, length):
    tokenizer = SHARED
    batch = tokenizer(*map(list, zip(*pairs, strict=True)), length=length)
    for ids, mask, segments in zip(batch["token_ids"], batch["padding_mask"], batch["segment_ids"], strict=True):
        used = mask.sum()
        assert mask.tolist() == [1] * used + [0] * (length - used)
        assert 3 <= used <= length
        assert ids[0] == tokenizer.cls_id and ids[used - 1] == tokenizer.sep_id
        assert ids.min() >= 0 and ids.max() < len(tokenizer.vocabulary)
        assert (ids[used:] == tokenizer.pad_id).all() and (segments[used:] == 0).all()
        start = int(np.argmax(segments))
        assert segments[start:used].all() and ids[start - 1] == tokenizer.sep_id


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abcxyz 0,.", max_size=30), min_size=1, max_size=5))
def test_tokens_decode_to_the_text(texts):
    for text, ids in zip(texts, SHARED.token_ids(texts).rows(range(len(texts))), strict=True):
        assert "".join(SHARED.vocabulary[i].removeprefix("##") for i in ids) == text.replace(" ", "")


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT, max_size=6), st.integers(3, 20))
def test_encode_equals_call(texts, length):
    encoded = SHARED.encode(texts, max_length=length)
    assert len(encoded) == len(texts)
    if texts:
        batch = SHARED(texts, length=length)
        for row, ids, mask in zip(
            encoded.rows(range(len(texts))), batch["token_ids"], batch["padding_mask"], strict=True
        ):
            assert row.tolist() == ids[mask == 1].tolist()


SHARED = Tokenizer(VECTORS["vocabularies"]["uncased"])


def test_encode_keeps_the_order_over_many_batches(tokenizer, monkeypatch):
    monkeypatch.setattr("tfdistill.text.tokenizer.BATCH", 3)
    texts = ["a " * n for n in range(20)]
    assert tokenizer.encode(texts, max_length=512).lengths.tolist() == list(range(2, 22))
    assert tokenizer.encode(texts, texts, max_length=512).lengths.tolist() == list(range(3, 43, 2))
    tokens = tokenizer.tokens(["a", "", "a b", "ab a", ""])
    assert tokens.offsets.tolist() == [0, 1, 1, 3, 6, 6] and len(tokens) == 5
    assert tokens.words.tolist() == [0, 0, 1, 0, 0, 1]
    assert len(tokenizer.tokens([])) == 0


def test_encoded():
    encoded = Encoded(np.array([2, 5, 3, 2, 3], np.int32), np.array([0, 0, 1, 0, 0], np.int32), np.array([0, 3, 5]))
    assert len(encoded) == 2
    assert encoded.lengths.tolist() == [3, 2]
    assert [row.tolist() for row in encoded.rows([1, 0, -1])] == [[2, 3], [2, 5, 3], [2, 3]]
    taken = encoded.take([1, 0, 0])
    assert taken.token_ids.tolist() == [2, 3, 2, 5, 3, 2, 5, 3]
    assert taken.segment_ids.tolist() == [0, 0, 0, 0, 1, 0, 0, 1]
    assert taken.offsets.tolist() == [0, 2, 5, 8]
    both = Encoded.concatenate([encoded, encoded.take([]), taken])
    assert both.offsets.tolist() == [0, 3, 5, 7, 10, 13]
    assert both.token_ids.dtype == both.segment_ids.dtype == np.int32 and both.offsets.dtype == np.int64
    assert len(Encoded.concatenate([])) == 0
    with pytest.raises(IndexError, match="2"):
        encoded.take([2])


def test_empty_corpus(tokenizer):
    empty = tokenizer.encode([], max_length=8)
    assert len(empty) == 0 and empty.token_ids.shape == (0,) and empty.offsets.tolist() == [0]


# Characters and words of tokens


def characters(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    """(token, the characters that it comes from)."""
    tokens = tokenizer.tokens([text])
    rows = zip(tokens.ids, tokens.starts, tokens.ends, strict=True)
    return [(tokenizer.vocabulary[token], text[start:end]) for token, start, end in rows]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: json.dumps(case["settings"]))
def test_tokens_with_characters_and_words(case):
    tokenizer, texts = of(case["settings"]), VECTORS["texts"]
    tokens, encoded = tokenizer.tokens(texts), tokenizer.encode(texts, max_length=8192)
    inside = np.ones(len(encoded.token_ids), bool)
    inside[encoded.offsets[:-1]] = inside[encoded.offsets[1:] - 1] = False
    assert tokens.ids.tolist() == encoded.token_ids[inside].tolist()
    assert tokenizer.token_ids(texts).token_ids.tolist() == tokens.ids.tolist()
    for number, text in enumerate(texts):
        row = tokens.row(number)
        assert (row.starts >= 0).all() and (row.ends <= len(text)).all() and (row.starts < row.ends).all()
        assert (np.diff(row.starts) >= 0).all() and (np.diff(row.ends) >= 0).all()
    literal = np.isin(encoded.token_ids[inside], [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id])
    words = tokenizer.word_ids(encoded)
    assert (words[~inside] == -1).all() and (words[inside][literal] == -1).all()
    for number, text in enumerate(texts):
        if not any(name in text for name in ("[CLS]", "[SEP]", "[PAD]")):
            own = words[encoded.offsets[number] + 1 : encoded.offsets[number + 1] - 1]
            assert own.tolist() == tokens.row(number).words.tolist()


CHARACTERS = st.sampled_from(
    "aAbBé\u0301İßǅſΣςﬁ!.'-_«…\u200b\u00ad \t\u00a0\u3000中国\uf900한か\u3099🙂\u0378\ufffd\x00"
)


@given(st.lists(CHARACTERS, max_size=12).map("".join))
def test_any_text_has_tokens_with_characters(text):
    tokens = SHARED.tokens([text])
    assert tokens.ids.tolist() == SHARED.token_ids([text]).token_ids.tolist()
    assert (tokens.starts < tokens.ends).all()


def test_characters_of_each_token():
    tokenizer = Tokenizer([*VOCABULARY, "cafe", "!", "i", "##\u0307", "##s"])
    assert characters(tokenizer, "  Goodness! ab") == [
        ("good", "Good"), ("##ness", "ness"), ("!", "!"), ("a", "a"), ("##b", "b")
    ]  # fmt: skip
    # Accents and control characters at the end of a word belong to no token.
    assert characters(tokenizer, "Café cafe\u0301!") == [("cafe", "Café"), ("cafe", "cafe"), ("!", "!")]
    assert characters(tokenizer, "go\u00adod x[MASK]a") == [
        ("good", "go\u00adod"), ("[UNK]", "x"), ("[MASK]", "[MASK]"), ("a", "a")
    ]  # fmt: skip
    assert characters(tokenizer, "a\u200b b") == [("a", "a"), ("b", "b")]
    assert characters(tokenizer, "") == characters(tokenizer, " \u0301\x00") == []
    ligature = Tokenizer(tokenizer.vocabulary, strip_accents=False)
    assert characters(ligature, "İs") == [("i", "İ"), ("##\u0307", "İ"), ("##s", "s")]
    cased = Tokenizer([*VOCABULARY[:5], "Good", "##ness"], lower_case=False)
    assert characters(cased, "Goodness goodness") == [("Good", "Good"), ("##ness", "ness"), ("[UNK]", "goodness")]


def test_word_ids():
    tokenizer = Tokenizer([*VOCABULARY, "!"])
    encoded = tokenizer.encode(["goodness! a", "", "x [MASK]"], ["ab b", "a", ""], max_length=32)
    assert [tokenizer.vocabulary[i] for i in encoded.rows([0])[0]] == [
        "[CLS]", "good", "##ness", "!", "a", "[SEP]", "a", "##b", "b", "[SEP]"
    ]  # fmt: skip
    words = tokenizer.word_ids(encoded)
    assert words.dtype == np.int32
    assert [words[a:b].tolist() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)] == [
        [-1, 0, 0, 1, 2, -1, 0, 0, 1, -1],
        [-1, -1, 0, -1],
        [-1, 0, 1, -1, -1],
    ]
    assert tokenizer.word_ids(tokenizer.encode([], max_length=5)).tolist() == []


def test_words_of_token_ids(tokenizer):
    ids = [VOCABULARY.index(token) for token in ("[CLS]", "##b", "a", "##b", "##ness", "[MASK]", "##b", "b", "[SEP]")]
    assert tokenizer.words_of(np.array(ids)) == ["[CLS]", "##b", "abness", "[MASK]", "##b", "b", "[SEP]"]


# Directories


def test_save_and_read(tmp_path):
    for options in (
        {"lower_case": True},
        {"lower_case": False, "strip_accents": True},
        {"lower_case": False, "tokenize_chinese_chars": False},
    ):
        tokenizer = Tokenizer([*VOCABULARY, "\u2028", "##\u0085"], **options)
        tokenizer.save(tmp_path / "student")
        again = Tokenizer.from_directory(tmp_path / "student")
        assert again.vocabulary == tokenizer.vocabulary
        assert again.fingerprint == tokenizer.fingerprint
        assert again.strip_accents == tokenizer.strip_accents
    assert json.loads((tmp_path / "student" / "tokenizer_config.json").read_text())["do_lower_case"] is False


def test_save_removes_another_tokenizers_file(tmp_path, tokenizer):
    (tmp_path / "tokenizer.json").write_text("{}")
    tokenizer.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer_config.json", "vocab.txt"]


def write(directory: Path, config: object = None, full: object = None, vocabulary: str = "\n".join(VOCABULARY)) -> Path:
    (directory / "vocab.txt").write_bytes(vocabulary.encode())
    for name, content in (("tokenizer_config.json", config), ("tokenizer.json", full)):
        if content is not None:
            (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def test_reads_without_settings_as_uncased(tmp_path):
    tokenizer = Tokenizer.from_directory(write(tmp_path))
    assert (tokenizer.lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars) == (True, None, True)
    assert tokenizer.vocabulary == tuple(VOCABULARY)


def test_settings_come_from_the_config_then_the_normalizer(tmp_path):
    normalizer = {"lowercase": True, "strip_accents": False, "handle_chinese_chars": False}
    full = {"normalizer": normalizer, "added_tokens": [{"id": 0, "content": "[PAD]"}]}
    tokenizer = Tokenizer.from_directory(write(tmp_path, {"do_lower_case": False}, full))
    assert (tokenizer.lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars) == (False, False, False)
    assert Tokenizer.from_directory(tmp_path, lower_case=True).lower_case is True


def test_vocabulary_with_windows_line_ends(tmp_path):
    assert Tokenizer.from_directory(write(tmp_path, vocabulary="\r\n".join(VOCABULARY) + "\r\n")).vocabulary == tuple(
        VOCABULARY
    )


def test_fingerprint_changes_with_vocabulary_and_settings():
    prints = {
        Tokenizer(VOCABULARY).fingerprint,
        Tokenizer([*VOCABULARY, "c"]).fingerprint,
        Tokenizer(VOCABULARY, lower_case=False).fingerprint,
        Tokenizer(VOCABULARY, strip_accents=False).fingerprint,
        Tokenizer(VOCABULARY, tokenize_chinese_chars=False).fingerprint,
    }
    assert len(prints) == 5
    assert Tokenizer(VOCABULARY, strip_accents=True).fingerprint == Tokenizer(VOCABULARY).fingerprint  # the same ids
    assert len(Tokenizer(VOCABULARY).fingerprint) == 64


# Errors


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("", "vocab.txt"),
        ("[PAD]\n[UNK]\na\n", r"\[CLS\], \[SEP\]"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "'a'.* 5 and 7"),
    ],
)
def test_refuses_vocabulary(tmp_path, vocabulary, message):
    with pytest.raises(UserError, match=message):
        Tokenizer.from_directory(write(tmp_path, vocabulary=vocabulary))


def test_capitals_are_fine_in_brackets_cased_or_without_small_letter():
    special = VOCABULARY[:5]
    assert Tokenizer([*special, "[unused1]", "[EOS]", "\u211d", "Ⅷ"]).lower_case
    assert not Tokenizer([*special, "The"], lower_case=False).lower_case


def test_refuses_missing_and_binary_vocabulary(tmp_path):
    with pytest.raises(UserError, match=r"vocab\.txt"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(UserError, match=r"vocab\.txt.*byte 6"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("config", "full", "message"),
    [
        ("{", None, "tokenizer_config.json"),
        ("[]", None, "tokenizer_config.json"),
        ({"do_lower_case": "yes"}, None, '"do_lower_case" is "yes"'),
        (None, {"added_tokens": [{"id": 99, "content": "<new>"}]}, "<new>"),
        ({"added_tokens_decoder": {"99": {"content": "<new>"}}}, None, "<new>"),
    ],
)
def test_refuses_settings(tmp_path, config, full, message):
    with pytest.raises(UserError, match=message):
        Tokenizer.from_directory(write(tmp_path, config, full))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None], "2 is None"),
        (["a", "b", float("nan")], "3 is nan"),
        (["a", "b\ud800"], r"2 .*'\\ud800' at character 1"),
        ("a", "'a'"),
    ],
)
def test_refuses_what_is_no_text(tokenizer, texts, message):
    with pytest.raises(UserError, match=message):
        tokenizer.encode(texts, max_length=8)
    with pytest.raises(UserError, match=message):
        tokenizer(texts, length=8)


def test_refuses_short_lengths_and_uneven_columns(tokenizer):
    with pytest.raises(UserError, match=r"2.* 3 "):
        tokenizer(["a"], length=2)
    with pytest.raises(UserError, match=r"4.* 5 "):
        tokenizer.encode(["a"], ["b"], max_length=4)
    with pytest.raises(UserError, match="1 first and 2 second"):
        tokenizer.encode(["a"], ["b", "c"], max_length=8)


# tokenizer.json


def full(tokenizer: Tokenizer, **changes: object) -> dict:
    """What tokenizer.json of a BERT tokenizer holds."""
    content = {
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(VOCABULARY)}},
    }
    return {**content, **changes}


def test_reads_tokenizer_json_without_vocab_txt(tmp_path, tokenizer):
    (tmp_path / "tokenizer.json").write_text(json.dumps(full(tokenizer)))
    read = Tokenizer.from_directory(tmp_path)
    assert read.vocabulary == tuple(VOCABULARY) and read.strip_accents is False
    assert read.fingerprint == Tokenizer(VOCABULARY, strip_accents=False).fingerprint


def test_both_files_must_agree(tmp_path, tokenizer):
    assert Tokenizer.from_directory(write(tmp_path, full=full(tokenizer))).vocabulary == tuple(VOCABULARY)
    with pytest.raises(UserError, match=r"vocab\.txt.*tokenizer\.json"):
        Tokenizer.from_directory(write(tmp_path, vocabulary="\n".join([*VOCABULARY, "c"])))


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "BPE", "vocab": {}}, "pre_tokenizer": {"type": "ByteLevel"}},
        {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0]]}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"normalizer": None},
        {"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "a": 7}}},
        {"model": {"type": "WordPiece", "unk_token": "<unk>", "vocab": {"[PAD]": 0}}},
    ],
)
def test_refuses_other_kinds_of_tokenizer_json(tmp_path, tokenizer, change):
    (tmp_path / "tokenizer.json").write_text(json.dumps(full(tokenizer, **change)))
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)


# Processes


@pytest.mark.heavy
def test_forked_processes_tokenize_without_warning_or_deadlock():
    code = (
        "import os\nfrom tfdistill.text.tokenizer import Tokenizer\n"
        "t = Tokenizer(['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a'])\n"
        "def count(): return int(t.encode(['a a'] * 999, max_length=8).lengths.sum())\n"
        "assert count() == 3996\n"
        "child = os.fork()\n"
        "if child == 0:\n    os._exit(count() != 3996)\n"
        "assert os.waitpid(child, 0)[1] == 0 and count() == 3996\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
