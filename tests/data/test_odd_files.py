"""Files that are no regular files, or odd in other ways: one line each, without a traceback or a wait."""

from __future__ import annotations

import os

import pytest
from data_files import TRAIN, fails, write

from tfdistill.data.load import load_any
from tfdistill.errors import UserError


def refused(spec: str, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_any(spec)
    assert len(str(caught.value).splitlines()) == 1
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "name", ["train.tsv", "train.csv", "dev.jsonl", "unlabelled.txt", "labels.txt", "train.conll", "train.json"]
)
@pytest.mark.parametrize("how", ["fifo", "loop", "directory", "/dev/zero"])
def test_what_is_not_a_regular_file(tmp_path, name, how):
    """A pipe would wait for its writer, and /dev/zero never ends."""
    if name in ("dev.jsonl", "unlabelled.txt", "labels.txt"):
        write(tmp_path, {"train.tsv": TRAIN})
    path = tmp_path / name
    if how == "fifo":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()
    else:
        path.symlink_to(path if how == "loop" else how)
    kind = {"train.conll": "conll:", "train.json": "squad:"}.get(name, "")
    refused(f"{kind}{tmp_path}", name)
    if name.startswith("train") and how != "directory":
        refused(f"{kind}{path}", str(path))
    if name == "train.tsv":
        (tmp_path / "RTE").mkdir()
        path.rename(tmp_path / "RTE" / name)
        refused(f"glue:rte:{tmp_path}")


def test_a_device_is_not_proposed_for_itself():
    with pytest.raises(UserError) as caught:
        load_any("/dev/zero")
    assert "did you mean" not in str(caught.value)


def test_long_words_are_read(tmp_path):
    text = "x" * 1_000_000
    assert load_any(write(tmp_path, {"train.tsv": f"text\tlabel\n{text}\ta\nb\tb\n"})).splits["train"].texts == [
        text,
        "b",
    ]


def test_a_label_is_not_proposed_for_the_text(tmp_path):
    with pytest.raises(UserError, match="'utterance'") as caught:
        load_any(write(tmp_path, {"train.csv": "utterance,intent\nplay jazz,music\n"}))
    assert "mean 'intent'" not in str(caught.value)
    fails(write(tmp_path, {"train.csv": "text,intent\nplay jazz,music\n"}), "'label'", "mean 'intent'")


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("train.csv", 'text;label\n"a; ""b""";x\nc;y\n', ['a; "b"', "c"]),
        ("train.csv", "label\ttext\nx\ta, b\ny\tc\n", ["a, b", "c"]),
        ("train.tsv", 'text\tlabel\n"he said ""a"""\tx\nb\ty\n', ['he said "a"', "b"]),
        ("train.tsv", '"text"\t"label"\n"a"\t"x"\n"b"\t"y"\n', ["a", "b"]),
        ("train.tsv", 'text\tlabel\n"a\nb"\tx\n"c\td"\ty\n', ["a\nb", "c\td"]),
        ("train.tsv", 'text\tlabel\n"a"\tx\n"b\ty\n', ['"a"', '"b']),
        ("train.tsv", "text\tlabel\na\rb\tx\nc\ty\n", ["a\rb", "c"]),
    ],
)
def test_dialects_are_read_and_printed(tmp_path, capsys, name, content, texts):
    assert load_any(write(tmp_path, {name: content})).splits["train"].texts == texts
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("train.tsv", "text\tlabel\ra\tx\rb\ty\r", ["a", "b"]),
        ("train.csv", "text,label\ra,x\rb,y\r", ["a", "b"]),
        ("train.jsonl", '{"text": "a", "label": "x"}\r{"text": "b", "label": "y"}', ["a", "b"]),
        ("train.csv", "text , label\na, x\nb,y\n", ["a", "b"]),
    ],
)
def test_line_ends_and_spaces_need_no_line(tmp_path, capsys, name, content, texts):
    assert load_any(write(tmp_path, {name: content})).splits["train"].texts == texts
    assert capsys.readouterr().err == ""


def test_other_separators_are_named(tmp_path):
    fails(write(tmp_path, {"train.tsv": "text;label\na;x\n"}), "train.tsv, line 1", "semicolons", ".csv")
    fails(write(tmp_path, {"train.tsv": 'text,label\na,"x"\n'}), "train.tsv, line 1", "commas", ".csv")
    (tmp_path / "train.tsv").unlink()
    fails(write(tmp_path, {"train.csv": "text|label\na|x\n"}), "train.csv, line 1", "bars")
