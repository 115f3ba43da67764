from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.table_files import read_table
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError

TRAIN = "text\tlabel\ngood film\tpositive\nbad film\tnegative\n"


def write(folder: Path, files: dict[str, str | bytes]) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def jsonl(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(*labels: object) -> str:
    return "text\tlabel\n" + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels))


def fails(spec: str, *parts: str, **options) -> None:
    """Loading fails with one line that has all of `parts`."""
    with pytest.raises(UserError) as caught:
        load_data(spec, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# --- what is accepted ---


def test_directory(tmp_path):
    spec = write(
        tmp_path, {"train.tsv": TRAIN, "dev.csv": 'text,label\n"a, ""b""",positive\n', "test.tsv": "text\nwhat\n"}
    )
    (tmp_path / "README.md").write_text("ignored")
    data = load_data(spec)
    assert (data.name, data.label_names, data.task, data.is_pair) == (
        spec,
        ("negative", "positive"),
        "classification",
        False,
    )
    assert list(data.splits) == ["train", "dev", "test"]
    assert data.splits["train"].texts == ["good film", "bad film"]
    assert data.splits["train"].labels.tolist() == [1, 0]
    assert data.splits["train"].labels.dtype == np.int64
    assert data.splits["dev"].texts == ['a, "b"']
    assert data.splits["test"].labels is None


@pytest.mark.parametrize("name", ["dev", "validation", "valid", "val", "Dev"])
@pytest.mark.parametrize("suffix", ["tsv", "TSV"])
def test_names_of_dev(tmp_path, name, suffix):
    assert len(load_data(write(tmp_path, {"train.tsv": TRAIN, f"{name}.{suffix}": TRAIN})).splits["dev"]) == 2


@pytest.mark.parametrize(
    "content",
    ["\ufefftext\tlabel\ngood film\tpositive\nbad film\tnegative", TRAIN.replace("\n", "\r\n"), TRAIN + "\n\n"],
)
def test_byte_order_mark_and_line_ends(tmp_path, content):
    data = load_data(write(tmp_path, {"train.tsv": content}))
    assert data.splits["train"].texts == ["good film", "bad film"]
    assert data.label_names == ("negative", "positive")


def test_tsv_has_no_quoting(tmp_path):
    content = 'text\tlabel\n"quoted\ta\nit""s " here\tb\n\x0bv\u2028t \t a \n'
    data = load_data(write(tmp_path, {"train.tsv": content}))
    assert data.splits["train"].texts == ['"quoted', 'it""s " here', "\x0bv\u2028t "]
    assert data.splits["train"].labels.tolist() == [0, 1, 0]


def test_csv_quoting(tmp_path):
    content = 'label,id,text\r\na,1,"two\r\nlines, ""quoted"""\r\nb,2,plain\r\n'
    assert load_data(write(tmp_path, {"train.csv": content})).splits["train"].texts == [
        'two\r\nlines, "quoted"',
        "plain",
    ]


def test_long_csv_field(tmp_path):
    limit = csv.field_size_limit()
    text = "word " * 100_000
    assert load_data(write(tmp_path, {"train.csv": f"text,label\n{text},a\nb,b\n"})).splits["train"].texts[0] == text
    assert csv.field_size_limit() == limit


def test_pairs(tmp_path):
    rows = [{"text": "a", "text_b": "b", "label": "yes"}, {"text": "c", "text_b": "d", "label": "no"}]
    data = load_data(write(tmp_path, {"train.jsonl": jsonl(*rows)}))
    assert data.is_pair
    assert (data.splits["train"].texts, data.splits["train"].texts_b) == (["a", "c"], ["b", "d"])


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["1", "0", "2"], ("0", "1", "2"), [1, 0, 2]),
        (["5", "1", "3"], ("1", "3", "5"), [2, 0, 1]),
        (["10", "9", "-1"], ("-1", "9", "10"), [2, 1, 0]),
        (["02", "01"], ("01", "02"), [1, 0]),
        (["b", "B", "a"], ("B", "a", "b"), [2, 0, 1]),
    ],
)
def test_class_labels(tmp_path, labels, names, numbers):
    data = load_data(write(tmp_path, {"train.tsv": tsv(*labels)}))
    assert (data.label_names, data.splits["train"].labels.tolist()) == (names, numbers)


