from __future__ import annotations

import numpy as np
import pytest

from tfdistill.augment.copies import FIRST, SECOND, Stream
from tfdistill.augment.parts_of_speech import PosTable
from tfdistill.augment.tang import Tang, augment_split, augment_tang
from tfdistill.data.splits import Split
from tfdistill.text.words import spaced_words

TEXTS = [
    f"this is the {name} sentence of a small text number {i}" for i, name in enumerate(["first", "next", "last"] * 5)
]
PAIRS = [f"and that is its {i} partner in another sentence" for i in range(len(TEXTS))]


def tang_copy(text: str, *, seed: int, index: int, copy: int, second: bool = False, **options) -> str:
    """Copy `copy` of example `index` alone, as `augment_tang` makes it if it changes this text of a pair."""
    method, (words, spaced) = Tang(**options), spaced_words(text)
    tags = [] if method.pos is None else method.pos.tags(words)
    tokens = {} if method.tokens is None else method.tokens(words)
    return method.copy(words, spaced, Stream(seed, index, copy, SECOND if second else FIRST), tags, tokens)


def test_masks_and_cuts():
    made = augment_tang(TEXTS, copies=20, seed=1)
    assert made.texts_b is None
    assert made.source.dtype == made.copy.dtype == np.int64
    assert len(made) == len(made.texts) == len(made.source) == len(made.copy) > 150
    for text, source in zip(made.texts, made.source, strict=True):
        words, original = text.split(), TEXTS[source].split()
        starts = range(len(original) - len(words) + 1)
        assert any(
            all(word in ("[MASK]", other) for word, other in zip(words, original[start:], strict=False))
            for start in starts
        )
        assert len(words) == len(original) or 1 <= len(words) <= 5


def test_shares():
    texts = [" ".join(f"w{i}_{j}" for j in range(20)) for i in range(500)]
    made = augment_tang(texts, copies=4, seed=3)
    lengths = np.array([len(text.split()) for text in made.texts])
    masked = sum(text.split().count("[MASK]") for text in made.texts)
    # 2,000 copies: n-gram 500 ± 19 (one sigma), masks 10 %; unchanged copies (.75 · .9^20 = 9 %) are left out.
    assert 0.22 < (lengths < 20).sum() / 2000 < 0.28
    assert 0.09 < masked / (lengths.sum() + 20 * (2000 - len(made))) < 0.11
    assert np.bincount(lengths[lengths < 20], minlength=6)[1:6].min() > 50  # every n from 1 to 5


def test_no_duplicates():
    texts = ["a b", "a  b", "b", "c"]
    made = augment_tang(texts, copies=50, seed=0)
    assert len(set(made.texts)) == len(made.texts)
    assert not set(made.texts) & {"a b", "b", "c"}
    assert set(made.texts) <= {"[MASK]", "[MASK] b", "a [MASK]", "[MASK] [MASK]", "a"}


def test_pairs():
    made = augment_tang(TEXTS, PAIRS, copies=10, seed=1)
    assert len(made.texts_b) == len(made.texts)
    pairs = list(zip(made.texts, made.texts_b, strict=True))
    assert len(set(pairs)) == len(pairs)
    assert not set(pairs) & set(zip(TEXTS, PAIRS, strict=True))
    changed = [
        (text != TEXTS[source], text_b != PAIRS[source])
        for (text, text_b), source in zip(pairs, made.source, strict=True)
    ]
    assert {(True, False), (False, True), (True, True)} == set(changed)
    same = augment_tang(TEXTS, TEXTS, copies=10, seed=1)
    assert any(text != text_b for text, text_b in zip(same.texts, same.texts_b, strict=True))


def test_pairs_change_by_turns():
    """The first text, the second one, both, and so on (Tang et al. 2019, section 3.3)."""
    made = augment_tang(TEXTS, PAIRS, copies=9, seed=1, p_mask=0.5)
    for text, text_b, source, copy in zip(made.texts, made.texts_b, made.source, made.copy, strict=True):
        assert text == TEXTS[source] or copy % 3 != 1
        assert text_b == PAIRS[source] or copy % 3 != 0
    changed = [text != TEXTS[source] for text, source in zip(made.texts, made.source, strict=True)]
    assert 0.6 < np.mean(changed) < 0.72  # both in a third of them, the first alone in another


def test_any_copy_can_be_made_alone():
    made = augment_tang(TEXTS, PAIRS, copies=6, seed=7, p_mask=0.3, ngram=(2, 6), mask="<m>")
    options = {"seed": 7, "p_mask": 0.3, "ngram": (2, 6), "mask": "<m>"}
    for text, text_b, source, copy in zip(made.texts, made.texts_b, made.source, made.copy, strict=True):
        first = tang_copy(TEXTS[source], index=int(source), copy=int(copy), **options)
        second = tang_copy(PAIRS[source], index=int(source), copy=int(copy), second=True, **options)
        assert text == (TEXTS[source] if copy % 3 == 1 else first)
        assert text_b == (PAIRS[source] if copy % 3 == 0 else second)


