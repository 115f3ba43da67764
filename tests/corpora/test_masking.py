from __future__ import annotations

import numpy as np
import pytest

from tfdistill.corpora.masking import Masker, Masking, uniforms
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "un", "##afford", "##able", "a", "b", "c"]
TOKENIZER = Tokenizer(PIECES + [f"w{n}" for n in range(88)])  # 100 pieces; 94 may be put in


def rows(count: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[CLS], words, [SEP], and padding behind rows of other lengths."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(9, 100, (count, length))
    lengths = rng.integers(length // 2, length + 1, count)
    lengths[0] = length
    mask = np.arange(length) < lengths[:, None]
    ids[:, 0] = 2
    ids[np.arange(count), lengths - 1] = 3
    return (ids * mask).astype("int32"), mask.astype("int32")


def test_uniforms_are_these_numbers_on_every_machine() -> None:
    """SplitMix64's own first output for the state 0 is 0xE220A8397B1DCDAF, which begins the chain here."""
    from tfdistill.corpora.masking import _mix

    assert int(_mix(np.zeros(1, np.uint64))[0]) == 0xE220A8397B1DCDAF
    drawn = uniforms(3, 1, 2, np.array([5, 6]), 2)
    np.testing.assert_allclose(drawn, uniforms(3, 1, 2, np.array([6, 5]), 4)[::-1, :2], rtol=0)
    many = uniforms(0, 0, 0, np.arange(2000), 50)
    assert many.min() > 0 and many.max() < 1
    assert abs(many.mean() - 0.5) < 0.005 and abs(np.corrcoef(many[:, 0], many[:, 1])[0, 1]) < 0.06


def test_the_same_example_gets_the_same_masks_in_any_batch() -> None:
    ids, mask = rows(8, 40)
    masker = Masker(Masking(), TOKENIZER.vocabulary)
    whole = masker(ids, mask, np.arange(8), seed=7, epoch=2)
    part = masker(ids[[5, 2]], mask[[5, 2]], np.array([5, 2]), seed=7, epoch=2)
    for name, value in whole.items():
        np.testing.assert_array_equal(part[name], value[[5, 2]])
    for other in (masker(ids, mask, np.arange(8), seed=7, epoch=3), masker(ids, mask, np.arange(8), seed=8, epoch=2)):
        assert (other["masked_positions"] != whole["masked_positions"]).any(axis=1).all()


def test_fifteen_percent_eighty_ten_ten() -> None:
    ids, mask = rows(400, 120)
    made = Masker(Masking(), TOKENIZER.vocabulary)(ids, mask, np.arange(400), seed=1, epoch=0)
    weights = made["masked_weights"] > 0
    assert weights.shape == (400, 18)
    np.testing.assert_array_equal(weights.sum(1), np.rint(0.15 * mask.sum(1)))
    where, labels = made["masked_positions"], made["masked_labels"]
    original = np.take_along_axis(ids, where, 1)
    np.testing.assert_array_equal(labels[weights], original[weights])
    assert (labels[~weights] == 0).all() and (where[~weights] == 0).all()
    assert all((np.diff(row[keep]) > 0).all() for row, keep in zip(where, weights, strict=True))
    now = np.take_along_axis(made["token_ids"], where, 1)
    share_mask = (now == 4)[weights].mean()
    share_same = (now == original)[weights].mean()  # 10 % left as they are, and 1 in 94 of the random ones
    assert share_mask == pytest.approx(0.8, abs=0.02)
    assert share_same == pytest.approx(0.1 + 0.1 / 94, abs=0.015)
    untouched = made["token_ids"] != ids
    np.put_along_axis(untouched, where, False, 1)
    assert not untouched[:, 1:].any()


def test_special_tokens_are_neither_chosen_nor_put_in() -> None:
    ids = np.full((300, 20), 1, "int32")  # [UNK] everywhere but for two words
    ids[:, 0], ids[:, 19], ids[:, 5], ids[:, 6] = 2, 3, 9, 10
    masker = Masker(Masking(share=0.5, mask=0.0, random=1.0), TOKENIZER.vocabulary)
    made = masker(ids, np.ones_like(ids), np.arange(300), seed=0, epoch=0)
    kept = made["masked_weights"] > 0
    assert kept.sum(1).tolist() == [2] * 300
    assert set(made["masked_positions"][kept]) == {5, 6}
    drawn = made["token_ids"][:, 5:7]
    assert drawn.min() >= 6 and drawn.max() == 99 and len(np.unique(drawn)) > 80
    np.testing.assert_array_equal(np.delete(made["token_ids"], [5, 6], 1), np.delete(ids, [5, 6], 1))


def test_a_row_without_words_predicts_nothing() -> None:
    ids = np.array([[2, 3, 0, 0]], "int32")
    made = Masker(Masking(), TOKENIZER.vocabulary)(ids, (ids > 0).astype("int32"), np.array([0]), seed=0, epoch=0)
    np.testing.assert_array_equal(made["token_ids"], ids)
    assert made["masked_weights"].sum() == 0


def test_smoothing_chooses_rare_pieces_more_often() -> None:
    ids = np.tile(np.array([2, *([9] * 9), 10, 3], "int32"), (4000, 1))  # nine times a, once b
    counts = np.ones(100)
    counts[9], counts[10] = 1000, 10
    made = Masker(Masking(share=0.08, smoothing=0.7), TOKENIZER.vocabulary, counts)(
        ids, np.ones_like(ids), np.arange(4000), seed=0, epoch=0
    )
    rare = (made["masked_labels"] == 10).mean()
    # one prediction a row: 10^-0.7 / (10^-0.7 + 9 · 1000^-0.7)
    assert rare == pytest.approx(0.1995 / (0.1995 + 9 * 0.00794), abs=0.02)


def test_whole_words_go_together() -> None:
    row = [2, 9, 6, 7, 8, 10, 6, 7, 8, 11, *range(20, 35), 3]
    ids = np.tile(np.array(row, "int32"), (500, 1))
    made = Masker(Masking(whole_words=True, mask=1.0, random=0.0), TOKENIZER.vocabulary)(
        ids, np.ones_like(ids), np.arange(500), seed=0, epoch=0
    )
    hidden = made["token_ids"] == 4
    for start in (2, 6):
        parts = hidden[:, start : start + 3]
        assert (parts.all(1) == parts.any(1)).all() and parts.any() and not parts.all()
    assert hidden.sum(1).max() == 4  # round(0.15 · 26)
    assert hidden.sum(1).min() >= 3


def test_words_may_be_given() -> None:
    ids = np.tile(np.array([2, 20, 21, 22, 23, 24, 25, 3], "int32"), (200, 1))
    words = np.tile(np.array([-1, 0, 0, 1, 1, 2, 2, -1]), (200, 1))
    made = Masker(Masking(share=0.25, whole_words=True, mask=1.0, random=0.0), TOKENIZER.vocabulary)(
        ids, np.ones_like(ids), np.arange(200), seed=0, epoch=0, words=words
    )
    hidden = (made["token_ids"] == 4)[:, 1:7].reshape(200, 3, 2)
    assert (hidden.all(2) == hidden.any(2)).all() and (hidden.any(2).sum(1) == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"share": 0.0}, "masked share"), ({"mask": 0.9, "random": 0.2}, "at most 1"), ({"smoothing": -1.0}, "smoothing")],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Masking(**settings)


def test_what_the_vocabulary_must_have() -> None:
    with pytest.raises(UserError, match=r"no \[MASK\]"):
        Masker(Masking(), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    with pytest.raises(UserError, match="received none"):
        Masker(Masking(smoothing=0.7), TOKENIZER.vocabulary)