@pytest.mark.parametrize("labels", [["0.5", "1", "2"], ["1.0", "0.0"], ["-1e-3", "+.5", "3"]])
def test_regression(tmp_path, labels):
    data = load_data(write(tmp_path, {"train.tsv": tsv(*labels), "dev.tsv": tsv("1", "2")}))
    assert (data.task, data.label_names, data.num_outputs) == ("regression", None, 1)
    assert data.splits["train"].labels.dtype == np.float32
    np.testing.assert_array_equal(data.splits["train"].labels, np.array([float(label) for label in labels], np.float32))
    assert data.splits["dev"].labels.tolist() == [1.0, 2.0]


def test_json_labels(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    numbers = jsonl({"text": "a", "label": 1}, {"text": "b", "label": 0})
    strings = jsonl({"text": "a", "label": "0.5"}, {"text": "b", "label": "1"})
    assert load_data(write(tmp_path / "a", {"train.jsonl": numbers})).splits["train"].labels.tolist() == [1, 0]
    assert load_data(write(tmp_path / "b", {"train.jsonl": strings})).label_names == ("0.5", "1")


def test_labels_file(tmp_path):
    files = {"train.tsv": TRAIN, "labels.txt": "positive\r\nneutral\r\nnegative\r\n"}
    data = load_data(write(tmp_path, files))
    assert (data.label_names, data.splits["train"].labels.tolist()) == (("positive", "neutral", "negative"), [0, 2])
    data = load_data(str(tmp_path), label_names=["negative", "neutral", "positive"])
    assert (data.label_names, data.splits["train"].labels.tolist()) == (("negative", "neutral", "positive"), [2, 0])


def test_class_numbers_with_names(tmp_path):
    spec = write(tmp_path, {"train.tsv": tsv("1", "0"), "dev.tsv": tsv("1", "1")})
    data = load_data(spec, label_names=["negative", "positive"])
    assert (data.label_names, data.splits["train"].labels.tolist()) == (("negative", "positive"), [1, 0])
    assert load_data(spec, label_names=["1", "0"]).splits["train"].labels.tolist() == [0, 1]  # these are names


def test_without_train(tmp_path):
    spec = write(tmp_path, {"test.tsv": TRAIN})
    assert load_data(spec, label_names=["positive", "negative"]).splits["test"].labels.tolist() == [0, 1]
    fails(spec, "has no train file and no labels.txt")
    write(tmp_path, {"labels.txt": "negative\npositive\n"})
    assert load_data(spec).splits["test"].labels.tolist() == [1, 0]
    write(tmp_path, {"test.tsv": "text\nonly text\n"})
    assert load_data(spec).splits["test"].labels is None
    (tmp_path / "labels.txt").unlink()
    fails(spec, "has no train file and no labels.txt")
    write(tmp_path, {"test.tsv": tsv("0.5", "1.5")})
    assert load_data(spec).task == "regression"


def test_test_labels_all_empty(tmp_path):
    assert (
        load_data(write(tmp_path, {"train.tsv": TRAIN, "test.tsv": "text\tlabel\na\t\nb\t \n"})).splits["test"].labels
        is None
    )
    (tmp_path / "test.tsv").unlink()
    rows = [{"text": "a", "label": None}, {"text": "b"}, {"text": "c", "label": ""}]
    assert load_data(write(tmp_path, {"test.jsonl": jsonl(*rows)})).splits["test"].labels is None


def test_single_file(tmp_path):
    write(tmp_path, {"all.tsv": tsv(*["a", "b"] * 20)})
    spec = str(tmp_path / "all.tsv")
    data = load_data(spec)
    order = np.random.default_rng(13).permutation(40)
    assert data.splits["test"].texts == [f"text {i}" for i in order[:4]]
    assert data.splits["dev"].texts == [f"text {i}" for i in order[4:8]]
    assert data.splits["train"].texts == [f"text {i}" for i in order[8:]]
    assert load_data(spec, seed=1).splits["test"].texts != data.splits["test"].texts


def test_splits_asked_for(tmp_path):
    spec = write(tmp_path, {"train.tsv": TRAIN, "dev.tsv": TRAIN})
    assert list(load_data(spec, splits=["dev"]).splits) == ["dev"]
    fails(spec, "has no split 'test'; found train, dev", splits=["dev", "test"])


def test_multilabel(tmp_path):
    spec = write(
        tmp_path, {"train.tsv": tsv("joy|anger", "fear", "|", "anger | joy"), "dev.csv": "text,label\na,joy\n"}
    )
    data = load_data(spec)
    assert (data.task, data.label_names, data.num_outputs) == ("multilabel", ("anger", "fear", "joy"), 3)
    labels = data.splits["train"].labels
    assert labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]] and labels.dtype == np.float32
    assert data.splits["dev"].labels.tolist() == [[0, 0, 1]]
    named = load_data(spec, label_names=["joy", "anger", "fear", "none"])
    assert named.splits["train"].labels[0].tolist() == [1, 1, 0, 0]
    fails(spec, "train.tsv, line 2: label 'anger' is not a known class", label_names=["joy", "fear"])
    fails(spec, "train.tsv, line 4: the label is a list of classes; expected one class", task="classification")
    fails(spec, "label 'joy|anger' is a name; expected a number", task="regression")
    fails(spec, "got the task 'multilable'", "(did you mean 'multilabel'?)", task="multilable")