def test_other_examples_do_not_count():
    texts = [" ".join(f"w{i}_{j}" for j in range(9)) for i in range(10)]  # no word in two texts
    one = augment_tang(texts, copies=5, seed=2)
    other = augment_tang([*texts[:4], "something else entirely", *texts[5:]], copies=5, seed=2)
    assert [text for text in one.texts if "w4" not in text and "w" in text] == [
        text for text in other.texts if "w" in text
    ]


def test_more_copies_begin_with_the_same():
    few, many = (augment_tang(["a b c d e f g h"], copies=copies, seed=5).texts for copies in (3, 30))
    assert many[: len(few)] == few


def test_pinned():
    """The draws must not change between versions."""
    text = "the movie is not as good as the book"
    assert [tang_copy(text, seed=13, index=0, copy=copy) for copy in range(5)] == [
        "movie is not as",
        "the movie is not as good as the book",
        "the movie [MASK] not as good as the book",
        "the movie is not as [MASK] as the [MASK]",
        "the [MASK] is not as good as the book",
    ]


def test_seed_decides():
    assert augment_tang(TEXTS, copies=3, seed=1).texts == augment_tang(TEXTS, copies=3, seed=1).texts
    assert augment_tang(TEXTS, copies=3, seed=1).texts != augment_tang(TEXTS, copies=3, seed=2).texts


