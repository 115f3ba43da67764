"""Vocabulary trimming: which pieces stay, equal logits, and what changes for other texts."""

from functools import cache

import numpy as np
import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.compress.vocabulary import (
    compare_models,
    compare_segmentation,
    is_character,
    pieces_to_keep,
    trim_vocabulary,
    word_counts,
)
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

LETTERS = "abcdefg"
PIECES = ["good", "bad", "##d", "##bed", "face", "##ade", "cab", "##ba", "dead", "ceded"]
VOCABULARY = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY += [*LETTERS, *(f"##{c}" for c in LETTERS if c != "d"), *PIECES, "!"]
TEXTS = ["bad cab!", "a face facade bad"]


@cache
def tokenizer():
    return Tokenizer(VOCABULARY)


def model_of(task="classification", outputs=3):
    config = BertConfig(len(VOCABULARY), 8, 2, 2, 16, 16, initializer_range=0.3)
    model = TextModel(config, outputs, task)
    model.tokenizer = tokenizer()
    return model


def kept_pieces(*args, **kwargs):
    return [VOCABULARY[i] for i in pieces_to_keep(tokenizer(), *args, **kwargs)]


def test_what_the_data_uses_and_all_characters_stay():
    assert tokenizer().token_ids(["facade"]).token_ids.tolist() == [
        VOCABULARY.index(p) for p in ("f", "##a", "##c", "##ade")
    ]
    kept = kept_pieces(TEXTS)
    characters = [*LETTERS, *(f"##{c}" for c in LETTERS if c != "d")]
    assert kept == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *characters,
        "bad",
        "##d",
        "face",
        "##ade",
        "cab",
        "!",
    ]
    assert kept_pieces(TEXTS, min_count=2, keep=["dead"]) == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, "bad", "##d", "dead", "!"
    ]  # fmt: skip


def test_at_least_so_many_pieces_stay_from_the_beginning_on():
    few = kept_pieces(TEXTS)
    assert kept_pieces(TEXTS, at_least=len(few)) == few
    more = kept_pieces(TEXTS, at_least=len(few) + 1)
    (added,) = set(more) - set(few)
    assert added == next(piece for piece in VOCABULARY if piece not in few)
    assert kept_pieces(TEXTS, at_least=10**6) == list(VOCABULARY)


def test_words_are_counted_after_cleaning():
    assert word_counts(tokenizer(), ["Bad  bad!", "BÁD"]) == {"bad": 3, "!": 1}


def test_single_characters():
    assert [piece for piece in ("a", "##a", "ab", "##ab", "#") if is_character(piece)] == ["a", "##a", "#"]


@pytest.mark.heavy
def test_texts_of_kept_pieces_give_the_same_logits_and_others_are_split_further():
    model = model_of()
    small = trim_vocabulary(model, pieces_to_keep(model.tokenizer, TEXTS))
    assert small.config.vocab_size == len(small.tokenizer.vocabulary) == 24
    assert model.count_params() - small.count_params() == (len(VOCABULARY) - 24) * 8
    parity = compare_models(model, small, TEXTS, max_length=16)
    assert (parity.rows, parity.same_pieces, parity.same_answer) == (2, 1.0, 1.0) and parity.max_difference < 1e-6
    pairs = compare_models(model, small, TEXTS, TEXTS[::-1], max_length=16)
    assert pairs.same_pieces == 1.0 and pairs.max_difference < 1e-6
    other = compare_models(model, small, [*TEXTS, "dead"], max_length=16)
    assert other.same_pieces == pytest.approx(2 / 3) and other.max_difference < 1e-6
    nothing = compare_models(model, small, ["dead", "dead dead"], max_length=16)
    assert (nothing.same_pieces, nothing.max_difference) == (0.0, None)  # no example has the same tokens
    found = compare_segmentation(model.tokenizer, small.tokenizer, ["bad dead dead cabbed", "zzz"])
    # dead -> d ##e ##a ##d, cab ##bed -> cab ##b ##e ##d; zzz is [UNK] before or after.
    assert (found.words, found.resegmented, found.unknown, found.unknown_before) == (5, 0.6, 0.2, 0.2)
    assert found.pieces == (1 + 4 + 4 + 4 + 1) / 5 and found.pieces_before == (1 + 1 + 1 + 2 + 1) / 5
    assert found.examples == ("dead", "cabbed")


@pytest.mark.heavy
def test_no_word_newly_becomes_unknown():
    model, rng = model_of(), np.random.default_rng(0)
    small = trim_vocabulary(model, pieces_to_keep(model.tokenizer, ["a"]))
    words = ["".join(rng.choice(list(LETTERS + "o"), rng.integers(1, 9))) for _ in range(3000)]
    safe = [word for word in words if "o" not in word]
    found = compare_segmentation(model.tokenizer, small.tokenizer, safe)
    assert found.resegmented > 0.01 and found.unknown <= found.unknown_before
    # The letter o is in "good" only: the one way to lose a word.
    lost = compare_segmentation(model.tokenizer, small.tokenizer, ["good"])
    assert lost.unknown == 1.0 and lost.unknown_before == 0.0


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["masked_lm", "token_classification"])
def test_every_head_is_trimmed(task):
    model = model_of(task, None)
    kept = pieces_to_keep(model.tokenizer, TEXTS)
    small = trim_vocabulary(model, kept)
    old, new = model.tokenizer(TEXTS, length=8), small.tokenizer(TEXTS, length=8)
    expected = np.array(model(old))
    if task == "masked_lm":
        assert small.num_outputs == len(kept)
        expected = expected[..., kept]
    np.testing.assert_allclose(small(new), expected, atol=1e-5)


@pytest.mark.heavy
def test_a_bilstm_is_trimmed_and_a_directory_opens_again(tmp_path):
    model = tiny_bilstm()
    model.tokenizer = Tokenizer([*VOCABULARY, *(f"x{n}" for n in range(50 - len(VOCABULARY)))])
    small = trim_vocabulary(model, pieces_to_keep(model.tokenizer, TEXTS))
    assert compare_models(model, small, TEXTS, max_length=16).max_difference < 1e-6
    again = load_directory(save_directory(small, tmp_path / "small"))
    assert again.tokenizer.vocabulary == small.tokenizer.vocabulary
    assert compare_models(model, again, TEXTS, max_length=16).same_answer == 1.0


@pytest.mark.heavy
def test_mistakes_are_one_line():
    model = model_of()
    with pytest.raises(UserError, match="none"):
        pieces_to_keep(model.tokenizer, [])
    with pytest.raises(UserError, match="'nothere'"):
        pieces_to_keep(model.tokenizer, TEXTS, keep=["nothere"])
    with pytest.raises(UserError, match="ascending"):
        trim_vocabulary(model, np.array([3, 2]))
    with pytest.raises(UserError, match=r"\[UNK\]"):
        trim_vocabulary(model, np.array([0, 3, 4, 5]))
    with pytest.raises(UserError, match="no tokenizer"):
        trim_vocabulary(tiny_bert(), np.array([0]))
    with pytest.raises(UserError, match="no words"):
        compare_segmentation(model.tokenizer, model.tokenizer, [" "])
