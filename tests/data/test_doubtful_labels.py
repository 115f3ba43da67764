"""Labels that may mean something else: -1, several classes in one cell, numbers, and names such as None."""

from __future__ import annotations

import pytest
from data_files import fails, jsonl, tsv, write

from tfdistill.data.doubtful_texts import repeated_texts
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError


def csv(*labels: str) -> str:
    return "text,label\n" + "".join(
        f'text {i},"{label.replace(chr(34), chr(34) * 2)}"\n' for i, label in enumerate(labels)
    )


def rows(*labels: object) -> str:
    return jsonl(*({"text": f"text {i}", "label": label} for i, label in enumerate(labels)))


# --- -1 ---------------------------------------------------------------------------------------------------------------

MINUS_ONE = {
    "train.tsv": tsv(-1, 0, 1, 0, -1),
    "train.csv": csv("-1", "0", "1", "0", "-1"),
    "train.jsonl": rows(-1, 0, 1, 0, -1),
    "strings.jsonl": rows("-1", "0", "1", "0", "-1"),
}


@pytest.mark.parametrize("name", MINUS_ONE)
def test_minus_one_is_no_label(tmp_path, capsys, name):
    spec = write(tmp_path, {name.replace("strings", "train"): MINUS_ONE[name]})
    data = load_data(spec)
    assert data.label_names == ("0", "1") and data.splits["train"].labels.tolist() == [0, 1, 0]
    assert data.splits["train"].texts == ["text 1", "text 2", "text 3"]
    assert (data.splits["unlabelled"].texts, data.splits["unlabelled"].labels) == (["text 0", "text 4"], None)
    assert "2 rows of train" in capsys.readouterr().err


@pytest.mark.parametrize("train", [tsv(0, 1), tsv("no", "yes")])
def test_a_test_split_of_minus_one_has_no_labels(tmp_path, train):
    data = load_data(write(tmp_path, {"train.tsv": train, "test.jsonl": rows(-1, -1)}))
    assert (len(data.splits["test"]), data.splits["test"].labels) == (2, None)
    data = load_data(str(tmp_path), label_names=data.label_names)
    assert data.splits["test"].labels is None


def test_rows_of_dev_without_a_label_do_not_count(tmp_path, capsys):
    data = load_data(write(tmp_path, {"train.tsv": tsv(0, 1), "dev.tsv": tsv(1, -1, 0)}))
    assert data.splits["dev"].texts == ["text 0", "text 2"] and data.splits["dev"].labels.tolist() == [1, 0]
    assert "1 rows of dev" in capsys.readouterr().err


def test_minus_one_in_one_file(tmp_path):
    write(tmp_path, {"all.tsv": tsv(*[0, 1, -1] * 10)})
    data = load_data(str(tmp_path / "all.tsv"))
    assert data.label_names == ("0", "1")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 16, "dev": 2, "test": 2, "unlabelled": 10
    }  # fmt: skip


def test_minus_one_that_is_a_class(tmp_path, capsys):
    spec = write(tmp_path, {"train.tsv": tsv(-1, 0, 1), "labels.txt": "-1\n0\n1\n"})
    assert load_data(spec).splits["train"].labels.tolist() == [0, 1, 2]
    (tmp_path / "labels.txt").unlink()
    write(tmp_path, {"train.tsv": tsv(-1, 1)})
    assert load_data(spec).label_names == ("-1", "1")
    assert "2 classes (-1, 1)" in capsys.readouterr().err
    write(tmp_path, {"train.tsv": tsv(-1, 0)})
    fails(spec, "train.tsv", "'0'")
    write(tmp_path, {"train.tsv": tsv("-1.0", "0.5"), "test.tsv": tsv("-1.0", "-1.0")})
    data = load_data(spec)  # numbers for regression
    assert data.splits["train"].labels.tolist() == [-1.0, 0.5] and data.splits["test"].labels is None