def test_extremes():
    assert len(augment_tang(TEXTS, copies=0, seed=1)) == 0
    assert len(augment_tang([], copies=5, seed=1)) == 0
    assert augment_tang([], [], copies=5, seed=1).texts_b == []
    assert len(augment_tang([""], copies=5, seed=1)) == 0
    assert len(augment_tang(TEXTS, copies=5, seed=1, p_mask=0, p_ng=0)) == 0
    assert augment_tang(["a b c"], copies=5, seed=1, p_mask=1, p_ng=0).texts == ["[MASK] [MASK] [MASK]"]
    assert set(augment_tang(["a b c"], copies=50, seed=1, p_mask=0, p_ng=1, ngram=(1, 1)).texts) == {"a", "b", "c"}
    assert len(augment_tang(["a b c"], copies=50, seed=1, p_mask=0, p_ng=1, ngram=(3, 9))) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": -1}, "copies=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**64}, "seed=18446744073709551616"),
        ({"p_mask": 1.1}, "p_mask=1.1"),
        ({"p_ng": float("nan")}, "p_ng=nan"),
        ({"ngram": (0, 5)}, "ngram"),
        ({"ngram": (5, 1)}, "ngram"),
        ({"texts_b": ["one"]}, "got 1 texts_b; expected 2"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        augment_tang(["a b", "c d"], **{"copies": 1, "seed": 1, **options})


def test_augment_split():
    split = Split(TEXTS, PAIRS, np.arange(len(TEXTS), dtype=np.int64))
    made, again = augment_split(2, p_mask=0.5)(split, 4), augment_tang(TEXTS, PAIRS, copies=2, seed=4, p_mask=0.5)
    assert (made.texts, made.texts_b) == (again.texts, again.texts_b)
    assert made.labels.tolist() == again.source.tolist()
    assert augment_split(2)(Split(TEXTS), 4).labels is None


def test_augment_split_keeps_extra_texts():
    split = Split(TEXTS, None, None, ([f"extra {i}" for i in range(len(TEXTS))],))
    made = augment_split(2, p_mask=0.5)(split, 4)
    source = augment_tang(TEXTS, copies=2, seed=4, p_mask=0.5).source
    assert made.texts_extra == ([f"extra {i}" for i in source],)


# --- words of the same part of speech -------------------------------------------------------------------------------

NOUNS, VERBS = ["film", "book", "actor"], ["is", "was"]


def by_list(words):
    return ["NN" if word in NOUNS else "VB" if word in VERBS else "X" for word in words]


TAGGED = ["film is fine,", "film was bad.", "film is the book", "the actor is odd!"]
TABLE = PosTable.build(TAGGED, by_list)


def test_words_of_the_same_part_of_speech():
    made = augment_tang(TAGGED, copies=50, seed=3, p_mask=0, p_pos=0.5, p_ng=0, pos=TABLE)
    for text, source in zip(made.texts, made.source, strict=True):
        words = [word.strip(",.!") for word in text.split()]
        original = [word.strip(",.!") for word in TAGGED[source].split()]
        assert by_list(words) == by_list(original)
        assert [word[-1] in ",.!" for word in text.split()] == [word[-1] in ",.!" for word in TAGGED[source].split()]
    assert len(made) > 40 and {made.texts[0] != TAGGED[0]} == {True}


def test_shares_of_all_three():
    texts = ["film " * 20] * 2000
    table = PosTable.build(["film book book book"], by_list)
    made = [
        tang_copy(t, seed=1, index=i, copy=0, p_mask=0.2, p_pos=0.4, p_ng=0, pos=table) for i, t in enumerate(texts)
    ]
    words = " ".join(made).split()
    # No n-grams and no de-duplication here. 40,000 words: 20 % masked, one sigma 0.2 %; 40 % exchanged, of which three
    # quarters are "book", 0.23 %.
    assert len(words) == 40000
    assert 0.19 < words.count("[MASK]") / 40000 < 0.21
    assert 0.29 < words.count("book") / 40000 < 0.31


def test_pos_leaves_masks_and_n_grams_as_they_are():
    options = {"copies": 30, "seed": 5, "p_mask": 0.2}
    nouns = PosTable.build(["film"], by_list)  # has no word of the tag X, so nothing is exchanged
    without = augment_tang(["one two three four five"], **options).texts
    assert augment_tang(["one two three four five"], p_pos=0.3, pos=nouns, **options).texts == without


def test_pos_copies_can_be_made_alone():
    options = {"seed": 7, "p_pos": 0.4, "pos": TABLE}
    made = augment_tang(TAGGED, TAGGED[::-1], copies=6, **options)
    for text, text_b, source, copy in zip(made.texts, made.texts_b, made.source, made.copy, strict=True):
        index = {"index": int(source), "copy": int(copy)}
        own, own_b = TAGGED[source], TAGGED[::-1][source]
        assert text == (own if copy % 3 == 1 else tang_copy(own, **index, **options))
        assert text_b == (own_b if copy % 3 == 0 else tang_copy(own_b, second=True, **index, **options))


def test_a_part_equals_the_whole():
    """What lets the work be done in shards."""
    options = {"copies": 5, "seed": 7, "pos": TABLE}
    whole = augment_tang(TAGGED, **options)
    parts = [augment_tang(TAGGED[a:b], first=a, **options) for a, b in ((0, 1), (1, 4))]
    assert [t for part in parts for t in part.texts] == whole.texts
    assert np.concatenate([part.source for part in parts]).tolist() == whole.source.tolist()


def test_augment_split_with_a_tagger():
    split = Split(TAGGED, None, np.arange(4))
    made = augment_split(6, tagger=by_list, p_pos=0.4)(split, 9)
    again = augment_tang(TAGGED, copies=6, seed=9, p_pos=0.4, pos=TABLE)
    assert made.texts == again.texts and made.labels.tolist() == again.source.tolist()
    assert augment_split(6, p_pos=0.4)(split, 9).texts == augment_tang(TAGGED, copies=6, seed=9).texts


@pytest.mark.parametrize(
    ("options", "message"),
    [({"p_pos": -0.1}, "p_pos=-0.1"), ({"p_mask": 0.6, "p_pos": 0.5, "pos": TABLE}, "p_mask=0.6 and p_pos=0.5")],
)
def test_bad_pos_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        augment_tang(["a b"], copies=1, seed=1, **options)


# --- tokens ---------------------------------------------------------------------------------------------------------


def halves(words):
    return {word: [word[: len(word) // 2], word[len(word) // 2 :]] if len(word) > 3 else [word] for word in words}


def test_tokens_are_masked_by_themselves():
    text = "playing a football game"
    seen = {
        tang_copy(text, seed=1, index=0, copy=copy, p_mask=0.3, p_ng=0, tokens=halves).split()[0] for copy in range(60)
    }
    assert seen == {"playing", "[MASK]ying", "pla[MASK]", "[MASK][MASK]"}
    made = [tang_copy(text, seed=1, index=i, copy=0, p_mask=0.3, p_ng=0, tokens=halves) for i in range(500)]
    assert 0.27 < " ".join(made).count("[MASK]") / (500 * 7) < 0.33
    assert all(len(each.split()) == 4 for each in made)


def test_tokens_of_exchanged_words_are_not_masked():
    table = PosTable.build(["book"], by_list)
    made = [
        tang_copy("film", seed=1, index=i, copy=0, p_mask=0.5, p_pos=0.5, p_ng=0, pos=table, tokens=halves)
        for i in range(200)
    ]
    assert set(made) == {"film", "book", "fi[MASK]", "[MASK]lm", "[MASK][MASK]"}
    assert 80 < made.count("book") < 120


def test_chinese_is_changed_character_by_character():
    text = "这部电影很好看。 A fine film"
    made = augment_tang([text], copies=40, seed=2, p_mask=0.2, p_ng=0)
    parts = [new.replace("[MASK]", "*").split() for new in made.texts]
    assert {tuple(map(len, part))[:2] for part in parts} == {(8, 1)} and {len(part) for part in parts} == {4}
    assert all({part[0][place] for part in parts} == {"这部电影很好看。"[place], "*"} for place in range(8))
    grams = augment_tang([text], copies=60, seed=2, p_mask=0, p_ng=1, ngram=(3, 3)).texts
    assert set(grams) <= {
        "这部电",
        "部电影",
        "电影很",
        "影很好",
        "很好看",
        "好看。",
        "看。 A",
        "。 A fine",
        "A fine film",
    }
    assert {"这部电", "看。 A"} <= set(grams)
    assert made.texts[5] == tang_copy(text, seed=2, index=0, copy=int(made.copy[5]), p_mask=0.2, p_ng=0)