def test_multilabel_lists_and_numbers(tmp_path):
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": "x|y"}]
    data = load_data(write(tmp_path, {"train.jsonl": jsonl(*rows)}))
    assert (data.label_names, data.splits["train"].labels.tolist()) == (
        ("x", "x|y", "y"),
        [[1, 0, 1], [0] * 3, [0, 1, 0]],
    )
    fails(str(tmp_path), "line 1: the label is a list of classes; expected one class", task="classification")
    write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": [10, 9]}, {"text": "b", "label": [2]})})
    assert load_data(str(tmp_path)).label_names == ("2", "9", "10")
    write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": [0, 2]}), "labels.txt": "p\nq\nr\n"})
    assert load_data(str(tmp_path)).splits["train"].labels.tolist() == [[1, 0, 1]]
    for value, said in (([0.5], "0.5"), ([["x"]], '["x"]'), ([None], "null"), ([""], '""'), ([True], "true/false")):
        write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": value})})
        fails(str(tmp_path), "train.jsonl, line 1", said)


def test_names_with_a_bar_stay_names_where_they_are_listed(tmp_path):
    spec = write(tmp_path, {"train.tsv": tsv("a|b", "c"), "labels.txt": "a|b\nc\n"})
    data = load_data(spec)
    assert (data.task, data.splits["train"].labels.tolist()) == ("classification", [0, 1])
    (tmp_path / "labels.txt").unlink()
    assert load_data(spec, task="classification").label_names == ("a|b", "c")
    assert load_data(spec).label_names == ("a", "b", "c")
    write(tmp_path, {"train.tsv": tsv("a||b", "c")})
    assert load_data(spec).label_names == ("a||b", "c")


def test_task_that_was_asked_for(tmp_path):
    spec = write(tmp_path, {"train.tsv": tsv("1", "2", "5")})
    assert load_data(spec).task == "classification"
    assert load_data(spec, task="regression").splits["train"].labels.tolist() == [1.0, 2.0, 5.0]
    assert load_data(spec, task="multilabel").splits["train"].labels.tolist() == np.eye(3).tolist()
    write(tmp_path, {"train.tsv": tsv("1.5", "2", "5")})
    fails(spec, "has numbers as labels (regression)", task="classification")