def test_minus_one_in_several_classes(tmp_path):
    data = load_data(write(tmp_path, {"train.tsv": tsv("0|1", "-1", "1|2")}))
    assert data.label_names == ("0", "1", "2") and data.splits["train"].labels.tolist() == [[1, 1, 0], [0, 1, 1]]
    data = load_data(
        write(tmp_path, {"train.tsv": "text\ta\tb\nx\t1\t0\ny\t0\t1\n", "test.tsv": "text\ta\tb\nx\t-1\t-1\n"})
    )
    assert data.splits["test"].labels is None


# --- several classes in one cell --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        ["joy|love", "anger", "love"],
        ['["joy", "love"]', '["anger"]', '["love"]'],
        ["['joy', 'love']", "['anger']", "['love']"],
        ["('joy', 'love')", "('anger',)", "love"],
        ["{'love', 'joy'}", "anger", "love"],
    ],
)
def test_sets(tmp_path, labels):
    for name, content in (("train.csv", csv(*labels)), ("train.tsv", tsv(*labels))):
        data = load_data(write(tmp_path, {name: content}))
        assert (data.task, data.label_names) == ("multilabel", ("anger", "joy", "love"))
        assert data.splits["train"].labels.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 1]]
        (tmp_path / name).unlink()


def test_lists_of_numbers_and_empty_lists(tmp_path):
    data = load_data(write(tmp_path, {"train.csv": csv("[0, 2]", "[]", "[1]")}))
    assert data.label_names == ("0", "1", "2") and data.splits["train"].labels.tolist() == [
        [1, 0, 1],
        [0] * 3,
        [0, 1, 0],
    ]
    write(tmp_path, {"train.csv": csv("[0, 2]", "[0.5]")})
    fails(str(tmp_path), "train.csv, line 3", "0.5")
    write(tmp_path, {"train.csv": csv("[true]", "[0]")})
    fails(str(tmp_path), "train.csv, line 2")
    (tmp_path / "train.csv").unlink()
    write(tmp_path, {"train.jsonl": rows([0, 1, 0], [1, 1, 0])})  # one 0 or 1 for each class
    fails(str(tmp_path), "train.jsonl, line 1", "[0, 1, 0]")


def test_names_with_brackets_stay_names(tmp_path):
    labels = ["[UNK]", "(a, b)", "{x}", "[PER]", "[" * 100_000]
    data = load_data(write(tmp_path, {"train.tsv": tsv(*labels)}))
    assert data.task == "classification" and data.label_names == tuple(sorted(labels))


@pytest.mark.parametrize("separator", [", ", ",", ";", "#", "/", " + ", "&"])
def test_a_separator_between_classes_is_named(tmp_path, separator):
    joined = f"joy{separator}love"
    spec = write(tmp_path, {"train.csv": csv("joy", "love", joined, "anger")})
    fails(spec, "train.csv, line 4", f"'{joined}'", "a|b")
    assert joined in load_data(f"{spec}?task=classification").label_names
    write(tmp_path, {"labels.txt": f"joy\nlove\nanger\n{joined}\n"})
    assert load_data(spec).splits["train"].labels.tolist() == [0, 1, 3, 2]
    write(tmp_path, {"labels.txt": "joy\nlove\nanger\n"})
    fails(spec, "line 4", f"'{joined}'")


def test_separators_of_other_names(tmp_path, capsys):
    labels = ["play/music", "play/radio", "New York, NY", "c#", "c", "client/server"]
    assert load_data(write(tmp_path, {"train.csv": csv(*labels)})).label_names == tuple(sorted(labels))
    assert capsys.readouterr().err == ""
    load_data(write(tmp_path, {"train.csv": csv("a, b", "a, c", "b, c")}))
    assert "'a, b'" in capsys.readouterr().err
    write(tmp_path, {"train.csv": csv("[a, b]", "[a]", "[b]")})
    fails(str(tmp_path), "line 2", "'[a, b]'")
    write(tmp_path, {"train.csv": csv("a|b, c", "b", "c")})
    fails(str(tmp_path), "line 2", "'b, c'")


