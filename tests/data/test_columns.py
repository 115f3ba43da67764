"""Test columns of other names: in the name of the data, as options of the verbs, and proposed for files without the usual ones."""

from __future__ import annotations

import pytest
from data_files import fails, jsonl, write

from tfdistill.data.columns import proposed, with_columns
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError

UTTERANCES = (
    "id,utterance,intent\n1,play jazz,music\n2,what time is it,time\n3,play rock,music\n4,the hour please,time\n"
)
VERBS = {
    "finetune": ("finetune", "MODEL", "--out", "OUT"),
    "train": ("train", "pkd", "--teacher", "T", "--out", "OUT"),
    "augment": ("augment", "--out", "OUT"),
    "trim": ("trim", "MODEL", "--out", "OUT"),
    "compress": ("compress", "MODEL", "--clusters", "8", "--out", "OUT"),
    "evaluate": ("evaluate", "MODEL"),
    "export": ("export", "MODEL", "--out", "OUT"),
    "bench": ("bench", "B", "--model", "MODEL"),
}


@pytest.mark.parametrize("query", ["text=utterance&label=intent", "label=intent&text=utterance&task=classification"])
def test_named_columns_of_a_directory(tmp_path, query):
    rows = [{"utterance": "a", "intent": "time", "text": "not this"}, {"utterance": "b", "intent": "music"}]
    files = {
        "train.csv": UTTERANCES,
        "dev.jsonl": jsonl(*rows),
        "test.tsv": "utterance\nwhat\n",
        "unlabelled.txt": "x\n",
    }
    spec = write(tmp_path, files)
    data = load_data(f"{spec}?{query}")
    assert data.name == f"{spec}?{query}" and data.label_names == ("music", "time")
    assert data.splits["train"].texts == ["play jazz", "what time is it", "play rock", "the hour please"]
    assert data.splits["train"].labels.tolist() == [0, 1, 0, 1]
    assert (data.splits["dev"].texts, data.splits["dev"].labels.tolist()) == (["a", "b"], [1, 0])
    assert (data.splits["test"].texts, data.splits["test"].labels) == (["what"], None)


def test_columns_may_change_places(tmp_path):
    spec = write(tmp_path, {"train.tsv": "text\tlabel\ttext_b\tlabel\nx\tone\ttwo\t1\ny\tthree\tfour\t2\n"})
    fails(f"{spec}?text=label&label=text&text_b=text_b", "'label'", "2 times")
    spec = write(tmp_path, {"train.tsv": "text\tlabel\tmore\nx\tone\ttwo\ny\tthree\tfour\n"})
    data = load_data(f"{spec}?text=label&label=text&text_b=more").splits["train"]
    assert (data.texts, data.texts_b, data.labels.tolist()) == (["one", "three"], ["two", "four"], [0, 1])


def test_names_with_other_characters(tmp_path):
    write(tmp_path, {"train.tsv": "What was said? & by=whom\tKlasse 100%\na\tx\nb\ty\n"})
    source = with_columns(str(tmp_path), {"text": "What was said? & by=whom", "label": "Klasse 100%"})
    assert load_data(source).splits["train"].texts == ["a", "b"]
    assert "task=classification&text" in with_columns("a.csv?task=classification", {"text": "b"})


@pytest.mark.parametrize(
    ("header", "query", "parts"),
    [
        ("id,utterance,intent", "", ["'text'", "--text-column utterance --label-column intent"]),
        ("id,a,b", "", ["'text'", "--text-column a --label-column b"]),
        ("id,text,b", "", ["'label'", "--label-column b"]),
        ("id,the text,klasse", "", ["--text-column 'the text' --label-column klasse"]),
        ("id,utterance,intent", "?text=uterance&label=intent", ["'uterance'", "--text-column utterance"]),
        ("id,utterance,intent", "?text=utterance&label=b", ["'b'", "--label-column intent"]),
        ("id,utterance,intent", "?text=utterance&label=intent&text_b=c", ["'c'", "--text-b-column"]),
        ("id,utterance,intent", "?text=utterance&label=utterance", ["twice"]),
        ("id,utterance,intent", "?txt=utterance", ["'txt'", "'text'"]),
        ("id,utterance,intent", "?text=", ["'text'", "empty"]),
        ("id,utterance,intent", "?text=utterance&text=intent", ["'text'", "twice"]),
    ],
    ids=lambda value: None if isinstance(value, list) else value.replace(" ", "_") or "none",
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_missing_columns_are_proposed_by_content(tmp_path, header, query, parts, suffix):
    rows = [line.split(",") for line in UTTERANCES.splitlines()[1:]]
    content = "\n".join([header, *map(",".join, rows)])
    if suffix == "jsonl":
        content = jsonl(*(dict(zip(header.split(","), row, strict=True)) for row in rows))
    fails(write(tmp_path, {f"train.{suffix}": content}) + query, *parts)


def test_a_label_is_never_proposed_as_the_text():
    rows = [{"target": "a long name of a class", "n": str(i), "x": f"t {i}"} for i in range(9)]
    assert proposed(["target", "n", "x"], rows) == {"text": "x", "label": "target"}
    assert proposed(["target", "n"], [{"target": "a", "n": "1"}, {"target": "b", "n": "2"}]) == {"label": "target"}
    assert proposed([], []) == {}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_with_data_takes_columns(tfdistill, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    code, _, error = tfdistill(*VERBS[verb], "--data", "demo:movie-snippets", "--text-column", "utterance")
    assert code == 2 and "demo:movie-snippets" in error and "--text-column" in error and error.count("\n") == 1
    code, _, error = tfdistill(*VERBS[verb], "--data", "a.csv?label=x", "--label-column", "y")
    assert code == 2 and "--label-column" in error


def test_predict_reads_files_with_other_columns(tfdistill, tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text(UTTERANCES, "utf-8")
    code, _, error = tfdistill("predict", tmp_path / "B", "--file", file)
    assert code == 2 and "--text-column utterance" in error
    code, _, error = tfdistill("predict", tmp_path / "B", "--file", file, "--text-column", "utterance")
    assert code == 2 and "--text-column" not in error and str(tmp_path / "B") in error
    assert tfdistill("predict", tmp_path / "B", "--file", "-", "--text-column", "utterance")[0] == 2


def test_columns_need_data(tfdistill):
    code, _, error = tfdistill("export", "MODEL", "--out", "OUT", "--label-column", "x")
    assert code == 2 and "--label-column" in error and "--data" in error
    with pytest.raises(UserError, match="--text-column"):
        with_columns("tfds:glue/sst2", {"text": "x"})
