from __future__ import annotations

import numpy as np
import pytest

from tfdistill.augment.copies import FIRST, SECOND, Stream
from tfdistill.augment.glove import GloVe
from tfdistill.augment.tinybert import Candidates, Finder, augment_tinybert, tinybert_split
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["film", "book", "play", "good", "bad", "long", "short", "odd"]
PIECES = [*SPECIAL, "the", "is", ",", ".", "##ing", "##ly", "##x", *WORDS, "2", "电", "影", "好"]
TOKENIZER = Tokenizer(PIECES)
NUMBER = {piece: i for i, piece in enumerate(PIECES)}
GLOVE = GloVe(["oddly", "strangely", "badly", "film"], np.array([[1.0, 0], [1, 0.1], [1, 0.5], [0, 1]]))


def tinybert_copy(
    text: str, *, find: Finder, seed: int, index: int, copy: int, p: float = 0.4, second: bool = False
) -> str:
    """Copy `copy` of example `index` alone, as `augment_tinybert` makes it."""
    return find([text])[text].copy(Stream(seed, index, copy, SECOND if second else FIRST), p)


class Oracle:
    """Predicts from the query alone: the pieces after the one that stands at the masked place of the original."""

    def __init__(self):
        self.batches = []

    def __call__(self, inputs, k):
        assert {name: values.dtype for name, values in inputs.items()} == dict.fromkeys(
            ("token_ids", "padding_mask", "segment_ids", "masked_positions"), np.dtype(np.int32)
        )
        self.batches.append(inputs)
        found = []
        for ids, mask, segments, (position,) in zip(*(inputs[name] for name in inputs), strict=True):
            ids = ids[: mask.sum()]
            assert ids[0] == NUMBER["[CLS]"] and ids[-1] == NUMBER["[SEP]"] and (ids == NUMBER["[MASK]"]).sum() == 1
            assert ids[position] == NUMBER["[MASK]"] and mask[mask.sum() :].sum() == 0
            first = ids[1 : list(ids).index(NUMBER["[SEP]"])]
            second = ids[len(first) + 2 : -1]
            assert segments.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1 if len(second) else 0) + [0] * (
                len(mask) - mask.sum()
            )
            seen = second[position - 1] if position <= len(second) else 0
            found.append([(seen + n) % len(PIECES) for n in range(k)])
        return np.array(found)[:, :k]


def finder(**options):
    return Finder(TOKENIZER, Oracle(), **{"glove": GLOVE, "k": 3, **options})


def words(i, count=3):
    """What the oracle's answer to piece i comes to: the first words from there on, pieces of words and the like left out."""
    found = [PIECES[(i + n) % len(PIECES)] for n in range(4 * count)]
    return [piece for piece in found if piece.isalpha()][:count]


def test_candidates():
    find = finder()
    text = "The  film is Oddly good, 2 unknownword."
    found = find([text])[text]
    assert {text[slice(*found.spans[word])]: choices for word, choices in found.choices.items()} == {
        "film": ["film", "book", "play"],
        "Oddly": ["strangely", "badly", "film"],  # odd ##ly: two pieces
        "good": ["good", "bad", "long"],
        "unknownword": ["the", "is", "film"],  # [UNK] is one piece
    }
    (batch,) = find.mlm.batches
    assert batch["token_ids"].shape == (3, 24)  # 11 pieces: 1 + 11 + 1 + 11 + 1 = 25?


def test_only_whole_words_stand_for_words():
    text = "odd"  # odd, then 2, Chinese words, then special tokens and so on around the vocabulary
    assert finder(k=6)([text])[text].choices == {0: ["odd", "电", "影", "好", "the", "is"]}


def test_chinese():
    text = "电影好"
    assert {word: choices[0] for word, choices in finder()([text])[text].choices.items()} == {0: "电", 1: "影", 2: "好"}


def test_stop_words_stay_and_are_an_option():
    assert finder()(["The is"])["The is"].choices == {}
    assert list(finder(stop_words=())(["The is"])["The is"].choices) == [0, 1]


def test_without_glove_words_of_several_pieces_stay():
    assert finder(glove=None)(["oddly"])["oddly"].choices == {}


def test_every_position_is_asked_once_in_batches_of_one_length():
    texts = ["film", "film book", "film book play good bad long short odd", "film", "bad odd"]
    find = finder(batch_tokens=64)
    counts = []
    find(texts, advance=counts.append)
    assert sum(counts) == sum(len(batch["token_ids"]) for batch in find.mlm.batches) == 1 + 2 + 8 + 2
    lengths = [batch["token_ids"].shape for batch in find.mlm.batches]
    assert lengths == [(2, 24), (2, 24), (2, 24), (2, 24), (5, 8)] or all(rows * n <= 64 for rows, n in lengths)
    assert [n for _, n in lengths] == sorted((n for _, n in lengths), reverse=True)


