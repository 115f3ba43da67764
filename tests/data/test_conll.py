from __future__ import annotations

import pytest

from tfdistill.data.conll import load_conll
from tfdistill.data.tagged_data import TaggedSplit
from tfdistill.errors import UserError

TRAIN = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


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
        ({}, "nothing"),
        ({"train.txt": ""}, r"train\.txt"),
        ({"train.txt": "-DOCSTART- O\n\n"}, r"train\.txt"),
        ({"train.txt": "EU B-ORG\nrejects\n"}, "line 2"),
        ({"train.txt": "EU N B-ORG\nrejects O\n"}, "line 2"),
        (
            {"train.txt": "EU B-ORG\n", "train.conll": "EU O\n"},
            r"train\.conll and train\.txt",
        ),
        ({"train.txt": b"EU B-ORG\n\xff O\n"}, r"line 2: byte 9 \(0xff\)"),
        ({"train.txt": TRAIN, "dev.txt": "EU I-ORG\n"}, r"dev\.txt .*'I-ORG'"),
        ({"test.txt": TRAIN}, "train"),
    ],
)
def test_refuses(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as caught:
        load_conll(write(tmp_path, files))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no data at"):
        load_conll(tmp_path / "none")
