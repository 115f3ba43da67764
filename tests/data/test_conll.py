from __future__ import annotations

import numpy as np
import pytest

from tfdistill.data.batching import Examples, dataset
from tfdistill.data.conll import TaggedSplit, load_conll, scores_of, tagged_rows, tags_from_logits
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

TRAIN = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "eu", "peter", "black", "##burn", ".", "rejects"])


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("eng.train", "eng.testa", "eng.testb"),
        ("train.conll", "dev.conll", "test.iob"),
    ],
)
def test_load(tmp_path, names):
    contents = (TRAIN, "Peter\tB-PER\r\n\r\n\r\n.\tO\r\n", "EU B-ORG")
    data = load_conll(write(tmp_path, dict(zip(names, contents, strict=True))))
    assert data.label_names == ("O", "B-ORG", "B-PER", "I-PER") and data.num_outputs == 4
    assert data.splits["train"].words == [["EU", "rejects"], ["Peter", "Blackburn"]]
    assert data.splits["train"].tags == [["B-ORG", "O"], ["B-PER", "I-PER"]]
    assert data.splits["dev"] == TaggedSplit([["Peter"], ["."]], [["B-PER"], ["O"]])
    assert data.splits["test"].tags == [["B-ORG"]]


def test_odd_words(tmp_path):
    data = load_conll(
        write(tmp_path, {"x.txt": "\ufeffa\u00a0b  B-X\n#\tO\n\u3000 O\n"}) / "x.txt", label_names=["B-X", "O"]
    )
    assert data.splits["train"].words == [["a\u00a0b", "#", "\u3000"]] and data.label_names == ("B-X", "O")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no CoNLL files, it has nothing; expected train"),
        ({"train.txt": ""}, "train.txt is empty"),
        ({"train.txt": "-DOCSTART- O\n\n"}, "train.txt has no tagged words"),
        ({"train.txt": "EU B-ORG\nrejects\n"}, "line 2: got 1 columns; expected 2, a word first and its tag last"),
        ({"train.txt": "EU N B-ORG\nrejects O\n"}, "line 2: got 2 columns; expected 3"),
        (
            {"train.txt": "EU B-ORG\n", "train.conll": "EU O\n"},
            "has train.conll and train.txt, both for the train split",
        ),
        ({"train.txt": b"EU B-ORG\n\xff O\n"}, r"line 2: byte 9 \(0xff\) is not UTF-8"),
        ({"train.txt": TRAIN, "dev.txt": "EU I-ORG\n"}, "dev.txt has the tag 'I-ORG'; expected one of O, B-ORG"),
        ({"test.txt": TRAIN}, "has no train file, so its tags are unknown"),
    ],
)
def test_refuses(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as caught:
        load_conll(write(tmp_path, files))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no data at"):
        load_conll(tmp_path / "none")


SPLIT = TaggedSplit([["Peter", "Blackburn", "\u200b", "."], ["EU"]], [["B-PER", "I-PER", "O", "O"], ["B-ORG"]])
NAMES = ("O", "B-ORG", "B-PER", "I-PER")


def test_labels_stand_on_first_pieces():
    rows = tagged_rows(TOKENIZER, SPLIT, NAMES, max_length=8)
    assert [TOKENIZER.vocabulary[i] for i in rows.encoded.token_ids] == [
        "[CLS]", "peter", "black", "##burn", ".", "[SEP]", "[CLS]", "eu", "[SEP]"
    ]  # fmt: skip
    assert rows.labels.tolist() == [-100, 2, 3, -100, 0, -100, -100, 1, -100]
    assert rows.words.tolist() == [-1, 0, 1, -1, 3, -1, -1, 0, -1]
    assert rows.encoded.offsets.tolist() == [0, 6, 9] and rows.encoded.segment_ids.tolist() == [0] * 9
    with pytest.raises(UserError, match="max_length is 2"):
        tagged_rows(TOKENIZER, SPLIT, NAMES, max_length=2)


def test_batches_carry_token_labels():
    rows = tagged_rows(TOKENIZER, SPLIT, NAMES)
    (batch,) = dataset(Examples(rows.encoded, token_labels=rows.labels), 2, shuffle=False).as_numpy_iterator()
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 0, -100], [-100, 1, -100, -100, -100, -100]]
    assert batch["student"]["padding_mask"].sum(axis=1).tolist() == [6, 3]
    with pytest.raises(ValueError, match=r"token_labels of shape \(2,\); expected \(9,\)"):
        Examples(rows.encoded, token_labels=np.zeros(2))
    with pytest.raises(ValueError, match="labels and token_labels"):
        Examples(rows.encoded, np.zeros(2), token_labels=rows.labels)


def test_tags_of_whole_words():
    rows = tagged_rows(TOKENIZER, SPLIT, NAMES, max_length=8)
    logits = np.zeros((2, 9, 4))
    logits[0, 1, 2] = logits[0, 2, 3] = logits[0, 3, 1] = logits[1, 1, 1] = 1  # ##burn's is not read
    assert tags_from_logits(SPLIT, rows, logits, NAMES) == SPLIT.tags
    assert scores_of(SPLIT, rows, logits, NAMES) == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    cut = tagged_rows(TOKENIZER, SPLIT, NAMES, max_length=3)
    assert tags_from_logits(SPLIT, cut, logits, NAMES) == [["B-PER", "O", "O", "O"], ["B-ORG"]]
    assert scores_of(SPLIT, cut, logits, NAMES)["f1"] == 0.5  # what was cut off is scored too
    with pytest.raises(UserError, match=r"shape \(2, 9, 3\); expected \(2, 6 or more, 4\)"):
        tags_from_logits(SPLIT, rows, logits[..., :3], NAMES)
