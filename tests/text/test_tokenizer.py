from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdistill.errors import UserError
from tfdistill.text import character_classes as _unicode
from tfdistill.text import tokenizer as tokenize_module
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer

VECTORS = json.loads((Path(__file__).parent / "vectors" / "bert_tokenizer.json").read_text(encoding="utf-8"))
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "##ness", "a", "b", "##b"]


def of(options: dict) -> Tokenizer:
    options = dict(options)
    return Tokenizer(VECTORS["vocabularies"][options.pop("vocabulary")], **options)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(PIECES)


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
    assert {name: value.dtype for name, value in batch.items()} == {
        "token_ids": tf.int32,
        "padding_mask": tf.int32,
        "segment_ids": tf.int32,
    }
    assert batch["token_ids"].numpy().tolist() == [[2, 5, 6, 1, 3, 7, 8, 3, 0], [2, 3, 8, 3, 0, 0, 0, 0, 0]]
    assert batch["padding_mask"].numpy().tolist() == [[1, 1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0]]
    assert batch["segment_ids"].numpy().tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0, 0, 0, 0]]


def test_padding_id_need_not_be_zero():
    tokenizer = Tokenizer(["[UNK]", "a", "[SEP]", "[CLS]", "[PAD]"])
    assert tokenizer(["a"], length=5)["token_ids"].numpy().tolist() == [[3, 1, 2, 4, 4]]
    assert tokenizer(["a"], length=5)["segment_ids"].numpy().tolist() == [[0, 0, 0, 0, 0]]


def test_cuts_one_text_at_the_end(tokenizer):
    assert tokenizer(["a b a b a b"], length=4)["token_ids"].numpy().tolist() == [[2, 7, 8, 3]]


def test_works_in_a_tf_data_map_before_anything_else_was_built():
    tokenizer = Tokenizer(PIECES)
    data = tf.data.Dataset.from_tensor_slices(["good", "goodness a"]).batch(2)
    data = data.map(lambda text: tokenizer(text, text, length=7))
    assert data.element_spec["token_ids"].shape.as_list() == [None, 7]
    (batch,) = data.as_numpy_iterator()
    assert batch["token_ids"].tolist() == [[2, 5, 3, 5, 3, 0, 0], [2, 5, 6, 3, 5, 6, 3]]
    assert tokenizer(["good"], length=3)["token_ids"].numpy().tolist() == [[2, 5, 3]]  # nothing of the graph was kept


def test_tokenize_gives_ragged_ids_without_special_tokens(tokenizer):
    pieces = tokenizer.tokenize(tf.constant(["goodness [MASK]ab", "", " "]))
    assert pieces.dtype == tf.int32
    assert pieces.to_list() == [[5, 6, 4, 7, 9], [], []]


def test_bytes_that_are_no_utf8_are_dropped(tokenizer):
    assert tokenizer.tokenize(tf.constant([b"a\xffb \xc3", b"\xed\xa0\x80a"])).to_list() == [[7, 9], [7]]


def test_without_mask_token_its_name_is_text():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "mask", "[", "]"])
    assert tokenizer.mask_id is None
    assert tokenizer.tokenize(tf.constant(["[MASK]"])).to_list() == [[5, 4, 6]]


def test_odd_pieces_keep_their_ids_and_are_never_found():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "", "##", "\uf8f0", "\ue0006", "\u2028", "a b", "a"])
    assert tokenizer.tokenize(tf.constant(["a\uf8f0 ## \ue0006 \u2028 a b"])).to_list() == [[10, 1, 1, 1, 10, 1]]


def test_special_ids(tokenizer):
    ids = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    assert ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary == tuple(PIECES)


