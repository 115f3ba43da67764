"""Tags of words: rows of token ids, scores and predictions."""

from __future__ import annotations

import numpy as np
import pytest

from tfdistill.data.batching import Examples, dataset
from tfdistill.data.tagged_data import TaggedData, TaggedSplit
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "eu", "peter", "black", "##burn", ".", "rejects"])
SPLIT = TaggedSplit([["Peter", "Blackburn", "\u200b", "."], ["EU"]], [["B-PER", "I-PER", "O", "O"], ["B-ORG"]])
DATA = TaggedData("", {"train": SPLIT}, ("O", "B-ORG", "B-PER", "I-PER"))


def test_labels_stand_on_first_pieces():
    rows = DATA.encode(SPLIT, TOKENIZER, 8)
    assert [TOKENIZER.vocabulary[i] for i in rows.encoded.token_ids] == [
        "[CLS]", "peter", "black", "##burn", ".", "[SEP]", "[CLS]", "eu", "[SEP]"
    ]  # fmt: skip
    assert rows.token_labels.tolist() == [-100, 2, 3, -100, 0, -100, -100, 1, -100]
    assert rows.words.tolist() == [-1, 0, 1, -1, 3, -1, -1, 0, -1]
    assert rows.encoded.offsets.tolist() == [0, 6, 9] and rows.encoded.segment_ids.tolist() == [0] * 9
    with pytest.raises(UserError, match="max_length"):
        DATA.encode(SPLIT, TOKENIZER, 2)


def test_batches_carry_token_labels():
    rows = DATA.encode(SPLIT, TOKENIZER, 128)
    (batch,) = dataset(Examples(rows.encoded, token_labels=rows.token_labels), 2, shuffle=False).as_numpy_iterator()
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 0, -100], [-100, 1, -100, -100, -100, -100]]
    assert batch["student"]["padding_mask"].sum(axis=1).tolist() == [6, 3]
    with pytest.raises(ValueError, match="token_labels"):
        Examples(rows.encoded, token_labels=np.zeros(2))
    with pytest.raises(ValueError, match="labels and token_labels"):
        Examples(rows.encoded, np.zeros(2), token_labels=rows.token_labels)


def test_tags_of_whole_words():
    rows = DATA.encode(SPLIT, TOKENIZER, 8)
    logits = np.zeros((2, 9, 4))
    logits[0, 1, 2] = logits[0, 2, 3] = logits[0, 3, 1] = logits[1, 1, 1] = 1  # ##burn's is not read
    assert rows.tags(logits) == SPLIT.tags
    assert rows.score(logits) == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    cut = DATA.encode(SPLIT, TOKENIZER, 3)
    assert cut.tags(logits) == [["B-PER", "O", "O", "O"], ["B-ORG"]]
    assert cut.score(logits)["f1"] == 0.5  # what was cut off is scored too
    with pytest.raises(UserError, match=r"\(2, 9, 3\)"):
        rows.tags(logits[..., :3])


def test_predictions_are_plain_values():
    rows = DATA.encode(SPLIT, TOKENIZER, 8)
    assert rows.predictions(np.zeros((2, 9, 4)))[1] == {"words": ["EU"], "tags": ["B-ORG"], "predicted": ["O"]}
    assert rows.labelled.tolist() == [True, True]


def test_what_other_data_have_is_refused():
    assert DATA.per_token and DATA.has_labels("train") and not DATA.has_extra("train")
    with pytest.raises(UserError, match="text_extra"):
        DATA.with_extra()
    with pytest.raises(UserError, match="vocabulary"):
        DATA.encode_for_teacher(SPLIT, TOKENIZER, 8, privileged=False)
    assert DATA.training_split(None) is SPLIT
    first = DATA.first(1)
    assert first.splits["train"] == SPLIT.take([0]) and first.fingerprint != DATA.fingerprint
