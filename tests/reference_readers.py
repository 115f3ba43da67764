"""Read data files with Python's own modules only, and compare what tfdistill reads.

`check(kind, content)` is the rule for any file, whole or damaged: it gives exactly the rows of the reference reader, or a line on
the console says what was read otherwise, or it is refused in one line that names the file.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tfdistill.data.load import load_any
from tfdistill.errors import UserError

Rows = list[tuple[Any, ...]]


class Kind(NamedTuple):
    """A kind of data: the file to write, the name of the data (DIR is its directory), the reference, and a whole file."""

    file: str
    spec: str
    reference: Callable[[str], Rows]
    whole: str


# --- tables -----------------------------------------------------------------------------------------------------------


def label(value: Any) -> Any:
    """Return the class of a cell or a JSON value: its text, or a set of texts."""
    if isinstance(value, list):
        return frozenset(str(item).strip() for item in value)
    text = str(value).strip()
    return frozenset(part.strip() for part in text.split("|")) if "|" in text else text


def table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> Rows:
    names = [name.strip() for name in header]
    rows = [dict(zip(names, row, strict=True)) for row in cells]
    return [(row["text"], row.get("text_b"), label(row["label"])) for row in rows]


def tsv_cells(content: str) -> list[list[str]]:
    lines = (content if "\n" in content else content.replace("\r", "\n")).split("\n")
    while lines and not lines[-1].strip("\r"):
        lines.pop()
    # One line at a time: a lone carriage return inside a line is an error of the csv module.
    return [next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE)) for line in lines]


def tsv(content: str) -> Rows:
    header, *cells = tsv_cells(content)
    return table(header, cells)


def comma(content: str) -> Rows:
    header, *cells = csv.reader(io.StringIO(content.rstrip("\r\n"), newline=""), strict=True)
    return table(header, cells)


def jsonl(content: str) -> Rows:
    lines = (content if "\n" in content else content.replace("\r", "\n")).split("\n")
    rows = [json.loads(line) for line in lines if line.strip("\r")]
    return [(row["text"], row.get("text_b"), label(row["label"])) for row in rows]


def labels_txt(content: str) -> Rows:
    lines = (content if "\n" in content else content.replace("\r", "\n")).split("\n")
    names = [line.strip() for line in lines if line.strip()]
    return [("a fine film", None, names[names.index("good")]), ("a dull film", None, names[names.index("bad")])]


def plain(content: str) -> Rows:
    lines = (content if "\n" in content else content.replace("\r", "\n")).split("\n")
    return [(line.removesuffix("\r"),) for line in lines if line.strip()]


# --- other files ------------------------------------------------------------------------------------------------------


def glue(texts: Sequence[str], name: str, names: dict[str, str] | None) -> Callable[[str], Rows]:
    def read(content: str) -> Rows:
        header, *cells = tsv_cells(content)
        rows = [dict(zip(header, row, strict=False)) for row in cells]
        values = [row[name].strip() for row in rows]
        labels = [names[value] if names else float(value) for value in values]
        return [(*(row[text] for text in texts), value) for row, value in zip(rows, labels, strict=True)]

    return read


def conll(content: str) -> Rows:
    lines = [line.strip(" \t\r") for line in (content if "\n" in content else content.replace("\r", "\n")).split("\n")]
    usual = [line for line in lines if line and not line.startswith(("#", "-DOCSTART-"))]
    tabs = all("\t" in line for line in usual)
    rows: Rows = []
    sentence: list[tuple[str, str]] = []
    for line in [*lines, ""]:
        cells = [cell.strip(" ") for cell in re.split(r"\t+" if tabs else r"[\t ]+", line)] if line else []
        if not cells or "-DOCSTART-" in cells[:2]:
            rows += [tuple(sentence)] if sentence else []
            sentence = []
        elif not (line[0] == "#" and not sentence and not any(other.endswith(cells[-1]) for other in usual)):
            sentence.append((cells[0], cells[-1]))
    return rows


def squad(content: str) -> Rows:
    return [
        (
            str(question["id"]),
            question["question"],
            paragraph["context"],
            tuple(
                (answer["text"], answer["answer_start"])
                for answer in question["answers"]
                if paragraph["context"].startswith(answer["text"], answer["answer_start"])
            ),
        )
        for article in json.loads(content)["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


# --- the kinds --------------------------------------------------------------------------------------------------------

_TEXTS = ["a fine film", 'he said "no", twice', "it's dull; really", "schön | gut", "2 of 10"]
_LABELS = ["good", "bad", "bad", "good", "so so"]
_PAIRS = list(zip(_TEXTS, reversed(_TEXTS), _LABELS, strict=True))
_QUESTIONS = [
    {"id": "1", "question": "who?", "answers": [{"text": "Bob", "answer_start": 0}]},
    {"id": "2", "question": "where?", "answers": [{"text": "in Paris", "answer_start": 8}]},
]
_PARAGRAPHS = [{"context": "Bob was in Paris.", "qas": _QUESTIONS}]
_SENTENCE = "Bob NNP B-NP B-PER\nwas VBD B-VP O\nin IN B-PP O\nParis NNP B-NP B-LOC\n\n"


def _written(**options: Any) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, **options).writerows([("text", "text_b", "label"), *_PAIRS])
    return stream.getvalue()


def _objects(labels: Sequence[Any]) -> str:
    rows = [{"text": text, "label": value} for text, value in zip(_TEXTS, labels, strict=True)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


KINDS = {
    "tsv": Kind("train.tsv", "DIR", tsv, "text\tlabel\n" + "".join(f"{a}\t{c}\n" for a, _, c in _PAIRS)),
    "tsv pairs": Kind(
        "train.tsv", "DIR", tsv, "text\ttext_b\tlabel\n" + "".join("\t".join(row) + "\n" for row in _PAIRS)
    ),
    "csv": Kind("train.csv", "DIR", comma, _written()),
    "csv, all quoted": Kind("train.csv", "DIR", comma, _written(quoting=csv.QUOTE_ALL, lineterminator="\n")),
    "jsonl": Kind("train.jsonl", "DIR", jsonl, _objects(_LABELS)),
    "jsonl numbers": Kind("train.jsonl", "DIR", jsonl, _objects([0, 1, 1, 0, 1])),
    "jsonl sets": Kind("train.jsonl", "DIR", jsonl, _objects([["a"], ["a", "b"], [], ["b"], ["c"]])),
    "labels.txt": Kind("labels.txt", "DIR", labels_txt, "good\nbad\nso so\n"),
    "plain text": Kind("unlabelled.txt", "DIR", plain, "one text\n\n  another text \nschön\n"),
    "conll": Kind("train.conll", "conll:DIR", conll, "-DOCSTART- -X- -X- O\n\n" + 3 * _SENTENCE),
    "conll, two columns": Kind("train.conll", "conll:DIR", conll, 3 * "Bob\tB-PER\nwas\tO\nhere\tO\n\n"),
    "squad": Kind(
        "train.json",
        "squad:DIR",
        squad,
        json.dumps({"version": "1.1", "data": [{"paragraphs": _PARAGRAPHS}]}, indent=1),
    ),
    "glue sst2": Kind(
        "train.tsv",
        "glue:sst2:DIR",
        glue(["sentence"], "label", {"0": "negative", "1": "positive"}),
        "sentence\tlabel\n" + "".join(f"{text}\t{n % 2}\n" for n, text in enumerate(_TEXTS)),
    ),
    "glue mrpc": Kind(
        "train.tsv",
        "glue:mrpc:DIR",
        glue(["#1 String", "#2 String"], "Quality", {"0": "not_equivalent", "1": "equivalent"}),
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        + "".join(f"{len(a) % 2}\t1\t2\t{a}\t{b}\n" for a, b, _ in _PAIRS),
    ),
    "glue stsb": Kind(
        "train.tsv",
        "glue:stsb:DIR",
        glue(["sentence1", "sentence2"], "score", None),
        "index\tsentence1\tsentence2\tscore\n" + "".join(f"0\t{a}\t{b}\t{len(a) / 5:.1f}\n" for a, b, _ in _PAIRS),
    ),
}


def read(spec: str, file: str) -> Rows:
    """Return the rows that tfdistill reads, in the form of the reference readers."""
    data = load_any(spec)
    split = data.splits["unlabelled" if file == "unlabelled.txt" else "train"]
    if spec.startswith("conll:"):
        return [tuple(zip(words, tags, strict=True)) for words, tags in zip(split.words, split.tags, strict=True)]
    if spec.startswith("squad:"):
        return [(q.id, q.question, q.context, tuple(map(tuple, q.answers))) for q in split.questions]
    if file == "unlabelled.txt":
        return [(text,) for text in split.texts]
    names = data.label_names
    if data.task == "multilabel":
        labels = [frozenset(name for name, has in zip(names, row, strict=True) if has) for row in split.labels]
    else:
        labels = [float(value) if names is None else names[value] for value in split.labels]
    texts_b = split.texts_b or [None] * len(split)
    if spec.startswith("glue:") and split.texts_b is None:
        return list(zip(split.texts, labels, strict=True))
    return list(zip(split.texts, texts_b, labels, strict=True))


def same(one: Rows, other: Rows) -> bool:
    """Return whether rows are the same; regression labels are compared as float32, and a class as a set of one class."""

    def plain_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            frozenset([cell]) if isinstance(cell, str) else pytest.approx(cell) if isinstance(cell, float) else cell
            for cell in row
        )

    return [plain_row(row) for row in one] == [plain_row(row) for row in other]


def check(kind: Kind, content: bytes, printed: Callable[[], str]) -> str:
    """Check the rule for one file. `printed` returns what was printed since its last call.

    Returns:
        How it ended: "refused", "same" as the reference, or "printed" that it is another.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kind.file in ("labels.txt", "unlabelled.txt"):
            Path(folder, "train.tsv").write_text("text\tlabel\na fine film\tgood\na dull film\tbad\n")
        Path(folder, kind.file).write_bytes(content)
        printed()
        try:
            rows = read(kind.spec.replace("DIR", folder), kind.file)
        except UserError as error:
            message = str(error)
            assert len(message.splitlines()) == 1 and len(message) < 1500 + len(folder), message
            assert folder in message, message
            return "refused"
        said = printed()
    limit = csv.field_size_limit(2**31 - 1)
    try:
        expected = kind.reference(content.decode("utf-8-sig"))
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        assert said, f"the reference reader refuses it ({error}), and nothing was printed about {content[:500]!r}"
        return "printed"
    finally:
        csv.field_size_limit(limit)
    if same(rows, expected):
        return "same"
    assert said, f"read {rows}, expected {expected}, and nothing was printed"
    return "printed"