def reference_truncation(first: int, second: int, room: int) -> tuple[int, int]:
    """What is kept of a pair. Written from the description of `longest_first` in the Rust library."""
    if first + second <= room:
        return first, second
    if first > second:
        return reference_truncation(second, first, room)[::-1]
    kept = first
    other = kept if kept > room else max(kept, room - kept)
    if kept + other > room:
        kept = room // 2
        other = room - kept
    return kept, other


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=20), st.integers(2, 45))
def test_longest_first(lengths, room):
    first, second = (tf.constant(column, tf.int64) for column in zip(*lengths, strict=True))
    kept = tokenize_module.longest_first(first, second, room)
    expected = [reference_truncation(*pair, room) for pair in lengths]
    assert list(zip(*(part.numpy().tolist() for part in kept), strict=True)) == expected


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.integers(5, 40))
def test_any_text_gives_a_well_formed_row(pairs, length):
    tokenizer = SHARED
    batch = {
        name: value.numpy() for name, value in tokenizer(*map(list, zip(*pairs, strict=True)), length=length).items()
    }
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
def test_pieces_decode_to_the_text(texts):
    for text, ids in zip(texts, SHARED.tokenize(tf.constant(texts)).to_list(), strict=True):
        pieces = "".join(SHARED.vocabulary[i].removeprefix("##") for i in ids)
        assert pieces == text.replace(" ", "")


@settings(max_examples=8, deadline=None)  # every encode traces a graph
@given(st.lists(TEXT, max_size=6), st.integers(3, 20))
def test_encode_equals_call(texts, length):
    encoded = SHARED.encode(texts, max_length=length)
    assert len(encoded) == len(texts)
    if texts:
        batch = SHARED(texts, length=length)
        for row, ids, mask in zip(
            encoded.rows(range(len(texts))), batch["token_ids"], batch["padding_mask"], strict=True
        ):
            assert row.tolist() == ids.numpy()[mask.numpy() == 1].tolist()


SHARED = Tokenizer(VECTORS["vocabularies"]["uncased"])


def test_encode_keeps_the_order_over_many_batches(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenize_module, "_ENCODE_BATCH", 3)
    encoded = tokenizer.encode(["a " * n for n in range(20)], max_length=512)
    assert encoded.lengths.tolist() == list(range(2, 22))


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
    with pytest.raises(IndexError, match="of 2 rows"):
        encoded.take([2])


def test_empty_corpus(tokenizer):
    empty = tokenizer.encode([], max_length=8)
    assert len(empty) == 0 and empty.token_ids.shape == (0,) and empty.offsets.tolist() == [0]


def test_small_letters_follow_no_context():
    table = _unicode.small_letters()
    assert [chr(table[ord(letter)]) for letter in "AIΣẞЖ\u0130"] == ["a", "i", "σ", "ß", "ж", "\u0130"]
    assert _unicode.regex_class("41-5A 5F") == r"\x{41}-\x{5A}\x{5F}"


# Directories


def test_save_and_read(tmp_path):
    for options in (
        {"lower_case": True},
        {"lower_case": False, "strip_accents": True},
        {"lower_case": False, "tokenize_chinese_chars": False},
    ):
        tokenizer = Tokenizer([*PIECES, "\u2028", "##\u0085"], **options)
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