def test_extra_columns(tmp_path):
    content = "text\ttext_extra_2\tlabel\ttext_extra\ttext_extraordinary\na\tsecond\tx\tfirst\t?\nb\t\ty\tonly\t?\n"
    spec = write(tmp_path, {"train.tsv": content, "dev.tsv": TRAIN.replace("positive", "x").replace("negative", "y")})
    data = load_data(spec)
    assert data.splits["train"].texts_extra == (["first", "only"], ["second", ""])
    assert data.splits["dev"].texts_extra == ()
    named = "text\ttext_extra_b\tlabel\ttext_extra_10\ttext_extra_a\ttext_extra_2\na\t1\tx\t2\t3\t4\nb\t1\ty\t2\t3\t4\n"
    write(tmp_path, {"train.tsv": named})
    assert [column[0] for column in load_data(spec).splits["train"].texts_extra] == ["4", "2", "3", "1"]
    rows = [{"text": "a", "label": "x", "text_extra": None}, {"text": "b", "label": "y", "text_extra": "e"}]
    (tmp_path / "train.tsv").unlink()
    write(tmp_path, {"train.jsonl": jsonl(*rows)})
    assert load_data(spec).splits["train"].texts_extra == (["", "e"],)
    write(tmp_path, {"dev.tsv": content})
    fails(
        spec,
        "dev.tsv has text_extra, text_extra_2 and",
        "train.jsonl text_extra; expected the same columns as in train",
    )
    write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": "x", "text_extra": 3})})
    fails(spec, "line 1: 'text_extra' is a number; expected a string")
    (tmp_path / "train.jsonl").unlink()
    write(tmp_path, {"train.tsv": "text\tlabel\ttext_extra\ttext_extra\na\tx\tb\tc\n"})
    fails(spec, "column 'text_extra' occurs 2 times")


@pytest.mark.parametrize("name", ["unlabelled.txt", "unlabeled.TXT", "unlabelled.txt.gz"])
def test_unlabelled_plain_text(tmp_path, name):
    content = "\ufefffirst\r\n\n  \n second\tpart \n".encode()
    spec = write(tmp_path, {"train.tsv": TRAIN, name: gzip.compress(content) if name.endswith("gz") else content})
    data = load_data(spec)
    assert list(data.splits) == ["train", "unlabelled"]
    assert (data.splits["unlabelled"].texts, data.splits["unlabelled"].labels) == (["first", " second\tpart "], None)


def test_unlabelled_tables(tmp_path):
    spec = write(tmp_path, {"train.tsv": TRAIN, "unlabelled.csv": "text,label\na,positive\nb,\n"})
    assert load_data(spec).splits["unlabelled"].texts == ["a", "b"]
    write(tmp_path, {"unlabelled.txt": "c\n"})
    fails(spec, "has unlabelled.csv and unlabelled.txt, both for the unlabelled split")
    (tmp_path / "unlabelled.csv").unlink()
    write(tmp_path, {"unlabelled.txt": b"ok\n\xff\n"})
    fails(spec, "unlabelled.txt, line 2: byte 3 (0xff) is not UTF-8")
    (tmp_path / "unlabelled.txt").unlink()
    write(tmp_path, {"unlabelled.txt.gz": gzip.compress(b"text\n" * 99)[:-9]})
    fails(spec, "unlabelled.txt.gz is no whole gzip file")
    (tmp_path / "unlabelled.txt.gz").unlink()
    write(tmp_path, {"unlabelled.txt": "a\n", "train.tsv": "text\ttext_b\tlabel\na\tb\tx\nc\td\ty\n"})
    fails(spec, "train.tsv has text_b and", "unlabelled.txt has none")
    (tmp_path / "train.tsv").unlink()
    fails(spec, "has no data files, it has unlabelled.txt")


