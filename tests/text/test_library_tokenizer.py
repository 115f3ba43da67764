"""Tokenizers of other kinds than BERT's: ids as those of the `tokenizers` library, words, files and refusals."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from other_tokenizers import KINDS, awkward, roberta, write

from tfdistill.data.squad import Answer, Question
from tfdistill.data.squad_windows import windows
from tfdistill.errors import UserError
from tfdistill.text.alignment import align_words
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.words import token_ids_of

BERT = Tokenizer(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s", "not", "a", "!", "'", "t", "don"]
)


@cache
def learned(kind: str) -> str:
    return KINDS[kind](awkward(800, seed=1, special=0)).to_str()


def theirs(kind: str) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(learned(kind))


def ours(kind: str, directory: Path, **config: object) -> Tokenizer:
    return Tokenizer.from_directory(write(directory, theirs(kind), **config))


def rows(encoded) -> list[list[int]]:
    return [row.tolist() for row in encoded.rows(range(len(encoded)))]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_library(kind, tmp_path):
    texts, library = awkward(10_000, seed=2), theirs(kind)
    tokenizer = ours(kind, tmp_path / "theirs")
    library.enable_truncation(24)
    assert rows(tokenizer.encode(texts, max_length=24)) == [each.ids for each in library.encode_batch(texts)]
    pairs = list(zip(texts[:1000], texts[1000:2000], strict=True))
    expected = library.encode_batch(pairs)
    encoded = tokenizer.encode(texts[:1000], texts[1000:2000], max_length=24)
    assert rows(encoded) == [each.ids for each in expected]
    second = [[float(text == 1) for text in each.sequence_ids] for each in expected]
    if kind in ("albert", "wordpiece"):  # the last [SEP] belongs to the second text
        assert encoded.segment_ids.tolist() == [number for each in expected for number in each.type_ids]
        assert encoded.segment_ids.sum() == sum(map(sum, second)) + len(pairs)
    else:
        assert not encoded.segment_ids.any()
    library.no_truncation()
    whole = [len(each) for each in library.encode_batch(texts)]
    assert tokenizer.encode(texts, max_length=24).uncut.tolist() == whole
    (tmp_path / "ours").mkdir()
    tokenizer.save(tmp_path / "ours")
    again = Tokenizer.from_directory(tmp_path / "ours")
    assert again.fingerprint == tokenizer.fingerprint
    assert rows(again.token_ids(texts[:2000])) == rows(tokenizer.token_ids(texts[:2000]))


@pytest.mark.parametrize(
    ("kind", "ends", "pad"), [("roberta", (0, 2), 1), ("xlm-roberta", (0, 2), 1), ("albert", (2, 3), 0)]
)
def test_special_tokens(kind, ends, pad, tmp_path):
    tokenizer = ours(kind, tmp_path)
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id) == (*ends, pad)
    assert tokenizer.mask_id == 4
    padded = tokenizer(["abc"], length=32)
    assert padded["token_ids"][0, -1] == pad and padded["padding_mask"][0, -1] == 0


def test_special_tokens_have_the_names_that_the_files_give(tmp_path):
    tokenizer = ours("roberta", tmp_path, pad_token="<unk>", mask_token={"content": "</s>"})
    assert (tokenizer.pad_id, tokenizer.mask_id) == (3, 2)


def test_vocab_and_merges_are_read_as_roberta(tmp_path):
    library = theirs("roberta")
    library.model.save(str(tmp_path))
    tokenizer, texts = Tokenizer.from_directory(tmp_path), awkward(2000, seed=3)
    assert rows(tokenizer.encode(texts, max_length=999)) == [each.ids for each in library.encode_batch(texts)]
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\na b c\n")
    with pytest.raises(UserError, match=r"merges\.txt, line 3"):
        Tokenizer.from_directory(tmp_path)


def test_added_tokens_of_the_config(tmp_path):
    size = theirs("roberta").get_vocab_size()
    decoder = {str(size): {"content": "<e1>", "special": True, "normalized": False}}
    tokenizer = ours("roberta", tmp_path, added_tokens_decoder=decoder)
    assert size in tokenizer.encode(["a<e1>b"], max_length=9).token_ids and len(tokenizer.vocabulary) == size + 1
    with pytest.raises(UserError, match="<e1>"):
        ours("roberta", tmp_path, added_tokens_decoder={str(size + 5): decoder[str(size)]})


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_aligned_with_those_of_bert(kind, tmp_path):
    library = KINDS[kind](["good films not a film", ", !", "good film good films"] * 30 + awkward(300, special=0))
    tokenizer = Tokenizer.from_directory(write(tmp_path, library))
    first, second = ["good films, not a film!", "films"], [" a  film", "not good"]
    student, teacher = BERT.encode(first, second, max_length=64), tokenizer.encode(first, second, max_length=64)
    student, teacher = align_words(student, BERT, teacher, tokenizer)
    for number, count in ((0, 10), (1, 4)):
        places = [each.words[each.offsets[number] : each.offsets[number + 1]] for each in (student, teacher)]
        assert places[0][0] == places[1][0] == 0
        assert sorted({*places[0].tolist()}) == sorted({*places[1].tolist()}) == [-1, *range(count)]
    # Each word of the teacher has the letters of the same word.
    words = teacher.words[: teacher.offsets[1]]
    ids = teacher.token_ids[: teacher.offsets[1]]
    texts = ["".join(tokenizer.vocabulary[i] for i in ids[words == n]) for n in range(1, 10)]
    texts = [text.replace("Ġ", "").replace("▁", "").replace("##", "") for text in texts]
    assert texts == ["good", "films", ",", "not", "a", "film", "!", "a", "film"]


def test_a_token_over_two_words_belongs_to_the_first(tmp_path):
    library = roberta(["don't"] * 50)
    tokenizer = Tokenizer.from_directory(write(tmp_path, library))
    teacher = tokenizer.encode(["don't"], max_length=9)
    assert [tokenizer.vocabulary[i] for i in teacher.token_ids] == ["<s>", "don", "'t", "</s>"]
    student, teacher = align_words(BERT.encode(["don't"], max_length=9), BERT, teacher, tokenizer)
    assert student.words.tolist() == [0, 1, 2, -1, -1] and teacher.words.tolist() == [0, 1, 2, -1]


def test_cut_texts_share_their_first_words(tmp_path):
    tokenizer = ours("roberta", tmp_path)
    student, teacher = align_words(
        BERT.encode(["good film ! good film"], max_length=6), BERT,
        tokenizer.encode(["good film ! good film"], max_length=64), tokenizer,
    )  # fmt: skip
    assert student.words.tolist() == [0, 1, 2, 3, 4, -1]
    assert {*teacher.words.tolist()} == {-1, 0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["roberta", "roberta with prefix", "xlm-roberta", "albert"])
def test_words_of_tagged_sentences_have_a_space_before_them(kind, tmp_path):
    tokenizer, library = ours(kind, tmp_path), theirs(kind)
    ids = token_ids_of(["abc", "кед"], tokenizer)
    together = library.encode(" abc кед", add_special_tokens=False)
    assert [*ids["abc"], *ids["кед"]] == together.ids


@pytest.mark.parametrize("kind", KINDS)
def test_answers_keep_their_characters(kind, tmp_path):
    tokenizer = ours(kind, tmp_path)
    context = "abc def ghi 我们在家 jkl"
    asked = Question("1", "def?", context, (Answer("ghi", 8),))
    cut = windows(tokenizer, [asked], max_length=96, stride=8, max_question_length=24)
    start, end = cut.spans[0]
    assert context[cut.starts[start] : cut.ends[end]].strip() == "ghi"
    pair = tokenizer.encode([asked.question], [context], max_length=96)
    assert cut.encoded.token_ids.tolist() == pair.token_ids.tolist()
    assert cut.encoded.segment_ids.tolist() == pair.segment_ids.tolist()


def test_other_frames_and_files_are_one_line(tmp_path):
    library = theirs("roberta")
    library.post_processor = tokenizers.processors.ByteLevel()
    with pytest.raises(UserError, match="post_processor"):
        Tokenizer.from_directory(write(tmp_path / "frame", library))
    for name in ("spiece.model", "sentencepiece.bpe.model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"\n\x01")
        with pytest.raises(UserError, match=f"{name}.*tokenizer.json"):
            Tokenizer.from_directory(tmp_path / name)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.json").write_text(
        json.dumps({"model": {"type": "BPE", "vocab": 3, "merges": []}})
    )
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.from_directory(tmp_path / "damaged")
    (tmp_path / "blind").mkdir()
    blind = json.loads(learned("xlm-roberta"))
    blind["model"] = {
        "type": "Unigram",
        "unk_id": None,
        "vocab": [["<s>", 0.0], ["</s>", 0.0], ["</s>", 0.0], ["▁a", -1.0]],
    }
    (tmp_path / "blind" / "tokenizer.json").write_text(json.dumps({**blind, "added_tokens": []}))
    with pytest.raises(UserError, match="unk_id"):
        Tokenizer.from_directory(tmp_path / "blind").token_ids(["q"])
    large = json.loads(learned("roberta"))
    large["model"]["vocab"]["<large>"] = 2**32 - 1
    (tmp_path / "blind" / "tokenizer.json").write_text(json.dumps(large))
    with pytest.raises(UserError, match="4294967295"):
        Tokenizer.from_directory(tmp_path / "blind")
    tokenizer = ours("roberta", tmp_path / "good")
    for attempt in (lambda: tokenizer.of([0, 1]), lambda: tokenizer.words_of(np.array([1]))):
        with pytest.raises(UserError, match="WordPiece"):
            attempt()
