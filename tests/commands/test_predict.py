"""Test `tfdistill predict`: texts from the command line, a file and stdin, JSON lines, and what it refuses."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BUNDLE = Path(__file__).parents[1] / "pinned" / "bundle"


def lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_texts_become_json_lines(tfdistill):
    code, printed, err = tfdistill("predict", BUNDLE, "good film", "a")
    assert code == 0, err
    first, second = lines(printed)
    assert (first["text"], second["text"]) == ("good film", "a")
    assert first["label"] in ("no", "yes") and sum(first["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.txt", "good film\n\na\r\n"),
        ("texts.tsv", "label\ttext\nyes\tgood film\nno\ta\n"),
        ("texts.csv", 'text\n"good film"\na\n'),
        ("texts.jsonl", '{"text": "good film"}\n{"text": "a", "id": 3}\n'),
    ],
)
def test_files_give_the_same_answers(tfdistill, tmp_path, name, content):
    (tmp_path / name).write_text(content, "utf-8", newline="")
    code, printed, err = tfdistill("predict", BUNDLE, "--file", tmp_path / name)
    assert code == 0, err
    assert lines(printed) == lines(tfdistill("predict", BUNDLE, "good film", "a")[1])


def stdin(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))


def test_texts_from_stdin_with_second_texts_behind_a_tab(tfdistill, monkeypatch):
    stdin(monkeypatch, b"good film\tit\n")
    code, printed, err = tfdistill("predict", BUNDLE, "--file", "-")
    assert code == 0, err
    (answer,) = lines(printed)
    (same,) = lines(tfdistill("predict", BUNDLE, "good film", "--text-b", "it")[1])
    assert answer == same and answer["text_b"] == "it"


def test_a_cut_text_is_marked_and_a_line_says_so(tfdistill):
    code, printed, err = tfdistill("predict", BUNDLE, "a " * 400)
    assert code == 0 and lines(printed)[0]["truncated"] and "1 of 1" in err


def test_stdin_that_is_not_utf8_is_one_line(tfdistill, monkeypatch):
    stdin(monkeypatch, b"good\n\xff\xfe\n")
    code, printed, err = tfdistill("predict", BUNDLE, "--file", "-")
    assert (code, printed) == (2, "") and "line 2" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "--file"),
        (["a", "--file", "x.txt"], "--file"),
        (["a", "b", "c", "--text-b", "d", "--text-b", "e"], "--text-b"),
        ([" "], "empty"),
        (["--file", "nowhere.txt"], "nowhere.txt"),
        (["--file", "nowhere.csv"], "nowhere.csv"),
    ],
    ids=["nothing", "both", "numbers", "empty", "no text file", "no csv file"],
)
def test_mistakes_are_one_line(tfdistill, words, part):
    code, printed, err = tfdistill("predict", BUNDLE, *words)
    assert (code, printed) == (2, "") and part in err and err.count("\n") == 1


def test_an_empty_cell_is_named(tfdistill, tmp_path):
    (tmp_path / "t.tsv").write_text("text\na\n \n", "utf-8")
    code, _, err = tfdistill("predict", BUNDLE, "--file", tmp_path / "t.tsv")
    assert code == 2 and "line 3" in err


@pytest.mark.heavy
def test_a_run_directory_is_a_model(work, tfdistill):
    code, printed, err = tfdistill("predict", work / "teacher", "b c a", "b c")
    assert code == 0, err
    assert {line["label"] for line in lines(printed)} <= {"pos", "neg"}


def test_nothing_at_source_is_one_line(tfdistill, tmp_path):
    code, _, err = tfdistill("predict", tmp_path / "nowhere", "a")
    assert code == 2 and "nowhere" in err and err.count("\n") == 1
