"""Two vocabularies on one text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.two_vocabularies import MixedSequences, learn_vocabulary
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def teacher() -> Tokenizer:
    return Tokenizer([*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "."])


@pytest.fixture(scope="module")
def sequences(teacher, tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    words = ["abba", "cafe", "bad", "dach", "face"]
    lines = []
    for _ in range(60):
        lines += [" ".join(rng.choice(words, 8)).capitalize() + "." for _ in range(3)] + [""]
    path = Path(root) / "text.txt"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDISTILL_CACHE", str(root / "cache"))
        corpus = PlainText(str(path)).prepare(teacher)
    return corpus.examples(length=48)


def test_learned_vocabulary_has_the_words_of_the_text(sequences, teacher):
    learned = learn_vocabulary(sequences, teacher, 30)
    assert learned.vocabulary[:5] == tuple(SPECIAL) and len(learned.vocabulary) <= 31
    assert {"abba", "cafe"} <= set(learned.vocabulary)
    with pytest.raises(UserError, match="word pieces"):
        learn_vocabulary(sequences, teacher, 5000)


def test_mixed_segmentation(sequences, teacher):
    student = learn_vocabulary(sequences, teacher, 30)
    both = teacher.vocabulary + student.vocabulary
    rows = np.arange(6)
    shares = {}
    for share in (0.0, 0.5, 1.0):
        made = MixedSequences(sequences, teacher, student, 48, share=share).batch(rows, seed=1, epoch=0)
        ids, mask = made["teacher"]["token_ids"], made["teacher"]["padding_mask"]
        words = np.isin(ids, [n for n, piece in enumerate(both) if piece not in SPECIAL]) & (mask > 0)
        shares[share] = float(np.mean(ids[words] >= len(teacher.vocabulary)))
        assert set(made["labels"]) == {"masked_labels", "masked_weights", "teacher_labels", "teacher_weights"}
        assert made["student"]["token_ids"].max() < len(student.vocabulary)
        # What was masked stood there: with the labels put back the words of the text come out again.
        restored = ids.copy()
        labels, weights = made["labels"]["teacher_labels"], made["labels"]["teacher_weights"]
        for row, places in enumerate(made["teacher"]["masked_positions"]):
            restored[row, places[weights[row] > 0]] = labels[row][weights[row] > 0]
        plain = sequences.batch(rows, seed=1, epoch=0)["student"]
        whole, cut = (
            "".join(both[i].removeprefix("##") for i in row[used > 0][:-1])
            for row, used in ((plain["token_ids"][0], plain["padding_mask"][0]), (restored[0], mask[0]))
        )
        assert cut and whole.startswith(cut)
    assert shares[0.0] < 0.1 and shares[1.0] > 0.9 and 0.05 < shares[0.5] < 0.9


def test_the_same_numbers_give_the_same_batch(sequences, teacher):
    student = learn_vocabulary(sequences, teacher, 30)
    one, two = (MixedSequences(sequences, teacher, student, 48) for _ in range(2))
    first, second = (source.batch(np.array([3, 1]), seed=4, epoch=2) for source in (one, two))
    for group, values in first.items():
        for name, value in values.items():
            np.testing.assert_array_equal(value, second[group][name])
    batches = list(one.dataset(4, seed=1, epochs=1))
    assert len(batches) == -(-len(one) // 4) and batches[0]["teacher"]["token_ids"].shape == (4, 48)
    (last,) = one.dataset(4, seed=1, epochs=1, first_step=len(batches) - 1)
    np.testing.assert_array_equal(last["teacher"]["token_ids"], batches[-1]["teacher"]["token_ids"])


def test_each_worker_reads_its_part_and_an_epoch_may_end_within_a_batch(sequences, teacher):
    source = MixedSequences(sequences, teacher, learn_vocabulary(sequences, teacher, 30), 48)
    size = len(source) - 2
    whole = list(source.dataset(size, seed=1, epochs=2))
    parts = [list(source.dataset(size, seed=1, epochs=2, worker=(n, 2))) for n in range(2)]
    for batch, *halves in zip(whole, *parts, strict=True):
        for group, values in batch.items():
            for name, value in values.items():
                np.testing.assert_array_equal(np.concatenate([half[group][name] for half in halves]), value)
    # The second batch begins with the last two rows of the first epoch, and goes on with the first ones of the second.
    order = np.random.default_rng([1, 1]).permutation(len(source))
    new = source.batch(order[: size - 2], seed=1, epoch=1)["student"]["token_ids"]
    np.testing.assert_array_equal(whole[1]["student"]["token_ids"][2:], new)
