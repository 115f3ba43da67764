from __future__ import annotations

import pytest

from tfdistill.data.conll import load_conll
from tfdistill.data.tagged_data import TaggedSplit
from tfdistill.errors import UserError
from tfdistill.metrics.entities import entity_scores

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
        ({"train.txt": TRAIN, "dev.txt": "EU I-ORG\n"}, r"dev\.txt, line 1: .*'I-ORG'"),
        ({"test.txt": TRAIN}, "train"),
    ],
)
def test_refuses(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as caught:
        load_conll(write(tmp_path, files))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no data at"):
        load_conll(tmp_path / "none")


# --- columns, comments and schemes ------------------------------------------------------------------------------------

GERMEVAL = """#\thttp://example.org/1\t[2020-01-01]
1\tBob\tB-PER\tO
2\twas\tO\tO
3\tin\tO\tO
4\tParis\tB-LOC\tB-LOCderiv

#\thttp://example.org/2\t[2020-01-01]
1\tgood\tO\tO
"""
UNIVERSAL = """# sent_id = 1
# text = Bob won't
1\tBob\tBob\tPROPN\tB-PER
2-3\twon't\t_\t_\t_
2\two\twill\tAUX\tO
3\tn't\tnot\tPART\tO
3.1\tnothing\t_\t_\t_

# sent_id = 2
1\tNew York\tNew York\tPROPN\tB-LOC
"""
BOB = ([["Bob", "was"], ["Paris"]], [["B-PER", "O"], ["B-LOC"]])


@pytest.mark.parametrize(
    ("content", "words", "tags", "note"),
    [
        (GERMEVAL, [["Bob", "was", "in", "Paris"], ["good"]], [["B-PER", "O", "O", "B-LOC"], ["O"]], "column 3"),
        (UNIVERSAL, [["Bob", "wo", "n't"], ["New York"]], [["B-PER", "O", "O"], ["B-LOC"]], "column 2"),
        ("0 Bob B-PER\n1 was O\n\n0 Paris B-LOC\n", *BOB, "column 2"),
        ("1 Bob B-PER\n2 was O\n\n3 Paris B-LOC\n", *BOB, "column 2"),  # numbers run on
        ("7 1 Bob B-PER\n7 2 was O\n\n8 1 Paris B-LOC\n", *BOB, "column 3"),
        ("Word\tPOS\tNER\nBob\tN\tB-PER\nwas\tV\tO\n\nParis\tN\tB-LOC\n", *BOB, "header"),
        ("token tag id\n\nBob B-PER 3\nwas O 4\n\nParis B-LOC 5\n", *BOB, "column 2"),
        ("Bob B-PER x\nwas O y\n\nParis B-LOC x\n", *BOB, "column 2"),  # the tag is not last
        ("Bob B-PER O\nwas O O\n\nParis B-LOC B-X\n", [["Bob", "was"], ["Paris"]], [["O", "O"], ["B-X"]], "column 3"),
        ("Bob N B-NP B-PER\nwas V B-VP O\n\nParis N B-NP B-LOC\n", *BOB, ""),
        ("Bob N B-NP O\nwas V B-VP O\n", [["Bob", "was"]], [["O", "O"]], ""),
        ("Bob B-PER\rwas O\r\rParis B-LOC\r", *BOB, ""),
        ("\n# id 00-01\tdomain=en\nBob _ _ B-PER\nwas _ _ O\n\n# id 2\tdomain=en\nParis _ _ B-LOC\n", *BOB, ""),
        ("#Bob B-PER\n# O\n\n# O\n#Bob B-PER\nx O\ny B-PER\n",
         [["#Bob", "#"], ["#", "#Bob", "x", "y"]], [["B-PER", "O"], ["O", "B-PER", "O", "B-PER"]], ""),
        ("3 CD\n4 CD\n", [["3", "4"]], [["CD", "CD"]], None),
    ],
)  # fmt: skip
def test_columns_are_found(tmp_path, capsys, content, words, tags, note):
    data = load_conll(write(tmp_path, {"train.conll": content}))
    assert (data.splits["train"].words, data.splits["train"].tags) == (words, tags)
    printed = capsys.readouterr().err
    assert note is None or (note in printed if note else printed == "")


def test_columns_of_train_count_for_dev(tmp_path):
    files = {"train.conll": "1 Bob B-PER\n2 was O\n3 in O\n", "dev.conll": "1999 Paris O\n", "test.conll": "12 B-PER\n"}
    data = load_conll(write(tmp_path, files))
    assert data.splits["dev"].words == [["Paris"]] and data.splits["test"].words == [["12"]]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("1 O\n2 O\n\n1 O\n2 B-X\n", ["line 1", "column"]),
        ("B-PER Bob\nO was\nO in\n", ["line 1", "column 1"]),
        ("Bob x _\nwas y _\nin z _\n", ["line 1", "column 3"]),
        ("Bob B-PER 1\nwas X 2\nin O 3\n", ["line 1", "column 3"]),
        ("Bob B-PER\nwas O\n\nParis LOC\n", ["line 4", "'LOC'"]),
        ("Bob B-PER\nwas O\nParis B-\n", ["line 3", "'B-'"]),
        ("Bob B-PER\nwas O\u2028\n", ["line 2", "u2028"]),
        ("Bob B-PER\nwas O\n# a comment inside a sentence\n", ["line 3"]),
        ("# only\n# comments\n", ["no tagged words"]),
    ],
)
def test_columns_and_tags_that_are_refused_with_their_line(tmp_path, content, parts):
    with pytest.raises(UserError) as caught:
        load_conll(write(tmp_path, {"train.conll": content}))
    for part in ["train.conll", *parts]:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("tags", "main", "f1"),
    [
        ("U-PER O B-LOC L-LOC", "f1", 1.0),
        ("S-PER O B-LOC M-LOC", "f1", 1.0),
        ("PER-B O LOC-B LOC-I", "f1", 1.0),
        ("person-actor O location-city location-city", "f1", 1.0),
        ("PER O LOC LOC", "f1", 1.0),
        ("NNP VBD IN NNP", "accuracy", 1.0),
    ],
)
def test_every_scheme_that_is_read_can_be_scored(tmp_path, tags, main, f1):
    content = "".join(f"word{n} {tag}\n" for n, tag in enumerate(tags.split()))
    data = load_conll(write(tmp_path, {"train.conll": content, "dev.conll": content}))
    scores = entity_scores(data.splits["dev"].tags, data.splits["dev"].tags)
    assert next(iter(scores)) == main and scores["f1"] == f1 and scores["accuracy"] == 1.0
    entity_scores(data.splits["dev"].tags, [["O"] * 4])  # as predictions of an untrained model may be
