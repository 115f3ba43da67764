"""Files of a teacher's answers: three formats, and every bad one named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_files import jsonl
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.answer_files import read_answers
from tfdistill.errors import UserError

ROWS = [{"text": "a, b", "probs": [0.25, 0.75]}, {"text": 'say "c"\nd', "probs": {"no": 1, "yes": 0.0}}]


def test_all_formats_give_the_same_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text("\ufeff" + jsonl(*ROWS) + "\n\n", "utf-8")
    cells = [f'"{row["text"]}"'.replace('say "c"', 'say ""c""') for row in ROWS]
    values = ["'".join(json.dumps(row["probs"]).split("'")).replace('"', '""') for row in ROWS]
    lines = [f'x,{cell},"{value}"' for cell, value in zip(cells, values, strict=True)]
    (tmp_path / "a.csv").write_bytes("\r\n".join(["other,text,probs", *lines, ""]).encode())
    expected = [(1, ROWS[0]), (2, ROWS[1])]
    assert list(read_answers(tmp_path / "a.jsonl")) == expected
    assert list(read_answers(tmp_path / "a.csv")) == [(2, ROWS[0]), (3, ROWS[1])]
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [row["text"] for row in ROWS]
    lists = arrow.table({"text": texts, "probs": [[0.25, 0.75], [1.0, 0.0]], "other": [1, 2]})
    parquet.write_table(lists, tmp_path / "a.parquet")
    assert list(read_answers(tmp_path / "a.parquet")) == [
        (1, ROWS[0]),
        (2, {"text": texts[1], "probs": [1.0, 0.0]}),
    ]
    structs = arrow.table({"text": texts, "probs": [{"no": 0.5, "yes": None}, {"no": 1.0, "yes": 0.0}]})
    parquet.write_table(structs, tmp_path / "b.parquet")
    assert next(read_answers(tmp_path / "b.parquet"))[1]["probs"] == {"no": 0.5, "yes": None}
    kind = arrow.map_(arrow.string(), arrow.float64())
    maps = arrow.table({"text": texts, "logits": arrow.array([[("no", 0.5)], [("no", 1.0), ("yes", 2.0)]], kind)})
    parquet.write_table(maps, tmp_path / "c.parquet")
    assert [cells["logits"] for _, cells in read_answers(tmp_path / "c.parquet")] == [
        {"no": 0.5},
        {"no": 1.0, "yes": 2.0},
    ]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.jsonl", b"", ["a.jsonl"]),
        ("a.jsonl", b'{"text": "a", "probs": [1]}\n\n{"text": "b", "probs": [1]}\n', ["line 2", "blank"]),
        ("a.jsonl", b'{"text": "a", "probs": [1]}\n{"text": "b"\n', ["line 2", "JSON"]),
        ("a.jsonl", b'{"text": "a", "probs": [1]}\n[1]\n', ["line 2", "object"]),
        ("a.jsonl", b'{"txt": "a", "probs": [1]}\n', ["line 1", "'text'", "txt"]),
        ("a.jsonl", b'{"text": "a", "prob": [1]}\n', ["line 1", "'probs'", "prob"]),
        ("a.jsonl", b'{"text": "a", "text": "b", "probs": [1]}\n', ["line 1", "'text'", "twice"]),
        ("a.jsonl", b'{"text": "a", "probs": {"x": 1, "x": 0}}\n', ["line 1", "'x'", "twice"]),
        ("a.jsonl", b'{"text": "a", "probs": [1]}\n{"text": "\xff", "probs": [1]}\n', ["line 2", "UTF-8"]),
        ("a.csv", b"", ["a.csv"]),
        ("a.csv", b"text,probs\n", ["a.csv", "no answers"]),
        ("a.csv", b"texts,probs\na,[1]\n", ["line 1", "'text'", "texts"]),
        ("a.csv", b"text,text,probs\na,b,[1]\n", ["line 1", "'text'", "2 times"]),
        ("a.csv", b'text,probs\na,"[1]"\nb,0.1,0.9\n', ["line 3", "3 cells"]),
        ("a.csv", b'text,probs\n"a\nb",x\n', ["line 2", "probs", "JSON"]),
        ("a.csv", b'text,probs\na,[1]\n"b,[1]\n', ["line 3", "quot"]),
        ("a.csv", b'text,probs\na,"{""x"": 1, ""x"": 2}"\n', ["line 2", "'x'", "twice"]),
        ("a.tsv", b"text\tprobs\n", [".tsv", ".jsonl", ".csv", ".parquet"]),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_answers(tmp_path / name))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in [name, *parts]), message


def test_bad_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(UserError, match=r"a\.parquet"):
        list(read_answers(path))
    parquet.write_table(arrow.table({"texts": ["a"], "probs": [[1.0]]}), path)
    with pytest.raises(UserError, match=r"a\.parquet.*'text'.*texts"):
        list(read_answers(path))
    parquet.write_table(arrow.table({"text": ["a", "b"] * 5000, "probs": [[1.0]] * 10_000}), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"a\.parquet"):
        list(read_answers(path))


@given(st.binary(max_size=60), st.sampled_from([".jsonl", ".csv"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, suffix):
    path: Path = tmp_path_factory.mktemp("answers") / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError):
        list(read_answers(path))


@given(st.lists(st.tuples(st.text(), st.lists(st.floats(allow_nan=False, allow_infinity=False))), min_size=1))
def test_jsonl_comes_back(tmp_path_factory, rows):
    path: Path = tmp_path_factory.mktemp("answers") / "a.jsonl"
    path.write_text(jsonl(*({"text": text, "logits": values} for text, values in rows)), "utf-8")
    assert [(cells["text"], cells["logits"]) for _, cells in read_answers(path)] == rows
