from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.errors import UserError
from tfdistill.text.offsets import aligned_words, maximum_matching, pieces_with_offsets, segmented_word_ids
from tfdistill.text.tokenizer import Tokenizer

VECTORS = json.loads((Path(__file__).parent / "vectors" / "bert_tokenizer.json").read_text(encoding="utf-8"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "good", "##ness", "a", "b", "##b", "cafe", "un", "##a", "!", "'"]


def of(settings: dict) -> Tokenizer:
    settings = dict(settings)
    return Tokenizer(VECTORS["vocabularies"][settings.pop("vocabulary")], **settings)


def spans(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    """(piece, the characters that it stands for)."""
    found = pieces_with_offsets(tokenizer, [text])
    rows = zip(found.ids, found.starts, found.ends, strict=True)
    return [(tokenizer.vocabulary[piece], text[start:end]) for piece, start, end in rows]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: json.dumps(case["settings"]))
def test_pieces_are_those_of_the_tokenizer(case):
    tokenizer = of(case["settings"])
    texts = VECTORS["texts"]
    found = pieces_with_offsets(tokenizer, texts)
    expected = tokenizer.tokenize(tf.constant(texts)).to_list()
    assert [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == expected
    for row, text in enumerate(texts):
        starts, ends = (column[found.offsets[row] : found.offsets[row + 1]] for column in (found.starts, found.ends))
        assert (starts >= 0).all() and (ends <= len(text)).all() and (starts < ends).all()
        assert (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all()
    encoded = tokenizer.encode(texts, max_length=8192)
    inside = np.ones(len(encoded.token_ids), bool)
    inside[encoded.offsets[:-1]] = inside[encoded.offsets[1:] - 1] = False
    literal = np.isin(encoded.token_ids[inside], [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id])
    ours = tokenizer.word_ids(encoded)
    assert (ours[~inside] == -1).all() and (ours[inside][literal] == -1).all()
    plain = [row for row, text in enumerate(texts) if not any(name in text for name in ("[CLS]", "[SEP]", "[PAD]"))]
    for row in plain:
        words = ours[encoded.offsets[row] + 1 : encoded.offsets[row + 1] - 1]
        assert words.tolist() == found.words[found.offsets[row] : found.offsets[row + 1]].tolist()


CHARACTERS = st.sampled_from(
    "aAbBé\u0301İßǅſΣςﬁ!.'-_«…\u200b\u00ad \t\u00a0\u3000中国\uf900한か\u3099🙂\u0378\ufffd\x00"
)
UNCASED, CASED, CHINESE = (
    of({"vocabulary": "uncased", "lower_case": True}),
    of({"vocabulary": "cased", "lower_case": False}),
    of({"vocabulary": "uncased", "lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}),
)


@given(st.lists(CHARACTERS, max_size=12).map("".join), st.sampled_from([UNCASED, CASED, CHINESE]))
def test_any_text_gives_the_tokenizers_pieces(text, tokenizer):
    found = pieces_with_offsets(tokenizer, [text])
    assert found.ids.tolist() == tokenizer.tokenize(tf.constant([text]))[0].numpy().tolist()
    assert (found.starts < found.ends).all()


def test_characters_of_each_piece():
    tokenizer = Tokenizer(PIECES)
    assert spans(tokenizer, "  Goodness! ab") == [
        ("good", "Good"), ("##ness", "ness"), ("!", "!"), ("a", "a"), ("##b", "b")
    ]  # fmt: skip
    assert spans(tokenizer, "Café cafe\u0301!") == [("cafe", "Café"), ("cafe", "cafe\u0301"), ("!", "!")]
    assert spans(tokenizer, "go\u00adod x[MASK]a") == [
        ("good", "go\u00adod"), ("[UNK]", "x"), ("[MASK]", "[MASK]"), ("a", "a")
    ]  # fmt: skip
    assert spans(tokenizer, "a\u200b b") == [("a", "a\u200b"), ("b", "b")]
    assert spans(tokenizer, "") == spans(tokenizer, " \u0301\x00") == []
    ligature = Tokenizer([*SPECIAL, "i", "##\u0307", "##s"], strip_accents=False)
    assert spans(ligature, "İs") == [("i", "İ"), ("##\u0307", "İ"), ("##s", "s")]
    cased = Tokenizer([*SPECIAL, "Good", "##ness"], lower_case=False)
    assert spans(cased, "Goodness goodness") == [("Good", "Good"), ("##ness", "ness"), ("[UNK]", "goodness")]


def test_many_texts_keep_their_order(monkeypatch):
    monkeypatch.setattr("tfdistill.text.offsets._BATCH", 2)
    found = pieces_with_offsets(Tokenizer(PIECES), ["a", "", "a b", "ab a", ""])
    assert found.offsets.tolist() == [0, 1, 1, 3, 6, 6] and len(found) == 5
    assert found.words.tolist() == [0, 0, 1, 0, 0, 1]
    assert len(pieces_with_offsets(Tokenizer(PIECES), [])) == 0


# Words


def test_word_ids():
    tokenizer = Tokenizer(PIECES)
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


HAN = Tokenizer([*SPECIAL, *"我们在北京吃饭中国人", "good", "##ness", "。"])


def test_words_of_several_chinese_characters():
    segment = maximum_matching(["我们", "北京", "吃饭", "中国", "中国人"])
    assert segment("我们在北京吃饭。") == ["我们", "在", "北京", "吃饭", "。"]
    assert segment("中国人") == ["中国人"] and segment("") == []
    texts = ["我们在北京吃饭。", "goodness 中国人 x", "[SEP]中国"]
    encoded = HAN.encode(texts, max_length=16)
    assert HAN.word_ids(encoded)[1:9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]  # each character a word
    words = segmented_word_ids(HAN, encoded, texts, segment=segment)
    assert [words[a:b].tolist() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)] == [
        [-1, 0, 0, 1, 2, 2, 3, 3, 4, -1],
        [-1, 0, 0, 1, 1, 1, 2, -1],
        [-1, -1, 1, 1, -1],
    ]
    pair = HAN.encode(["中国", "我们"], ["吃饭在", "我"], max_length=7)
    words = segmented_word_ids(HAN, pair, ["中国", "我们"], ["吃饭在", "我"], segment=segment)
    assert words.tolist() == [-1, 0, 0, -1, 0, 0, -1, -1, 0, 0, -1, 0, -1]
    with pytest.raises(UserError, match="the segmenter turned 'goodness"):
        segmented_word_ids(HAN, encoded, texts, segment=str.split)


def test_aligned_words():
    small = Tokenizer([*SPECIAL, "g", "n", "a", "b", "!", *(f"##{letter}" for letter in "odnesab")])
    large = Tokenizer(PIECES)
    texts, others = ["goodness a!", "ab", ""], ["b b", "a", "goodness"]
    first, second = (each.encode(texts, others, max_length=64) for each in (small, large))
    found = aligned_words(first, second, small.word_ids(first), large.word_ids(second))
    for row, one, other in found:
        first_piece, second_piece = first.rows([row])[0][one], second.rows([row])[0][other]
        assert small.vocabulary[first_piece][0] == large.vocabulary[second_piece][0]
    assert found[:, 0].tolist() == [0] * 5 + [1, 1] + [2]
    assert found[:5, 1].tolist() == [1, 9, 10, 12, 13]  # goodness is 8 letters, then a, !, [SEP], b, b
    assert found[:5, 2].tolist() == [1, 3, 4, 6, 7]
    cut = small.encode(texts, others, max_length=10)
    kept = aligned_words(cut, second, small.word_ids(cut), large.word_ids(second))
    assert {tuple(pair[[0, 2]]) for pair in kept} < {tuple(pair[[0, 2]]) for pair in found}
    with pytest.raises(UserError, match="encodings of 3 and 1 rows"):
        aligned_words(first, second.take([0]), small.word_ids(first), large.word_ids(second.take([0])))
