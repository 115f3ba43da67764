from __future__ import annotations

from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.words import (
    STOP_WORDS,
    cleaned_words,
    has_chinese,
    replaced,
    spaced_words,
    token_ids_of,
    word_spans,
    written_tokens,
)

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "play",
    "##ing",
    "the",
    ",",
    ".",
    "电",
    "影",
    "e",
    "##clair",
]
TOKENIZER = Tokenizer(VOCABULARY)


def words(text):
    return [text[start:stop] for start, stop in word_spans(text)]


def test_words():
    assert words("Playing, the  play's.") == ["Playing", ",", "the", "play", "'", "s", "."]
    assert words(" 电影 the电\n") == ["电", "影", "the", "电"]
    assert words("a [MASK]ing [mask]") == ["a", "[MASK]", "ing", "[", "mask", "]"]
    assert words("") == words(" \t\n") == []


def test_words_give_the_tokens_of_the_whole_text():
    for text in (
        "Playing, the  play.",
        "电影the 电",
        "a [MASK]ing",
        "Éclair playing\u200b play\u00a0the.",
        "e\u0301clair",
    ):
        ids = token_ids_of(words(text), TOKENIZER)
        together = [i for word in words(text) for i in ids[word].tolist()]
        assert together == TOKENIZER.token_ids([text]).token_ids.tolist(), text


def test_replaced_keeps_the_rest():
    text = "The  film, (a play)."
    spans = word_spans(text)
    assert replaced(text, spans, {}) == text
    assert replaced(text, spans, {1: "novel", 5: "x", 0: "A"}) == "A  novel, (a x)."


def test_written_tokens():
    assert written_tokens(["Playing", "playing,", "the", "zzz", "playzzz", "Éclair"], TOKENIZER) == {
        "Playing": ["play", "ing"],
        "playing,": ["play", "ing", ","],
        "the": ["the"],
        "zzz": ["zzz"],
        "playzzz": ["playzzz"],
        "Éclair": ["e", "clair"],
    }
    assert token_ids_of([], TOKENIZER) == written_tokens([], TOKENIZER) == {}


def test_stop_words_are_single_small_words():
    assert all(words(word) == [word] and word == word.lower() for word in STOP_WORDS)
    assert {"the", "not", "isn", "t"} <= STOP_WORDS and not {"good", "film"} & STOP_WORDS


def test_words_between_spaces_and_chinese_ones():
    assert spaced_words(" not  bad, isn't it") == (["not", "bad,", "isn't", "it"], [False, True, True, True])
    assert spaced_words("看Film, 好[MASK]") == (["看", "Film", ",", "好", "[MASK]"], [False, False, False, True, False])
    assert spaced_words(" ") == ([], [])


def test_chinese_characters():
    assert [has_chinese(text) for text in ("好", "a 好 b", "か", "é", "", "\uf900")] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]


def test_cleaned_words():
    tokenizer = Tokenizer([*VOCABULARY, "b", "##ad", "!"])
    assert cleaned_words(["Bad  bad!", "", "B\u00c1D [MASK]zzz\u200b", "BA\u0301D电e"], tokenizer) == [
        "bad", "bad", "!", "bad", "[MASK]", "zzz", "bad", "电", "e"
    ]  # fmt: skip
