"""Forms of data files: what is read, and what is refused with file and line."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from data_files import TRAIN, fails, jsonl, write
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.table_files import read_table
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError


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


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.tsv", "", ["train.tsv"]),
        ("train.csv", "\ufeff", ["train.csv"]),
        ("train.jsonl", "\n \n", ["train.jsonl"]),
        ("train.tsv", "text\tlabel\n", ["train.tsv"]),
        ("train.csv", "text,label\r\n", ["train.csv"]),
        (
            "train.tsv",
            "txet\tlabel\na\tb\n",
            ["train.tsv", "line 1", "'text'", "'txet'"],
        ),
        ("train.tsv", "Text\tlabel\na\tb\n", ["'Text'"]),
        ("train.tsv", "text,label\na,b\n", ["'text'"]),
        ("train.csv", "text|label\na|b\n", ["line 1", "'text'"]),
        ("train.jsonl", jsonl({"sentence": "a"}), ["line 1", "'text'"]),
        ("train.jsonl", "{}\n", ["'text'"]),
        ("train.tsv", "text\ttext\tlabel\na\tb\tc\n", ["'text'"]),
        ("train.tsv", "text\tlabel\na\tb\nc\n", ["line 3"]),
        ("train.tsv", "text\tlabel\na\tb\tc\n", ["line 2"]),
        ("train.tsv", "text\tlabel\na\tb\n\nc\td\n", ["line 3"]),
        ("train.csv", 'text,label\n"a\nb",c\nd\n', ["line 4"]),
        ("train.csv", 'text,label\na,b\n"a,b\nc,d\n', ["line 3"]),
        ("train.csv", 'text,label\n"a"b,c\n', ["line 2", "','", "'\"'"]),
        (
            "train.jsonl",
            '{"text": "a", "label": 1}\n{"text"\n',
            ["line 2"],
        ),
        ("train.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}', ["line 2"]),
        ("train.jsonl", '["a"]\n', ["line 1"]),
        ("train.jsonl", "[" * 100_000, ["line 1"]),
        ("train.jsonl", jsonl({"text": 3, "label": "a"}), ["line 1", "'text'"]),
        ("train.jsonl", jsonl({"text": None, "label": "a"}), ["line 1", "'text'"]),
        ("train.jsonl", jsonl({"text": "a", "text_b": ["b"], "label": "a"}), ["'text_b'"]),
        ("train.jsonl", '{"text": "\\ud800", "label": 1}', ["line 1", "'text'"]),
        ("train.jsonl", '{"text": "a\\u0000", "label": 1}', ["line 1", "'text'"]),
        ("train.jsonl", '{"text": "a", "label": "b\\u0000"}', ["line 1"]),
        ("train.jsonl", '{"text": "a", "label": "\\udfff"}', ["line 1"]),
        ("train.tsv", b"text\tlabel\na\tb\nc\0\td\n", ["line 3", "byte 16", "0x00"]),
        (
            "train.tsv",
            b"text\tlabel\na\tb\nsch\xf6n\td\n",
            ["line 3", "byte 18", "0xf6"],
        ),
        ("train.csv", b"\xef\xbb\xbftext,label\n\xff,b\n", ["line 2", "byte 14", "0xff"]),
        ("train.tsv", "text\tlabel\n".encode("utf-16"), ["line 1", "byte 0", "0xff"]),
        ("train.tsv", "text\tlabel\na\tb\n\tc\n", ["line 3", "'text'"]),
        ("train.tsv", "text\tlabel\na\tb\n \u00a0\tc\n", ["line 3", "'text'"]),
        ("train.tsv", "text\ttext_b\tlabel\na\t\tb\n", ["line 2", "'text_b'"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "label": 1}, {"text": "a", "text_b": "b", "label": 0}),
            ["line 1", "'text_b'", "line 2"],
        ),
        ("train.tsv", "text\tlabel\na\tb\nc\t\n", ["line 3"]),
        ("train.jsonl", jsonl({"text": "a", "label": "b"}, {"text": "c"}), ["line 2"]),
        ("train.jsonl", jsonl({"text": "a", "label": ["b"]}), ["line 1"]),
        (
            "train.jsonl",
            jsonl({"text": "a", "label": 1}, {"text": "b", "label": "1"}),
            ["line 2", "'1'"],
        ),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_line(tmp_path, name, content, parts):
    fails(write(tmp_path, {name: content}), name, *parts)


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
        "dev.tsv",
        "train.jsonl",
    )
    write(tmp_path, {"train.jsonl": jsonl({"text": "a", "label": "x", "text_extra": 3})})
    fails(spec, "line 1", "'text_extra'")
    (tmp_path / "train.jsonl").unlink()
    write(tmp_path, {"train.tsv": "text\tlabel\ttext_extra\ttext_extra\na\tx\tb\tc\n"})
    fails(spec, "'text_extra'")


def test_unreadable_file(tmp_path, monkeypatch):
    spec = write(tmp_path, {"train.tsv": TRAIN})

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    fails(spec, "cannot read", "train.tsv")