def test_rows_without_label_on_request(tmp_path):
    files = {"train.tsv": "text\tlabel\ttext_extra\na\tx\t1\nb\t\t2\nc\ty\t3\nd\t \t4\n"}
    spec = write(tmp_path, files)
    fails(spec, "line 3: no label; expected", "belong in unlabelled.tsv")
    data = load_data(spec, separate_unlabelled=True)
    assert (data.splits["train"].texts, data.splits["train"].labels.tolist()) == (["a", "c"], [0, 1])
    assert (data.splits["unlabelled"].texts, data.splits["unlabelled"].texts_extra) == (["b", "d"], (["2", "4"],))
    write(tmp_path, {"unlabelled.txt": "e\n"})
    fails(spec, "has unlabelled.txt, and rows without a label in train.tsv", separate_unlabelled=True)
    write(tmp_path, {"all.tsv": tsv(*["a", "b", ""] * 10)})
    data = load_data(str(tmp_path / "all.tsv"), separate_unlabelled=True)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 16,
        "dev": 2,
        "test": 2,
        "unlabelled": 10,
    }
    write(tmp_path, {"all.tsv": tsv(*[""] * 10)})
    fails(str(tmp_path / "all.tsv"), "line 2: no label", separate_unlabelled=True)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
# No tab or line feed; a carriage return at the end of a line belongs to its end.
PLAIN = TEXT.map(lambda text: text.replace("\t", " ").replace("\n", " ").replace("\r", " ")).filter(str.strip)
NAME = st.sampled_from(["positive", "negative", "né"])