def write(directory: Path, config: object = None, full: object = None, vocabulary: str = "\n".join(PIECES)) -> Path:
    (directory / "vocab.txt").write_bytes(vocabulary.encode())
    for name, content in (("tokenizer_config.json", config), ("tokenizer.json", full)):
        if content is not None:
            (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def test_reads_without_settings_as_uncased(tmp_path):
    tokenizer = Tokenizer.from_directory(write(tmp_path))
    assert (tokenizer.lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars) == (True, None, True)
    assert tokenizer.vocabulary == tuple(PIECES)


def test_settings_come_from_the_config_then_the_normalizer(tmp_path):
    normalizer = {"lowercase": True, "strip_accents": False, "handle_chinese_chars": False}
    full = {"normalizer": normalizer, "added_tokens": [{"id": 0, "content": "[PAD]"}]}
    tokenizer = Tokenizer.from_directory(write(tmp_path, {"do_lower_case": False}, full))
    assert (tokenizer.lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars) == (False, False, False)
    assert Tokenizer.from_directory(tmp_path, lower_case=True).lower_case is True


def test_vocabulary_with_windows_line_ends(tmp_path):
    assert Tokenizer.from_directory(write(tmp_path, vocabulary="\r\n".join(PIECES) + "\r\n")).vocabulary == tuple(
        PIECES
    )


def test_fingerprint_changes_with_vocabulary_and_settings():
    prints = {
        Tokenizer(PIECES).fingerprint,
        Tokenizer([*PIECES, "c"]).fingerprint,
        Tokenizer(PIECES, lower_case=False).fingerprint,
        Tokenizer(PIECES, strip_accents=False).fingerprint,
        Tokenizer(PIECES, tokenize_chinese_chars=False).fingerprint,
    }
    assert len(prints) == 5
    assert Tokenizer(PIECES, strip_accents=True).fingerprint == Tokenizer(PIECES).fingerprint  # the same ids
    assert len(Tokenizer(PIECES).fingerprint) == 64


# Errors


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("", "vocab.txt: the vocabulary is empty"),
        ("[PAD]\n[UNK]\na\n", r"lacks \[CLS\], \[SEP\]"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "piece 'a' twice, on lines 5 and 7"),
        (
            "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nThe\n",
            "1 pieces with capital letters, such as 'The'.*\"do_lower_case\": false",
        ),
    ],
)
def test_refuses_vocabulary(tmp_path, vocabulary, message):
    with pytest.raises(UserError, match=message):
        Tokenizer.from_directory(write(tmp_path, vocabulary=vocabulary))


def test_capitals_are_fine_in_brackets_cased_or_without_small_letter():
    special = PIECES[:5]
    assert Tokenizer([*special, "[unused1]", "[EOS]", "\u211d", "Ⅷ"]).lower_case
    assert not Tokenizer([*special, "The"], lower_case=False).lower_case


def test_refuses_missing_and_binary_vocabulary(tmp_path):
    with pytest.raises(UserError, match=r"vocab\.txt is missing"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(UserError, match=r"not UTF-8 \(byte 6\)"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("config", "full", "message"),
    [
        ("{", None, "cannot read .*tokenizer_config.json"),
        ("[]", None, "holds a list"),
        ({"do_lower_case": "yes"}, None, '"do_lower_case" is "yes"; expected true or false'),
        (None, {"added_tokens": [{"id": 10, "content": "<new>"}]}, "added token '<new>'"),
        ({"added_tokens_decoder": {"10": {"content": "<new>"}}}, None, "added token '<new>'"),
    ],
)
def test_refuses_settings(tmp_path, config, full, message):
    with pytest.raises(UserError, match=message):
        Tokenizer.from_directory(write(tmp_path, config, full))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None], r"row 2 is None \(NoneType\)"),
        (["a", "b", float("nan")], r"row 3 is nan \(float\)"),
        (["a", "b\ud800"], r"row 2 has the lone surrogate '\\ud800' at character 1"),
        ("a", "received one text, 'a'"),
    ],
)
def test_refuses_what_is_no_text(tokenizer, texts, message):
    with pytest.raises(UserError, match=message):
        tokenizer.encode(texts, max_length=8)
    with pytest.raises(UserError, match=message):
        tokenizer(texts, length=8)


def test_refuses_short_lengths_and_uneven_columns(tokenizer):
    with pytest.raises(UserError, match="length is 2; expected at least 3"):
        tokenizer(["a"], length=2)
    with pytest.raises(UserError, match="length is 4; expected at least 5 for pairs"):
        tokenizer.encode(["a"], ["b"], max_length=4)
    with pytest.raises(UserError, match="received 1 first and 2 second texts"):
        tokenizer.encode(["a"], ["b", "c"], max_length=8)
    with pytest.raises(UserError, match="received 1 first and 2 second texts"):
        tokenizer(["a"], ["b", "c"], length=8)
