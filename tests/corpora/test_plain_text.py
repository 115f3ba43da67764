"""Text: sentences, documents, spans of files and cleaning."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpora import TINY, write_text

from tfdistill.corpora import plain_text, storage
from tfdistill.corpora.plain_text import Span, clean, documents, sentences, spans, text_files
from tfdistill.corpora.work import spans_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Go." She went.', ['He said "Go."', "She went."]),
        (
            "Mr. Smith and J. R. Doe met (see e.g. Fig. 3). Then they left.",
            ["Mr. Smith and J. R. Doe met (see e.g. Fig. 3).", "Then they left."],
        ),
        ("It cost 3.5 dollars. 7 were sold.", ["It cost 3.5 dollars.", "7 were sold."]),
        ("what is small goes on. like this", ["what is small goes on. like this"]),
        ("It was I. They knew.", ["It was I.", "They knew."]),
        ("今天很好。明天呢?好！", ["今天很好。", "明天呢?好！"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_blank_line_ends_a_document_and_lines_within_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes("\ufeffA line\r\nthat  goes on.\r\n\r\n\r\nNext one.\n\n".encode())
    assert list(documents(path)) == ["A line that goes on.", "Next one."]


def test_without_blank_lines_each_line_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("first text\nsecond text\n\n", encoding="utf-8")
    assert list(documents(path)) == ["first text", "second text"]
    path.write_bytes(gzip.compress(b"packed\n"))  # known by its content, whatever its name
    assert list(documents(path)) == ["packed"]


def test_lines_that_are_too_long_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "_LONGEST", 16)
    path = tmp_path / "long.txt"
    path.write_text("word " * 20 + "\n" + "ü€" * 20, encoding="utf-8")
    found = list(documents(path))
    assert " ".join(found[:-1]).startswith("word word word") and max(map(len, found)) <= 16
    assert "".join(found).replace(" ", "") == "word" * 20 + "ü€" * 20


def test_files_of_a_source(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt.gz", "notes.md", "below/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [file.name for file in text_files(tmp_path)] == ["a.txt.gz", "b.txt", "c.txt"]
    assert text_files(tmp_path / "notes.md") == [tmp_path / "notes.md"]


@pytest.mark.heavy
@given(
    st.lists(st.text(alphabet="ab é\n", max_size=12), max_size=12),
    st.integers(1, 30),
    st.sampled_from(["\n", "\n\n", "\r\n\r\n"]),
)
def test_spans_have_each_document_once(tmp_path_factory, texts, size, between):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(between.join(texts).encode())
    cut = spans(path, size)
    assert [document for span in cut for document in documents(span)] == list(documents(path))


@pytest.mark.heavy
def test_a_gzip_file_is_one_span(tmp_path):
    path = write_text(tmp_path / "a.txt")
    subprocess.run(["gzip", "-k", str(path)], check=True)
    zipped = Path(f"{path}.gz")
    assert len(spans(path, 500)) > 10 and spans(zipped, 500) == [Span(str(zipped))]
    assert list(documents(zipped)) == list(documents(path))


def test_files_elsewhere_are_read_as_those_of_this_machine(tmp_path):
    path = write_text(tmp_path / "a.txt")
    there = f"file://{path}"
    assert [text for span in spans(there, 700) for text in documents(span)] == list(documents(path))
    assert spans_of(f"file://{tmp_path}", 700) == tuple(spans(there, 700))
    with storage.here(f"file://{TINY}") as directory:
        assert {file.name for file in Path(directory).iterdir()} == {file.name for file in TINY.iterdir()}


def test_cleaning():
    assert clean("One\u200b two\x00\tthree\ufffd", 3, 0.5) == "One two three"
    assert clean("e\u0301te\u0301 in full", 3, 0.5) == "été in full"
    assert clean("12 345 67 8.9 x", 3, 0.5) == "" and clean("12 345 67 8.9 x", 3, 0.0) == "12 345 67 8.9 x"
    assert clean("short", 6, 0.5) == ""