def round_trip(suffix: str, content: bytes) -> tuple[list[str], list[str] | None, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        table = read_table(path)
    return table.texts, table.texts_b, [label.text for label in table.labels]


@given(
    st.lists(st.tuples(PLAIN, PLAIN, NAME), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_tsv_round_trip(rows, end, mark):
    lines = ["text\ttext_b\tlabel", *("\t".join(row) for row in rows)]
    texts, texts_b, labels = round_trip(".tsv", (mark + end.join(lines) + end).encode())
    assert list(zip(texts, texts_b, labels, strict=True)) == rows


@given(
    st.lists(st.tuples(TEXT, TEXT, NAME), min_size=1), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"])
)
def test_csv_round_trip(rows, end, mark):
    stream = io.StringIO(newline="")
    # With "\n" as its line end, Python's writer leaves a lone "\r" unquoted, against RFC 4180.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    csv.writer(stream, lineterminator=end, quoting=quoting).writerows([("text", "text_b", "label"), *rows])
    texts, texts_b, labels = round_trip(".csv", (mark + stream.getvalue()).encode())
    assert list(zip(texts, texts_b, labels, strict=True)) == rows


@given(st.lists(st.tuples(TEXT, TEXT, NAME), min_size=1), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_jsonl_round_trip(rows, ascii_only, end):
    lines = [json.dumps({"text": a, "text_b": b, "label": c}, ensure_ascii=ascii_only) for a, b, c in rows]
    texts, texts_b, labels = round_trip(".jsonl", (end.join(lines) + end).encode())
    assert list(zip(texts, texts_b, labels, strict=True)) == rows


@given(st.binary(max_size=60), st.sampled_from([".tsv", ".csv", ".jsonl"]))
def test_any_bytes_give_a_table_or_one_line(content, suffix):
    head = b"" if suffix == ".jsonl" else b"text,label\n" if suffix == ".csv" else b"text\tlabel\n"
    for data in (content, head + content):
        try:
            round_trip(suffix, data)
        except UserError as error:
            assert "\n" not in str(error)


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.tsv", "", ["train.tsv is empty", "expected a header line"]),
        ("train.csv", "\ufeff", ["train.csv is empty"]),
        ("train.jsonl", "\n \n", ["train.jsonl is empty"]),
        ("train.tsv", "text\tlabel\n", ["train.tsv has a header and no rows"]),
        ("train.csv", "text,label\r\n", ["train.csv has a header and no rows"]),
        (
            "train.tsv",
            "txet\tlabel\na\tb\n",
            ["train.tsv, line 1", "no column 'text'; found txet, label (did you mean 'txet'?)"],
        ),
        ("train.tsv", "Text\tlabel\na\tb\n", ["found Text, label (did you mean 'Text'?)"]),
        ("train.tsv", "text,label\na,b\n", ["no column 'text'; found text,label"]),
        ("train.csv", "text\tlabel\na\tb\n", ["no column 'text'"]),
        ("train.tsv", "text\tlable\na\tb\n", ["no column 'label'; found text, lable (did you mean 'lable'?)"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "labels": 1}),
            ["no column 'label'; found text, labels (did you mean 'labels'?)"],
        ),
        ("train.jsonl", jsonl({"sentence": "a"}), ["line 1: no key 'text'; found sentence"]),
        ("train.jsonl", "{}\n", ["no key 'text'; found none"]),
        ("train.tsv", "text\ttext\tlabel\na\tb\tc\n", ["column 'text' occurs 2 times"]),
        ("train.tsv", "text\tlabel\na\tb\nc\n", ["line 3: got 1 cells; expected 2"]),
        ("train.tsv", "text\tlabel\na\tb\tc\n", ["line 2: got 3 cells; expected 2", "TSV has no quoting"]),
        ("train.tsv", "text\tlabel\na\tb\n\nc\td\n", ["line 3: got 1 cells"]),
        ("train.csv", 'text,label\n"a\nb",c\nd\n', ["line 4: got 1 cells; expected 2"]),
        ("train.csv", 'text,label\na,b\n"a,b\nc,d\n', ["line 3: unexpected end of data", "every quote closed"]),
        ("train.csv", 'text,label\n"a"b,c\n', ["line 2: ',' expected after '\"'"]),
        (
            "train.jsonl",
            '{"text": "a", "label": 1}\n{"text"\n',
            ["line 2: not JSON", "expected one JSON object a line"],
        ),
        ("train.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}', ["line 2: the line is blank"]),
        ("train.jsonl", '["a"]\n', ["line 1: got a list; expected a JSON object"]),
        ("train.jsonl", "[" * 100_000, ["line 1: not JSON"]),
        ("train.jsonl", jsonl({"text": 3, "label": "a"}), ["line 1: 'text' is a number; expected a string"]),
        ("train.jsonl", jsonl({"text": None, "label": "a"}), ["line 1: 'text' is null; expected a string"]),
        ("train.jsonl", jsonl({"text": "a", "text_b": ["b"], "label": "a"}), ["'text_b' is a list; expected a string"]),
        ("train.jsonl", '{"text": "\\ud800", "label": 1}', ["line 1: 'text' has half of a surrogate pair (\\ud800)"]),
        ("train.jsonl", '{"text": "a\\u0000", "label": 1}', ["line 1: 'text' has a NUL character"]),
        ("train.jsonl", '{"text": "a", "label": "b\\u0000"}', ["line 1: the label has a line end or NUL"]),
        ("train.jsonl", '{"text": "a", "label": "\\udfff"}', ["line 1: the label has half of a surrogate pair"]),
        ("train.tsv", b"text\tlabel\na\tb\nc\0\td\n", ["line 3: byte 16 is a NUL (0x00)"]),
        (
            "train.tsv",
            b"text\tlabel\na\tb\nsch\xf6n\td\n",
            ["line 3: byte 18 (0xf6) is not UTF-8; expected UTF-8 text"],
        ),
        ("train.csv", b"\xef\xbb\xbftext,label\n\xff,b\n", ["line 2: byte 14 (0xff) is not UTF-8"]),
        ("train.tsv", "text\tlabel\n".encode("utf-16"), ["line 1: byte 0 (0xff) is not UTF-8"]),
        ("train.tsv", "text\tlabel\na\tb\n\tc\n", ["line 3: 'text' is empty; expected a text"]),
        ("train.tsv", "text\tlabel\na\tb\n \u00a0\tc\n", ["line 3: 'text' is only white space"]),
        ("train.tsv", "text\ttext_b\tlabel\na\t\tb\n", ["line 2: 'text_b' is empty"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "label": 1}, {"text": "a", "text_b": "b", "label": 0}),
            ["line 1: no 'text_b', but line 2 has one; expected it in every row or in none"],
        ),
        ("train.tsv", "text\tlabel\na\tb\nc\t\n", ["line 3: no label; expected"]),
        ("train.jsonl", jsonl({"text": "a", "label": "b"}, {"text": "c"}), ["line 2: no label"]),
        ("train.tsv", tsv("", ""), ["line 2: no label"]),
        ("train.tsv", tsv("0.5", "nan"), ["line 3: label 'nan' is not finite"]),
        ("train.tsv", tsv("0.5", "-Infinity"), ["line 3: label '-Infinity' is not finite"]),
        ("train.tsv", tsv("0.5", "1e39"), ["line 3: label 1e39 is not finite"]),
        ("train.jsonl", '{"text": "a", "label": NaN}\n', ["line 1: label nan is not finite"]),
        ("train.jsonl", '{"text": "a", "label": 1e999}\n', ["line 1: label inf is not finite"]),
        ("train.jsonl", '{"text": "a", "label": 1' + "0" * 50 + "}\n", ["is not finite"]),
        ("train.jsonl", '{"text": "a", "label": 1' + "0" * 5000 + "}\n", ["line 1: not JSON"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "label": True}),
            ["line 1: the label is true/false; expected a string or a number"],
        ),
        ("train.jsonl", jsonl({"text": "a", "label": ["b"]}), ["line 1: the label is a list"]),
        ("train.tsv", tsv("good", "1"), ["line 3: label '1' is a number; expected a name, as on line 2 ('good')"]),
        (
            "train.tsv",
            tsv("1", "0.5", "good"),
            ["line 4: label 'good' is a name; expected a number, as on line 2 ('1')"],
        ),
        (
            "train.jsonl",
            jsonl({"text": "a", "label": 1}, {"text": "b", "label": "1"}),
            ["line 2: label '1' is a name; expected a number"],
        ),
        ("train.tsv", tsv("1", "01", "2"), ["the labels '01' and '1', the same number"]),
        ("train.tsv", tsv("a", "a"), ["train.tsv has only the class 'a'; expected two or more"]),
        ("train.tsv", tsv("1", "1"), ["has only the class '1'"]),
    ],
)
def test_bad_train_file(tmp_path, name, content, parts):
    fails(write(tmp_path, {name: content}), name, *parts)


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (
            {"dev.tsv": tsv("positive", "positiv")},
            ["dev.tsv, line 3: label 'positiv' is not a known class", "(did you mean 'positive'?)"],
        ),
        (
            {"test.tsv": tsv("positive", "other")},
            ["test.tsv, line 3: label 'other'", "expected one of negative, positive"],
        ),
        ({"test.tsv": tsv("positive", "")}, ["test.tsv, line 3: no label", "only a test file may go without labels"]),
        ({"dev.tsv": "text\na\n"}, ["dev.tsv has no column 'label'; found text"]),
        ({"dev.tsv": tsv("", "")}, ["dev.tsv, line 2: no label"]),
        ({"dev.tsv": "text\ttext_b\tlabel\na\tb\tpositive\n"}, ["dev.tsv has text_b and", "train.tsv has none"]),
        ({"train.csv": "text,label\na,b\n"}, ["train.csv and train.tsv, both for the train split"]),
        ({"dev.tsv": TRAIN, "val.jsonl": "{}"}, ["dev.tsv and val.jsonl, both for the dev split"]),
        ({"labels.txt": "negative\npostive\n"}, ["train.tsv, line 2: label 'positive'", "(did you mean 'postive'?)"]),
        ({"labels.txt": "negative\n"}, ["labels.txt has 1 class names; expected 2 or more"]),
        ({"labels.txt": "negative\n\npositive\n"}, ["labels.txt has an empty class name"]),
        ({"labels.txt": "negative\npositive\nnegative\n"}, ["labels.txt has 'negative' 2 times"]),
        ({"labels.txt": b"\xff\n"}, ["cannot read", "labels.txt"]),
        (
            {"labels.txt": "negative\nneutral\npositive\n", "dev.tsv": tsv("neutral")},
            ["dev.tsv, line 2: label 'neutral' never occurs in train.tsv"],
        ),
        (
            {"train.tsv": tsv("0.5", "1"), "dev.tsv": tsv("good")},
            ["dev.tsv, line 2: label 'good' is a name; expected a number"],
        ),
        ({"train.tsv": tsv("0", "1"), "dev.tsv": tsv("2")}, ["dev.tsv, line 2: label '2' is not a known class"]),
        ({"train.tsv": tsv("0", "1"), "dev.tsv": tsv("0.5")}, ["dev.tsv, line 2: label '0.5' is not a known class"]),
        ({"train.tsv": tsv("a", "a"), "labels.txt": "a\nb\n"}, ["train.tsv has only the class 'a'"]),
    ],
)
def test_bad_directory(tmp_path, files, parts):
    fails(write(tmp_path, {"train.tsv": TRAIN, **files}), *parts)


