"""`tfdistill augment`: files with provenance, the same after an interruption, and one line for every mistake."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tfdistill.augment.tang import augment_tang
from tfdistill.commands import app as cli
from tfdistill.commands import augment as augment_command
from tfdistill.commands.augment import Plan, augment_data, tang_plan
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError

TEXTS = [f"the {name} text of a small corpus, number {i}" for i, name in enumerate(["first", "next", "last"] * 7)]
LABELS = np.arange(len(TEXTS)) % 2


def corpus(pair=False, labels=LABELS, names=("no", "yes"), **options) -> TextData:
    texts_b = [f"{text} again" for text in TEXTS] if pair else None
    train = Split(TEXTS, texts_b, labels, **options)
    return TextData("corpus", {"train": train, "dev": train.take(range(4)), "test": train.take([1, 2])}, names)


def plan(source: Split, copies: int = 3, rows: int = 5, seed: int = 7, **options) -> Plan:
    def make(part, first):
        return augment_tang(part.texts, part.texts_b, copies=copies, seed=seed, first=first, **options)

    return Plan("tang", copies, seed, make, options, rows)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def one_line(output):
    """Messages are broken at the width of the terminal, between any words."""
    return " ".join(output.split())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files(tmp_path):
    data = corpus()
    report = augment_data(data, plan(data.splits["train"]), tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == [
        "dev.jsonl",
        "labels.txt",
        "provenance.json",
        "test.jsonl",
        "train.jsonl",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    rows = lines(tmp_path / "out" / "train.jsonl")
    whole = augment_tang(TEXTS, copies=3, seed=7)
    assert rows[0] == {
        "text": TEXTS[0], "label": "no", "source_row": 0, "copy": None, "method": "original", "seed": None
    }  # fmt: skip
    assert [row["text"] for row in rows] == TEXTS + whole.texts
    new = rows[len(TEXTS) :]
    assert [(row["source_row"], row["copy"]) for row in new] == list(zip(whole.source, whole.copy, strict=True))
    assert all(row["label"] == ("no", "yes")[row["source_row"] % 2] for row in rows)
    assert {(row["method"], row["seed"]) for row in new} == {("tang", 7)}
    assert lines(tmp_path / "out" / "dev.jsonl")[1] == {"text": TEXTS[1], "label": "yes"}
    assert report == json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))
    assert report["state"] == "done" and report["data"] == {"name": "corpus", "fingerprint": data.fingerprint}
    assert report["rows"] == len(rows) and report["copies_made"] == len(whole)
    assert report["copies_left_out"] == 3 * len(TEXTS) - len(whole)
    assert sorted(report["sha256"]) == ["dev.jsonl", "labels.txt", "test.jsonl", "train.jsonl"]


@pytest.mark.parametrize("file_format", ["jsonl", "tsv"])
@pytest.mark.parametrize("kind", ["single", "pair", "regression", "multilabel", "extra"])
def test_is_a_data_source(tmp_path, file_format, kind):
    data = {
        "single": corpus,
        "pair": lambda: corpus(pair=True),
        "regression": lambda: corpus(labels=np.linspace(-3, 3.3, len(TEXTS)).astype(np.float32), names=None),
        "multilabel": lambda: TextData(
            "corpus",
            corpus(labels=np.stack([LABELS, 1 - LABELS, LABELS * 0], axis=1).astype(np.float32)).splits,
            ("a", "b", "c"),
            multilabel=True,
        ),
        "extra": lambda: corpus(texts_extra=(TEXTS[::-1], TEXTS)),
    }[kind]()
    augment_data(data, plan(data.splits["train"]), tmp_path / "out", file_format=file_format)
    read = load_data(str(tmp_path / "out"), **({"task": "multilabel"} if kind == "multilabel" else {}))
    assert (read.task, read.label_names) == (data.task, data.label_names)
    for name in ("dev", "test"):
        assert read.splits[name].texts == data.splits[name].texts
        assert np.array_equal(read.splits[name].labels, data.splits[name].labels)
    train, source = read.splits["train"], data.splits["train"]
    made = augment_tang(source.texts, source.texts_b, copies=3, seed=7)
    every = np.concatenate([np.arange(len(source)), made.source])
    assert train.texts == source.texts + made.texts
    assert train.texts_b == (None if source.texts_b is None else source.texts_b + made.texts_b)
    assert np.array_equal(train.labels, source.labels[every])
    assert train.texts_extra == tuple([column[i] for i in every] for column in source.texts_extra)


def test_rows_without_a_label_stay_so(tmp_path):
    labels = LABELS.copy()
    labels[::4] = -1
    data = corpus(labels=labels)
    augment_data(data, plan(data.splits["train"]), tmp_path / "out")
    assert all(
        (row["label"] is None) == (row["source_row"] % 4 == 0) for row in lines(tmp_path / "out" / "train.jsonl")
    )


def test_other_splits_and_copies_alone(tmp_path):
    data = corpus(labels=None)
    augment_data(data, plan(data.splits["test"]), tmp_path / "out", split="test", only_copies=True)
    assert lines(tmp_path / "out" / "train.jsonl") == [{"text": text} for text in TEXTS]
    assert {row["method"] for row in lines(tmp_path / "out" / "test.jsonl")} == {"tang"}


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4])
def test_an_interrupted_run_goes_on_and_gives_the_same_files(tmp_path, stop_at):
    data = corpus(pair=True)
    augment_data(data, plan(data.splits["train"]), tmp_path / "whole")
    calls = []

    def stopped(part, first):
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(first)
        return plan(data.splits["train"]).make(part, first)

    broken = Plan("tang", 3, 7, stopped, {}, 5)
    with pytest.raises(KeyboardInterrupt):
        augment_data(data, broken, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))["state"] == "running"
    assert not (tmp_path / "out" / "train.jsonl").exists()
    again = []

    def counted(part, first):
        again.append(first)
        return plan(data.splits["train"]).make(part, first)

    augment_data(data, Plan("tang", 3, 7, counted, {}, 5), tmp_path / "out")
    assert calls + again == [0, 5, 10, 15, 20]  # nothing is made twice
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_duplicates_across_parts_are_left_out(tmp_path):
    texts = ["a b", "c", "a b", "a  b", "d"]
    data = TextData("corpus", {"train": Split(texts)}, None)
    augment_data(data, plan(data.splits["train"], copies=20, rows=1, p_mask=0.5), tmp_path / "out")
    rows = [row["text"] for row in lines(tmp_path / "out" / "train.jsonl")]
    assert rows[:5] == texts and len(set(rows[5:])) == len(rows[5:])
    assert rows[5:] == augment_tang(texts, copies=20, seed=7, p_mask=0.5).texts


def test_done_work_is_left_alone(tmp_path, monkeypatch):
    data = corpus()
    first = augment_data(data, plan(data.splits["train"]), tmp_path / "out")
    nothing = Plan("tang", 3, 7, None, {}, 5)  # would fail if it were asked
    assert augment_data(data, nothing, tmp_path / "out") == first
    with pytest.raises(UserError, match=r"holds other work \(seed is 8, there 7\); choose another --out, or --force"):
        augment_data(data, plan(data.splits["train"], seed=8), tmp_path / "out")
    augment_data(data, plan(data.splits["train"], seed=8), tmp_path / "out", force=True)
    assert {row["seed"] for row in lines(tmp_path / "out" / "train.jsonl")} == {None, 8}
    (tmp_path / "out" / "dev.jsonl").write_text("changed")
    with pytest.raises(UserError, match="files are missing or changed"):
        augment_data(data, plan(data.splits["train"], seed=8), tmp_path / "out")


def test_a_directory_of_others_is_never_touched(tmp_path):
    data = corpus()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for force in (False, True):
        with pytest.raises(UserError, match="is no work of tfdistill augment"):
            augment_data(data, plan(data.splits["train"]), tmp_path / "out", force=force)
    assert contents(tmp_path / "out") == {"mine": b"x"}


def test_two_processes(tmp_path):
    data = corpus()
    with augment_command.FileLock(tmp_path / ".out.lock"), pytest.raises(UserError, match="another process works on"):
        augment_data(data, plan(data.splits["train"]), tmp_path / "out")


def test_tsv_cannot_hold_line_ends(tmp_path):
    data = TextData("corpus", {"train": Split(["a b", "a\nb"])}, None)
    with pytest.raises(UserError, match=r"train, row 1 .*choose --format jsonl"):
        augment_data(data, plan(data.splits["train"]), tmp_path / "out", file_format="tsv")
    assert not (tmp_path / "out").exists()


def test_tang_plan_exchanges_words_of_the_split(monkeypatch):
    monkeypatch.setattr("tfdistill.augment.parts_of_speech.load_tagger", lambda path: lambda words: ["T"] * len(words))
    source = Split(["alpha beta", "gamma delta"])
    made = tang_plan(source, copies=50, seed=1, p_mask=0.0, p_pos=0.5, p_ng=0.0)
    assert made.settings == {
        "p_mask": 0.0, "p_pos": 0.5, "p_ng": 0.0, "whole_words": True, "tagger": "textblob-aptagger 0.2.0"
    }  # fmt: skip
    words = {word for text in made.make(source, 0).texts for word in text.split()}
    assert words == {"alpha", "beta", "gamma", "delta"}
    with pytest.raises(UserError, match=r"p_mask=0\.7 and p_pos=0\.5"):
        tang_plan(source, copies=1, seed=1, p_mask=0.7, p_pos=0.5)
    with pytest.raises(UserError, match=r"p_ng=7"):
        tang_plan(source, copies=1, seed=1, p_ng=7)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tfdistill(monkeypatch, capsys):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfdistill", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    for name, rows in (("train", TEXTS), ("dev", TEXTS[:4])):
        cells = "".join(f"{text}\t{'yes' if i % 2 else 'no'}\n" for i, text in enumerate(rows))
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + cells, "utf-8")
    return tmp_path / "data"


def test_command_tang(tfdistill, folder, tmp_path):
    words = ["augment", "--data", folder, "--copies", 2, "--p-pos", 0, "--ngram", 2, 3, "--format", "tsv", "--seed", 4]
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 0 and "of them new" in one_line(error), error
    read = load_data(str(tmp_path / "out"))
    assert read.splits["train"].texts == TEXTS + augment_tang(TEXTS, copies=2, seed=4, ngram=(2, 3)).texts
    assert json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))["settings"] == {
        "p_mask": 0.1, "p_pos": 0.0, "p_ng": 0.25, "ngram": [2, 3], "whole_words": True
    }  # fmt: skip
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 0 and "nothing to do" in one_line(error)


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory):
    """A tiny model with a masked-language-model head over letters."""
    from tfdistill.models.bert import BertConfig
    from tfdistill.models.load import save
    from tfdistill.models.text_model import TextModel
    from tfdistill.text.tokenizer import Tokenizer

    words = sorted({word.strip(",") for text in TEXTS for word in text.split()} - {"corpus"} | {"cor", "##pus"})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *words]
    config = BertConfig(len(vocabulary), 8, 1, 2, 16, 64, initializer_range=0.5)
    for task in ("masked_lm", "classification"):
        model = TextModel(config, task=task)
        model.tokenizer = Tokenizer(vocabulary)
        save(model, tmp_path_factory.getbasetemp() / f"tiny_{task}")
    return tmp_path_factory.getbasetemp()


def test_command_tinybert(tfdistill, folder, tmp_path, masked_lm):
    (tmp_path / "glove.txt").write_text("corpus 1 0\nbody 1 0.1\ntext 0 1\n")
    words = [
        "augment",
        "--data",
        folder,
        "--method",
        "tinybert",
        "--copies",
        3,
        "--k",
        2,
        "--glove",
        tmp_path / "glove.txt",
    ]
    code, _, error = tfdistill(*words, "--teacher", masked_lm / "tiny_masked_lm", "--out", tmp_path / "out")
    assert code == 0 and "of them new" in one_line(error), error
    rows = lines(tmp_path / "out" / "train.jsonl")
    new = [row for row in rows if row["method"] == "tinybert"]
    assert len(new) > 20
    for row in new:  # stop words, comma and number stay; corpus has its neighbours in GloVe
        made, source = row["text"].split(), TEXTS[row["source_row"]].split()
        assert [a for a, b in zip(made, source, strict=True) if b in ("the", "of", "a", "number")][:1] == ["the"]
        assert made[6] in ("corpus,", "body,", "text,") and made[-1] == source[-1]
    assert any(row["text"].split()[6] == "body," for row in new)
    stopped = tfdistill(*words, "--teacher", masked_lm / "tiny_masked_lm", "--out", tmp_path / "again")
    assert stopped[0] == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "none"], "--method none: expected tang or tinybert"),
        (["--format", "csv"], "--format csv: expected jsonl or tsv"),
        (["--method", "tinybert"], "give --mlm DIR, or --teacher DIR to train one on top of it"),
        (["--split", "none", "--p-pos", "0"], "--split none: "),
        (["--p-mask", "2", "--p-pos", "0"], "p_mask=2.0"),
        (["--ngram", "3", "2", "--p-pos", "0"], "ngram=(3, 2)"),
        (["--tagger", "/nowhere/tagger.json"], "/nowhere/tagger.json"),
        (["--mlm-minutes", "1", "--mlm-steps", "2"], "--mlm-minutes and --mlm-steps were given; expected one"),
    ],
)
def test_mistakes(tfdistill, folder, tmp_path, words, message):
    code, _, error = tfdistill("augment", "--data", folder, "--out", tmp_path / "out", *words)
    assert code == 2 and message in error and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()


def test_a_teacher_without_a_head_gets_one_of_the_tasks_text(tfdistill, folder, tmp_path, masked_lm, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    words = ["augment", "--data", folder, "--method", "tinybert", "--teacher", masked_lm / "tiny_classification"]
    words += ["--glove", "none", "--copies", 2, "--k", 2, "--mlm-steps", 3]
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 0 and "the teacher has no masked LM; one is trained" in error, error
    (run,) = (tmp_path / "cache" / "masked-lm").glob("*/run")
    assert json.loads((run / "run.json").read_text("utf-8"))["steps"] == 3
    code, _, error = tfdistill(*words, "--out", tmp_path / "again")  # not trained twice
    assert code == 0 and "one is trained" not in error and "of them new" in one_line(error)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    trained = tfdistill(*words[:-2], "--mlm", run, "--out", tmp_path / "other")
    assert trained[0] == 0
    ours, theirs = (json.loads((tmp_path / name / "provenance.json").read_text("utf-8")) for name in ("out", "other"))
    assert ours["settings"]["mlm"] == theirs["settings"]["mlm"]


def test_an_mlm_that_is_none_is_refused(tfdistill, folder, tmp_path, masked_lm):
    words = ["augment", "--data", folder, "--method", "tinybert", "--mlm", masked_lm / "tiny_classification"]
    code, _, error = tfdistill(*words, "--out", tmp_path / "out")
    assert code == 2 and "has no masked-language-model head" in error and "--mlm DIR" in error
    assert error.count("\n") == 1


def test_the_model_itself_answers(masked_lm):
    """Top ids of `fill_mask` are those of the model's own logits."""
    from tfdistill.training.word_candidates import fill_mask, finder, load_masked_lm

    model = load_masked_lm(masked_lm / "tiny_masked_lm")
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 10, 6)
    mask = (np.arange(10) < lengths[:, None]).astype(np.int32)
    inputs = {
        "token_ids": rng.integers(5, model.config.vocab_size, (6, 10)).astype(np.int32) * mask,
        "padding_mask": mask,
        "segment_ids": mask * 0,
    }
    positions = (lengths - 1)[:, None].astype(np.int32)
    logits = model(inputs, training=False).numpy()[np.arange(6), positions[:, 0]]
    best = fill_mask(model)({**inputs, "masked_positions": positions}, 5)
    assert best.tolist() == np.argsort(-logits, axis=1)[:, :5].tolist()
    assert fill_mask(model)({**inputs, "masked_positions": positions}, 999).shape == (6, model.config.vocab_size)
    assert finder(model).max_length == 64
    classifier = type(model)(model.config)
    with pytest.raises(UserError, match="got a classification model"):
        fill_mask(classifier)