def test_one_column_for_each_class(tmp_path, capsys):
    files = {
        "train.csv": "id,text,joy,love,anger\n7,a,1,1,0\n8,b,0,0,0\n",
        "dev.jsonl": jsonl({"text": "c", "joy": 0, "love": 1, "anger": 0}),
        "test.tsv": "text\tflag\tother\nd\t0\t1\n",
    }
    data = load_data(write(tmp_path, {name: files[name] for name in ("train.csv", "dev.jsonl")}))
    assert (data.task, data.label_names) == ("multilabel", ("anger", "joy", "love"))
    assert data.splits["train"].labels.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert data.splits["dev"].labels.tolist() == [[0, 0, 1]]
    printed = capsys.readouterr().err
    assert "joy, love, anger" in printed and "id" in printed
    write(tmp_path, {"test.tsv": files["test.tsv"]})
    fails(str(tmp_path), "test.tsv, line 2", "'other'")
    (tmp_path / "dev.jsonl").unlink()
    write(tmp_path, {"train.csv": csv("no", "yes")})
    assert load_data(str(tmp_path)).splits["test"].labels is None  # columns that train does not have as classes
    write(tmp_path, {"train.csv": "text,joy,love\na,1,2\n"})
    fails(str(tmp_path), "train.csv, line 1", "'label'", "a|b", "0 and 1")


# --- numbers and odd names --------------------------------------------------------------------------------------------


def test_floats_are_numbers_or_classes(tmp_path, capsys):
    spec = write(tmp_path, {"train.csv": csv("1.0", "0.0", "1.0"), "dev.csv": csv("0.0", "1")})
    assert load_data(spec).task == "regression"
    printed = capsys.readouterr().err
    assert "train.csv" in printed and "regression" in printed and "?task=classification" in printed
    for data in (load_data(f"{spec}?task=classification"), load_data(spec, task="classification")):
        assert (data.task, data.label_names) == ("classification", ("0", "1"))
        assert [data.splits[name].labels.tolist() for name in ("train", "dev")] == [[1, 0, 1], [0, 1]]
    data = load_data(spec, label_names=["no", "yes"])  # of a model
    assert data.splits["train"].labels.tolist() == [1, 0, 1]
    assert load_data(spec, label_names=["1", "0"]).splits["train"].labels.tolist() == [0, 1, 0]
    write(tmp_path, {"train.csv": csv("0.5", "0.0")})
    fails(f"{spec}?task=classification", "train.csv, line 2", "0.5")
    fails(f"{spec}?task=classes", "'classes'")
    fails(f"{spec}?task=classification", "regression", task="regression")


def test_numbers_of_one_split_as_another_writes_them(tmp_path):
    files = {"train.jsonl": rows(1, 0), "dev.csv": csv("1.0", "0.0"), "test.jsonl": rows("0", "1")}
    data = load_data(write(tmp_path, files))
    assert [data.splits[name].labels.tolist() for name in ("train", "dev", "test")] == [[1, 0], [1, 0], [0, 1]]


def test_whole_numbers(tmp_path, capsys):
    spec = write(tmp_path, {"train.tsv": tsv(1, 2, 3, 4)})
    assert load_data(spec).label_names == ("1", "2", "3", "4")
    assert "?task=regression" in capsys.readouterr().err
    data = load_data(f"{spec}?task=regression")
    assert data.task == "regression" and data.splits["train"].labels.tolist() == [1, 2, 3, 4]
    load_data(write(tmp_path, {"train.tsv": tsv(0, 1)}))
    assert capsys.readouterr().err == ""


def test_decimal_commas(tmp_path):
    spec = write(tmp_path, {"train.csv": csv("0,5", "1,25", "3,0")})
    fails(spec, "train.csv, line 2", "'0,5'", "?task=regression")
    assert load_data(f"{spec}?task=regression").splits["train"].labels.tolist() == [0.5, 1.25, 3.0]
    assert load_data(f"{spec}?task=classification").label_names == ("0,5", "1,25", "3,0")


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["True", "False"], "False, True"),
        (["None", "Some"], "'None'"),
        (["null", "n/a", "x"], "'n/a'"),
        (["Yes", "yes ", "no"], "Yes, yes"),
    ],
)
def test_odd_names_are_printed(tmp_path, capsys, labels, note):
    data = load_data(write(tmp_path, {"train.csv": csv(*labels)}))
    assert data.label_names == tuple(sorted(label.strip() for label in labels))
    assert note in capsys.readouterr().err