@pytest.mark.parametrize(
    ("content", "names", "parts"),
    [
        (TRAIN, ["negative", "positiv"], ["train.tsv, line 2: label 'positive'", "(did you mean 'positiv'?)"]),
        (tsv("0", "2"), ["a", "b"], ["line 3: label '2' is no class number; expected 0 to 1 (a, b)"]),
        (tsv("1", "0.5"), ["a", "b"], ["line 3: label 0.5 is a number (regression); expected one of the classes a, b"]),
        (TRAIN, ["a"], ["label_names has 1 class names"]),
        (TRAIN, ["a", "a"], ["label_names has 'a' 2 times"]),
    ],
)
def test_bad_label_names(tmp_path, content, names, parts):
    fails(write(tmp_path, {"train.tsv": content}), *parts, label_names=names)


def test_a_model_knows_classes_that_train_lacks(tmp_path):
    files = {"train.tsv": tsv("negative", "negative"), "dev.tsv": tsv("neutral"), "test.tsv": tsv("positive")}
    data = load_data(write(tmp_path, files), label_names=["negative", "neutral", "positive"])
    assert [data.splits[name].labels.tolist() for name in ("train", "dev", "test")] == [[0, 0], [1], [2]]


def test_label_names_against_labels_file(tmp_path):
    spec = write(tmp_path, {"train.tsv": TRAIN, "labels.txt": "negative\npositive\n"})
    fails(spec, "has the class 'negative'; expected one of bad, good", label_names=["bad", "good"])


