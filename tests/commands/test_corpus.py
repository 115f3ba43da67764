"""`tfdistill corpus`, and training that reads its shards."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from made_corpora import LETTERS, TOKENIZER, labelled, made, make_teacher, save_vocabulary, write_text

from tfdistill.corpora import storage
from tfdistill.corpora.manifest import check
from tfdistill.models.text_model import TextModel


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def vocabulary(tmp_path) -> str:
    return save_vocabulary(tmp_path / "vocabulary")


@pytest.fixture
def teacher(tmp_path) -> TextModel:
    return make_teacher(tmp_path / "teacher")


@pytest.mark.slow
def test_a_recipe_learns_from_labelled_texts_and_pretraining_from_shards(tmp_path, teacher, tfdistill):
    corpus = labelled(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{text}\t{('no', 'yes')[n % 2]}" for n, text in enumerate(LETTERS[:20])]
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", "utf-8")
    given = ["--teacher", tmp_path / "teacher", "--data", tmp_path / "data", "--out", tmp_path / "run"]
    chosen = [f"labelled.corpus={corpus}", "num_layers=1", "max_length=16", "epochs=1", "batch_size=8"]
    code, _, told = tfdistill("train", "soft_targets", *given, *(w for s in chosen for w in ("--set", s)))
    assert code == 0, told
    stages = [json.loads(line)["stage"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["labelled texts", "soft targets"]

    text = write_text(tmp_path / "a.txt")
    TOKENIZER.save(tmp_path / "vocabulary")
    shards = made(tmp_path, str(tmp_path / "vocabulary"), text, 500)
    sizes = [f"{name}=8" for name in ("hidden_size", "intermediate_size")]
    sizes += ["num_hidden_layers=1", "num_attention_heads=2", "max_position_embeddings=32"]
    options = ["--tokenizer", tmp_path / "vocabulary", *(w for s in sizes for w in ("--config", s)), "--steps", 3]
    code, _, told = tfdistill(
        "pretrain", "tinybert_4l_312", "--text", f"corpus:{shards}", "--out", tmp_path / "mlm", *options, "--set", "length=24"
    )  # fmt: skip
    assert code == 0, told
    assert json.loads((tmp_path / "mlm" / "run.json").read_text())["steps"] == 3


def test_the_command(tmp_path, vocabulary, tfdistill):
    text = write_text(tmp_path / "a.txt")
    words = ["corpus", text, "--out", tmp_path / "corpus", "--tokenizer", vocabulary, "--shard-mb", "0.002"]
    code, _, told = tfdistill(*words)
    assert code == 0 and "shards" in told
    then = (tmp_path / "corpus" / "manifest.json").stat().st_mtime_ns
    assert tfdistill(*words)[0] == 0 and (tmp_path / "corpus" / "manifest.json").stat().st_mtime_ns == then
    code, _, told = tfdistill(*words, "--held-out", "0.5")
    assert code == 2 and "held_out" in told
    with text.open("a") as file:
        file.write("\n\nOne more.\n")
    code, _, told = tfdistill(*words)
    assert code == 2 and "files" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.txt"], "none.txt"),
        (["a.txt", "--teacher", "t"], "--rows"),
        (["a.txt", "--runner", "cloud"], "--runner cloud"),
        (["a.txt", "--", "--flink_master=x"], "--flink_master=x"),
        pytest.param(
            ["a.txt", "--runner", "direct"],
            "tfdistill[beam]",
            marks=pytest.mark.skipif(bool(find_spec("apache_beam")), reason="it is"),
        ),
        (["a.txt", "--tokenizer", "nowhere"], "nowhere"),
        (["a.txt", "--rows", "--teacher", "nowhere"], "nowhere"),
        (["broken.txt"], "broken.txt"),
        (["numbers.txt"], "numbers.txt"),
    ],
)
def test_mistakes_are_one_line(tmp_path, vocabulary, tfdistill, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "a.txt", 5)
    (tmp_path / "broken.txt").write_bytes(b"One two three four five six.\n\n\xff\xfe and more\n")
    (tmp_path / "numbers.txt").write_text("1 2 3 4 5 6 7 8 9 10 11 12\n" * 3)
    given = words if "--tokenizer" in words else [*words[:1], "--tokenizer", vocabulary, *words[1:]]
    code, _, error = tfdistill("corpus", *given[:1], "--out", tmp_path / "out", *given[1:])
    assert code == 2 and message in error.splitlines()[-1]


def test_what_is_not_a_corpus_is_left_alone(tmp_path, vocabulary, tfdistill):
    text = write_text(tmp_path / "a.txt", 5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    code, *_ = tfdistill("corpus", text, "--out", tmp_path / "mine", "--tokenizer", vocabulary)
    assert code == 2 and (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


def test_a_full_disk_is_one_line_and_what_is_done_stays(tmp_path, vocabulary, tfdistill, monkeypatch):
    text = write_text(tmp_path / "a.txt")
    words = ["corpus", text, "--out", tmp_path / "corpus", "--tokenizer", vocabulary, "--shard-mb", "0.002"]
    write, written = storage.put, []

    def full(path, content):
        written.append(path)
        if "shard-00002/train.ids" in path:
            raise OSError(28, "No space left on device", path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "put", full)
        code, _, told = tfdistill(*words)
    assert code == 2 and "No space left on device" in told
    assert (tmp_path / "corpus" / "shard-00001" / "corpus.json").is_file()
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    assert tfdistill(*words)[0] == 0
    check(tmp_path / "corpus")


def test_what_is_for_rows_alone_is_refused_without(tmp_path, vocabulary, tfdistill):
    text = write_text(tmp_path / "a.txt", 5)
    words = ["corpus", text, "--out", tmp_path / "corpus", "--tokenizer", vocabulary, "--max-length", 32]
    code, _, told = tfdistill(*words)
    assert code == 2 and "--rows" in told