def test_long_sentences_are_cut():
    text = " ".join(WORDS)  # 8 pieces
    whole = finder()([text])[text].choices
    assert finder(max_length=19)([text])[text].choices == whole  # 1 + 8 + 1 + 8 + 1
    find = finder(max_length=12)  # [CLS] 8 [SEP], and one more with its [SEP]
    assert list(find([text])[text].choices) == list(range(8))
    assert {batch["token_ids"].shape[1] for batch in find.mlm.batches} == {12}
    find = finder(max_length=6)  # four words, without the original
    assert list(find([text])[text].choices) == [0, 1, 2, 3]
    assert all(batch["segment_ids"].sum() == 0 for batch in find.mlm.batches)


def test_shares():
    candidates = Candidates("film good", [(0, 4), (5, 9)], {0: ["a", "b"], 1: ["c", "d", "e", "f"]})
    made = [candidates.copy(Stream(1, i, 0), 0.4).split() for i in range(2000)]
    first, second = (np.array(column) for column in zip(*made, strict=True))
    assert 0.57 < (first == "film").mean() < 0.63 and 0.57 < (second == "good").mean() < 0.63
    assert 0.18 < (first == "a").mean() < 0.22
    assert all(0.08 < (second == word).mean() < 0.12 for word in "cdef")
    assert 0.33 < ((first == "film") & (second == "good")).mean() < 0.39  # independently: 0.36


def test_augment():
    texts = ["The film is good.", "a bad, oddly long play", "the is"]
    find = finder()
    made = augment_tinybert(texts, find=find, copies=20, seed=3)
    assert made.texts_b is None and set(made.source.tolist()) == {0, 1} and made.copy.max() < 20
    assert len(set(made.texts)) == len(made.texts) > 15 and not set(made.texts) & set(texts)
    assert len(find.mlm.batches) == 1  # candidates are found once and serve all copies
    for text, source, copy in zip(made.texts, made.source, made.copy, strict=True):
        assert tinybert_copy(texts[source], find=finder(), seed=3, index=int(source), copy=int(copy)) == text
    assert all(text.startswith("The ") and text.endswith(".") for text in made.texts if text.startswith("The"))


def test_pinned():
    made = augment_tinybert(["The film is good, oddly long."], find=finder(), copies=4, seed=13)
    assert len(made.texts) == 4 and made.texts[0] == "The film is long, film long."


def test_pairs_are_changed_independently_and_from_the_original():
    texts, texts_b = ["film good"] * 2, ["play bad", "film good"]
    find = finder()
    made = augment_tinybert(texts, texts_b, find=find, copies=30, seed=2)
    assert sum(len(batch["token_ids"]) for batch in find.mlm.batches) == 4  # equal texts are asked for once
    first = {word for word in " ".join(made.texts).split()}
    second = {word for i, text in zip(made.source, made.texts_b, strict=True) if i == 0 for word in text.split()}
    assert first == {"film", "book", "play", "good", "bad", "long"}
    assert second == {"play", "good", "bad", "long", "short"}  # candidates of play and bad, of nothing made from film
    both = [(a != texts[i], b != texts_b[i]) for a, b, i in zip(made.texts, made.texts_b, made.source, strict=True)]
    assert set(both) == {(True, False), (False, True), (True, True)}
    same = [a == b for a, b, i in zip(made.texts, made.texts_b, made.source, strict=True) if i == 1]
    assert not all(same)
    for text_b, source, copy in zip(made.texts_b, made.source, made.copy, strict=True):
        again = tinybert_copy(texts_b[source], find=finder(), seed=2, index=int(source), copy=int(copy), second=True)
        assert again == text_b


def test_a_part_equals_the_whole():
    texts = ["film good", "bad play", "odd long book"]
    whole = augment_tinybert(texts, find=finder(), copies=5, seed=3)
    parts = [augment_tinybert(texts[a:b], find=finder(), copies=5, seed=3, first=a) for a, b in ((0, 1), (1, 3))]
    assert [text for part in parts for text in part.texts] == whole.texts
    assert np.concatenate([part.source for part in parts]).tolist() == whole.source.tolist()


def test_extremes():
    assert augment_tinybert(["film"], find=finder(), copies=0, seed=1).texts == []
    assert augment_tinybert([], [], find=finder(), copies=3, seed=1).texts_b == []
    assert augment_tinybert(["film"], find=finder(), copies=9, seed=1, p=0).texts == []
    assert set(augment_tinybert(["film"], find=finder(), copies=99, seed=1, p=1).texts) == {"book", "play"}
    with pytest.raises(ValueError, match=r"p=1\.5"):
        augment_tinybert(["film"], find=finder(), copies=1, seed=1, p=1.5)
    with pytest.raises(UserError, match=r"no \[MASK\]"):
        Finder(Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]), Oracle())


def test_split():
    split = Split(["film good", "bad play"], None, np.array([1, 0]), (["e1", "e2"],))
    made = tinybert_split(4, finder())(split, 5)
    rows = augment_tinybert(split.texts, find=finder(), copies=4, seed=5)
    assert made.texts == rows.texts and made.labels.tolist() == (1 - rows.source).tolist()
    assert made.texts_extra == ([f"e{i + 1}" for i in rows.source],)
    calls = []
    augment = tinybert_split(4, lambda asked: calls.append(asked) or finder())
    assert calls == [] and augment(split, 5).texts == rows.texts and calls == [split]