def test_bad_paths(tmp_path):
    write(tmp_path, {"reviews.tsv": TRAIN, "reviews.txt": TRAIN})
    fails(
        str(tmp_path / "reviws.tsv"),
        "no data at",
        "reviws.tsv",
        "demo:<name>",
        f"did you mean {tmp_path / 'reviews.tsv'}?",
    )
    fails(str(tmp_path / "no" / "folder"), "no data at")
    fails(str(tmp_path / "reviews.txt"), "ends in '.txt'; expected .tsv, .csv or .jsonl")
    fails(str(tmp_path), "has no data files, it has reviews.tsv, reviews.txt; expected train, dev and test files")
    (tmp_path / "empty").mkdir()
    fails(str(tmp_path / "empty"), "it has nothing")
    fails("", "empty data name")
    fails("hf:imdb", "no data at 'hf:imdb'")
    fails("demo:movie-snipets", "unknown demo data 'movie-snipets'", "(did you mean 'movie-snippets'?)")


def test_bad_single_files(tmp_path):
    write(tmp_path, {"few.tsv": tsv(*["a", "b"] * 4), "rare.tsv": tsv(*["1"] * 20, *["3"] * 20)})
    fails(str(tmp_path / "few.tsv"), "got 8 examples to split 80/10/10")
    # The example that the permutation puts first falls into test.
    first = int(np.random.default_rng(13).permutation(40)[0])
    labels = ["1"] * 20 + ["3"] * 20
    labels[first] = "2"
    write(tmp_path, {"rare.tsv": tsv(*labels)})
    fails(str(tmp_path / "rare.tsv"), f"rare.tsv, line {first + 2}: label '2' is so rare")
    write(tmp_path, {"unlabelled.tsv": "text\n" + "a\n" * 20})
    fails(str(tmp_path / "unlabelled.tsv"), "has no column 'label'; found text")


def test_unreadable_file(tmp_path, monkeypatch):
    spec = write(tmp_path, {"train.tsv": TRAIN})

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    fails(spec, "cannot read", "train.tsv: Permission denied")