def test_names_that_are_numbers_in_quotes(tmp_path, capsys):
    assert load_data(write(tmp_path, {"train.jsonl": rows("0.5", "1.0")})).label_names == ("0.5", "1.0")
    assert "0.5, 1.0" in capsys.readouterr().err


@pytest.mark.parametrize("character", list("\n\r\t\x0b\x0c\x1c\x1d\x1e\x1b\x7f\x85\u2028\u2029"))
def test_names_that_labels_txt_cannot_hold(tmp_path, character):
    write(tmp_path, {"train.jsonl": rows(f"a{character}b", "c")})
    fails(str(tmp_path), "train.jsonl, line 1", character.encode("unicode_escape").decode())
    fails(str(tmp_path), character.encode("unicode_escape").decode(), label_names=[f"a{character}b", "c"])
    write(tmp_path, {"train.jsonl": rows(["c", f"a{character}b"])})
    fails(str(tmp_path), "train.jsonl, line 1")


def test_numbers_that_do_not_differ(tmp_path):
    write(tmp_path, {"train.tsv": tsv("0.5", "1.5"), "dev.tsv": tsv("0.5", "0.5"), "all.tsv": tsv(*["0.5"] * 20)})
    fails(str(tmp_path), "dev.tsv", "0.5")
    fails(str(tmp_path / "all.tsv"), "all.tsv", "0.5")


def test_long_labels_are_cut_in_messages(tmp_path):
    write(tmp_path, {"train.jsonl": '{"text": "a", "label": 1' + "0" * 400 + "}\n"})
    with pytest.raises(UserError, match="line 1") as caught:
        load_data(str(tmp_path))
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    long = ["a" * 100_000, "b" * 100_000]
    (tmp_path / "train.jsonl").unlink()
    data = load_data(write(tmp_path, {"train.tsv": tsv(*long)}))
    assert data.label_names == tuple(long)
    write(tmp_path, {"dev.tsv": tsv("a" * 99_999)})
    with pytest.raises(UserError, match="line 2") as caught:
        load_data(str(tmp_path))
    assert len(str(caught.value)) < 800 + len(str(tmp_path))


def test_many_classes_take_no_time_by_the_square(tmp_path):
    names = [f"class {number}" for number in range(100_000)]
    data = load_data(
        write(tmp_path, {"train.tsv": tsv("class 5", "class 7"), "labels.txt": "\n".join(names)}),
        label_names=names[::-1],
    )
    assert data.splits["train"].labels.tolist() == [99_994, 99_992]


def test_what_is_odd_about_texts(tmp_path, capsys):
    train = "Unnamed: 0\ttext\tlabel\n0\t1\ta\n1\t2\tb\n"
    data = load_data(write(tmp_path, {"train.tsv": train, "test.tsv": tsv("a").replace("text 0", "2")}))
    assert repeated_texts(data.splits) == {"test": 1}
    printed = capsys.readouterr().err
    assert "Unnamed: 0" in printed and "every text is a number" in printed


def test_a_key_with_a_space_is_not_the_key(tmp_path):
    fails(write(tmp_path, {"train.jsonl": '{"text\\u0085": "a", "label": "b"}\n'}), "train.jsonl, line 1", "'text'")


def test_a_label_of_a_million_digits_takes_no_time(tmp_path):
    labels = ["9" * 1_000_000 + "good", "bad"]
    assert load_data(write(tmp_path, {"train.tsv": tsv(*labels)})).label_names == tuple(sorted(labels))


def test_one_list_among_names_is_printed(tmp_path, capsys):
    assert load_data(write(tmp_path, {"train.csv": csv("good", "bad", "['good']")})).task == "multilabel"
    assert "several classes" in capsys.readouterr().err
