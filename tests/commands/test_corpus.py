"""`tfdistill corpus`: the shards hold the text of the plain corpus, whatever cuts and runs them, and training reads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill import losses
from tfdistill.cache import checksums as checked
from tfdistill.commands.corpus import make
from tfdistill.corpora import build as corpus_steps
from tfdistill.corpora import storage
from tfdistill.corpora.build import Work, spans_of
from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.labelled_texts import LabelledTexts
from tfdistill.corpora.masking import Masking
from tfdistill.corpora.plain_text import Span, clean, documents, sentences, spans
from tfdistill.corpora.shards import ShardedCorpus, check, read_text
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.models.bert import BertConfig
from tfdistill.models.fingerprint import identity
from tfdistill.models.load import save
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import sha256
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.run_identity import stage_as_data
from tfdistill.training.stage import Stage

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
WORDS = [f"w{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def vocabulary(tmp_path) -> str:
    (tmp_path / "vocabulary").mkdir()
    TOKENIZER.save(tmp_path / "vocabulary")
    return str(tmp_path / "vocabulary")


def write_text(path: Path, count: int = 90, seed: int = 0, one_a_line: bool = False) -> Path:
    """Documents of sentences, of which some stand in several."""
    rng = np.random.default_rng(seed)
    common = [" ".join(rng.choice(WORDS, 9)).capitalize() + "." for _ in range(4)]
    made = []
    for _ in range(count):
        lines = [" ".join(rng.choice(WORDS, rng.integers(8, 13))).capitalize() + "." for _ in range(rng.integers(1, 5))]
        lines += [common[rng.integers(4)]] * (rng.random() < 0.3)
        made.append((" " if one_a_line else "\n").join(lines))
    made += made[:5] if one_a_line else []
    path.write_text(("\n" if one_a_line else "\n\n").join(made) + "\n", encoding="utf-8")
    return path


def made(
    tmp_path: Path, vocabulary: str, source: Path, size: int = 1500, out: str = "corpus", workers: int = 1, **options
) -> Path:
    work = Work(str(tmp_path / out), vocabulary, spans_of(str(source), size), **{"held_out": 0.1, **options})
    make(work, str(source), workers=workers)
    return tmp_path / out


# --- text in spans --------------------------------------------------------------------------------------------------


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


# --- shards ---------------------------------------------------------------------------------------------------------


def stored_sentences(corpus, part: str) -> list[tuple[int, ...]]:
    found = []
    for shard in getattr(corpus, "shards", [corpus]):
        stored = shard.part(part)
        for start, end in zip(stored.sentences[:-1], stored.sentences[1:], strict=True):
            row = stored.ids[start:end].tolist()
            found.append(tuple(row[:-1] if row[-1] == TOKENIZER.sep_id else row))
    return found


@pytest.mark.parametrize("size", [400, 3000, 10**6])
def test_the_shards_are_the_plain_corpus(tmp_path, vocabulary, size):
    text = write_text(tmp_path / "a.txt")
    corpus = ShardedCorpus(made(tmp_path, vocabulary, text, size), TOKENIZER)
    plain = PlainText(str(text), held_out=0.1).prepare(TOKENIZER)
    for part in ("train", "held_out"):
        assert stored_sentences(corpus, part) == stored_sentences(plain, part)
        assert corpus.tokens(part) == plain.tokens(part)
    np.testing.assert_array_equal(corpus.counts, plain.counts)
    assert corpus.about["repeated_sentences"] == plain.about["repeated_sentences"] > 10
    assert (len(corpus.shards) > 20) == (size == 400)
    check(corpus.directory)


def test_sentences_repeated_in_other_files_are_left_out_whatever_the_ranges(tmp_path, vocabulary, monkeypatch):
    (tmp_path / "text").mkdir()
    for name in ("a", "b", "c"):
        write_text(tmp_path / "text" / f"{name}.txt", seed=0 if name == "c" else ord(name))
    monkeypatch.setattr(corpus_steps, "_SPANS_TOGETHER", 2)
    corpus = ShardedCorpus(made(tmp_path, vocabulary, tmp_path / "text", 1000), TOKENIZER)
    plain = PlainText(str(tmp_path / "text"), held_out=0.1).prepare(TOKENIZER)
    assert stored_sentences(corpus, "train") == stored_sentences(plain, "train")
    every = [s for file in "abc" for d in documents(tmp_path / "text" / f"{file}.txt") for s in sentences(d)]
    assert corpus.about["repeated_sentences"] == len(every) - len(set(every))


def test_processes_and_interruptions_change_nothing(tmp_path, vocabulary, monkeypatch):
    text = write_text(tmp_path / "a.txt")
    whole = made(tmp_path, vocabulary, text)
    done = []

    def stops(said, step, part):
        done.append(part)
        if len(done) == 12:
            raise KeyboardInterrupt
        corpus_steps.run_part(said, step, part)

    monkeypatch.setattr("tfdistill.commands.corpus.part_of", stops)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, vocabulary, text, out="other")
    monkeypatch.undo()
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "other").rglob("*.npy")}
    other = made(tmp_path, vocabulary, text, out="other", workers=2)
    assert first and all(not path.exists() or path.stat().st_mtime_ns == then for path, then in first.items())
    sums = [json.loads((where / "manifest.json").read_text())["sha256"] for where in (whole, other)]
    assert sums[0] == sums[1] and not (other / "work").exists()


# --- what training reads --------------------------------------------------------------------------------------------


def test_every_sequence_comes_once_an_epoch_and_workers_share_the_batches(tmp_path, vocabulary):
    corpus = read_text(f"corpus:{made(tmp_path, vocabulary, write_text(tmp_path / 'a.txt'), 500)}", TOKENIZER)
    plain = corpus.examples(length=24)
    rows = {tuple(row) for row in plain.batch(np.arange(len(plain)))["student"]["token_ids"].tolist()}
    orders = [plain.rows_at(np.arange(len(plain)), seed=1, epoch=epoch) for epoch in range(2)]
    assert len(corpus.shards) > 16 and all(sorted(order) == list(range(len(plain))) for order in orders)
    assert (orders[0] != orders[1]).any()
    batches = list(plain.dataset(6, seed=1, epochs=2).as_numpy_iterator())
    seen = Counter(tuple(row) for batch in batches for row in batch["student"]["token_ids"].tolist())
    assert set(seen) == rows
    masked = corpus.examples(length=24, masking=Masking(), limit=40)
    whole = list(masked.dataset(6, seed=1, epochs=2).as_numpy_iterator())
    parts = [list(masked.dataset(6, seed=1, epochs=2, first_step=3, worker=(n, 2)).as_numpy_iterator()) for n in (0, 1)]
    for batch, *shared in zip(whole[3:], *parts, strict=True):
        for group, values in batch.items():
            for name, value in values.items():
                np.testing.assert_array_equal(value, np.concatenate([part[group][name] for part in shared]))
    with pytest.raises(UserError, match="another vocabulary"):
        read_text(f"corpus:{corpus.directory}", Tokenizer.from_directory(TINY))
    with pytest.raises(UserError, match="megabytes is 1 for"):
        read_text(f"corpus:{corpus.directory}", TOKENIZER, megabytes=1)


@pytest.fixture
def teacher(tmp_path) -> TextModel:
    keras.utils.set_random_seed(3)
    config = BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24)
    model = TextModel(config, 2, label_names=("no", "yes"))
    model.tokenizer = Tokenizer.from_directory(TINY)
    save(model, tmp_path / "teacher")
    return model


LETTERS = [" ".join(row) for row in np.random.default_rng(0).choice(list("abcdefgh"), (60, 12))]


def labelled(tmp_path: Path, **options) -> Path:
    text = tmp_path / "texts.txt"
    text.write_text("\n".join([*LETTERS, LETTERS[0], *LETTERS[:4]]) + "\n", "utf-8")
    given = {"rows": True, "teacher": str(tmp_path / "teacher"), "max_length": 16, **options}
    return made(tmp_path, str(tmp_path / "teacher"), text, 200, out="labelled", **given)


def test_texts_come_with_the_teachers_logits(tmp_path, teacher):
    texts = LabelledTexts(labelled(tmp_path, copies=2, held_out=0.0), teacher.tokenizer, 2)
    batches = list(texts.dataset(8, seed=1, epochs=2).as_numpy_iterator())
    assert len(texts) > 100 and sum(len(batch["student"]["token_ids"]) for batch in batches) == 2 * len(texts)
    seen: Counter = Counter()
    for batch in batches:
        np.testing.assert_allclose(teacher(batch["student"]).numpy(), batch["teacher_features"]["logits"], atol=1e-5)
        seen.update(tuple(row[row > 0]) for row in batch["student"]["token_ids"])
    ids = teacher.tokenizer.encode(LETTERS, max_length=16).rows(np.arange(len(LETTERS)))
    assert all(seen[tuple(row)] == 2 for row in ids)  # once an epoch, repeated or not
    later = list(texts.dataset(8, seed=1, epochs=2, first_step=9).as_numpy_iterator())
    for one, other in zip(batches[9:], later, strict=True):
        np.testing.assert_array_equal(one["student"]["token_ids"], other["student"]["token_ids"])
    parts = [list(texts.dataset(8, seed=1, worker=(n, 2)).as_numpy_iterator()) for n in (0, 1)]
    for batch, *shared in zip(batches, *parts, strict=False):
        logits = np.concatenate([part["teacher_features"]["logits"] for part in shared])
        np.testing.assert_array_equal(batch["teacher_features"]["logits"], logits)
    with pytest.raises(UserError, match="logits of 2 classes; expected 3"):
        LabelledTexts(tmp_path / "labelled", teacher.tokenizer, 3)
    assert {batch["student"]["token_ids"].shape[1] for batch in texts.dataset(8, seed=1, buckets=(9, 16))} <= {9, 16}


def test_logits_of_another_teacher_are_refused(tmp_path, teacher):
    corpus = labelled(tmp_path)
    mine = LabelledTexts(corpus, teacher.tokenizer, 2, teacher=identity(teacher))
    teacher.set_weights([weight + 1 for weight in teacher.get_weights()])
    with pytest.raises(UserError, match=r"has the logits of another teacher .*expected those of this run's"):
        LabelledTexts(corpus, teacher.tokenizer, 2, teacher=identity(teacher))
    save(teacher, tmp_path / "other")
    shutil.rmtree(corpus)
    other = labelled(tmp_path, teacher=str(tmp_path / "other"))
    theirs = LabelledTexts(other, teacher.tokenizer, 2, teacher=identity(teacher))
    # A run that learns from one of them is another than a run that learns from the other, as many texts as they are.
    stages = [stage_as_data(Stage("labelled", (HardLabels(),), source=texts))["source"] for texts in (mine, theirs)]
    assert len(mine) == len(theirs) and stages[0] != stages[1] and stages[0].startswith(f"{len(mine)} sequences ")


def test_a_batch_with_fewer_rows_than_workers_leaves_some_without_any(tmp_path, teacher):
    """The part without rows goes through a step as any other, and adds nothing."""
    texts = LabelledTexts(labelled(tmp_path, held_out=0.0), teacher.tokenizer, 2)
    assert len(texts) == 60
    whole, *parts = (
        list(texts.dataset(59, seed=1, worker=worker).as_numpy_iterator()) for worker in ((0, 1), (0, 2), (1, 2))
    )
    sizes = [[len(batch["student"]["token_ids"]) for batch in some] for some in (whole, *parts)]
    assert sorted(zip(*sizes, strict=True)) == [(1, 1, 0), (59, 30, 29)]
    (empty,) = (batch for batch in parts[1] if not len(batch["student"]["token_ids"]))
    assert empty["student"]["padding_mask"].shape == (0, 2) and empty["teacher_features"]["logits"].shape == (0, 2)
    assert empty["teacher_features"]["logits"].dtype == np.float32
    distiller = Distiller(teacher, None, [Match(losses.soft_kl, options={"temperature": 2.0})])
    distiller.compile(optimizer=keras.optimizers.SGD(1.0))
    before = teacher.get_weights()
    assert distiller.train_on_batch(empty, return_dict=True)["loss"] == 0.0
    assert all(np.array_equal(one, other) for one, other in zip(before, teacher.get_weights(), strict=True))


def test_a_recipe_learns_from_labelled_texts_and_pretraining_from_shards(tmp_path, teacher, tfdistill):
    corpus = labelled(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{text}\t{('no', 'yes')[n % 2]}" for n, text in enumerate(LETTERS[:20])]
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", "utf-8")
    given = ["--teacher", tmp_path / "teacher", "--data", tmp_path / "data", "--out", tmp_path / "run"]
    chosen = [f"labelled={corpus}", "num_layers=1", "max_length=16", "epochs=1", "batch_size=8"]
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


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path, vocabulary, tfdistill):
    text = write_text(tmp_path / "a.txt")
    words = ["corpus", text, "--out", tmp_path / "corpus", "--tokenizer", vocabulary, "--shard-mb", "0.002"]
    code, _, told = tfdistill(*words)
    assert code == 0 and "shards" in told and "repeated sentences left out" in told
    then = (tmp_path / "corpus" / "manifest.json").stat().st_mtime_ns
    assert tfdistill(*words)[0] == 0 and (tmp_path / "corpus" / "manifest.json").stat().st_mtime_ns == then
    code, _, told = tfdistill(*words, "--held-out", "0.5")
    assert code == 2 and "with other held_out" in told
    with text.open("a") as file:
        file.write("\n\nOne more.\n")
    code, _, told = tfdistill(*words)
    assert code == 2 and "with other files" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.txt"], "no text at"),
        (["a.txt", "--teacher", "t"], "expected --rows"),
        (["a.txt", "--runner", "cloud"], "--runner cloud is unknown"),
        (["a.txt", "--", "--flink_master=x"], "for Apache Beam"),
        pytest.param(
            ["a.txt", "--runner", "direct"],
            "Apache Beam is not installed",
            marks=pytest.mark.skipif(bool(find_spec("apache_beam")), reason="it is"),
        ),
        (["a.txt", "--tokenizer", "nowhere"], "nowhere"),
        (["a.txt", "--rows", "--teacher", "nowhere"], "nowhere"),
        (["broken.txt"], "is not UTF-8"),
        (["numbers.txt"], "no text to train on"),
    ],
)
def test_mistakes_are_one_line(tmp_path, vocabulary, tfdistill, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "a.txt", 5)
    (tmp_path / "broken.txt").write_bytes(b"One two three four five six.\n\n\xff\xfe and more\n")
    (tmp_path / "numbers.txt").write_text("1 2 3 4 5 6 7 8 9 10 11 12\n" * 3)
    given = words if "--tokenizer" in words else [*words[:1], "--tokenizer", vocabulary, *words[1:]]
    code, _, error = tfdistill("corpus", *given[:1], "--out", tmp_path / "out", *given[1:])
    assert code == 2 and told in error and "Traceback" not in error


def test_an_edited_text_of_the_same_size_is_another_one(tmp_path, vocabulary, monkeypatch):
    text = write_text(tmp_path / "a.txt", 9)

    def begun() -> bool:
        return corpus_steps.begin(Work(str(tmp_path / "out"), vocabulary, spans_of(str(text), 1500)))

    assert not begun() and not begun()  # stopped, and taken up again
    content = text.read_bytes()
    text.write_bytes(content.replace(b"w", b"v", 1))
    with pytest.raises(UserError, match=r"with other files; expected the same command"):
        begun()
    text.write_bytes(content)
    assert not begun()

    def elsewhere() -> bool:
        return corpus_steps.begin(Work(str(tmp_path / "there"), vocabulary, spans_of(f"file://{text}", 1500)))

    assert not elsewhere() and not elsewhere()
    os.utime(text, (1, 1))
    with pytest.raises(UserError, match="with other files"):
        elsewhere()
    broken = OSError(5, "Input/output error")
    monkeypatch.setattr(corpus_steps, "sha256", lambda _: (_ for _ in ()).throw(broken))
    with pytest.raises(UserError, match=r"cannot read .*a\.txt: Input/output error"):
        begun()


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = (
        "import os, time; from tfdistill.commands.corpus import pool_of\n"
        "with pool_of(2) as pool:\n"
        "    pool.submit(os.getpid).result(); print('begun', flush=True); list(pool.map(time.sleep, [60, 60]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.kill()
    assert process.communicate(timeout=20) == ("", None)  # which ends when the last process that writes there does


def test_what_killed_processes_were_writing_goes(tmp_path, vocabulary):
    for name in ("work/plan.json.0011aabb.7.part", "corpus/work/plan.json.0011aabb.7.part"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match="is not empty"):
        made(tmp_path, vocabulary, write_text(tmp_path / "a.txt", 9), out=".")
    assert (tmp_path / "work" / "plan.json.0011aabb.7.part").exists()
    text = write_text(tmp_path / "a.txt", 9)
    work = Work(str(tmp_path / "corpus"), vocabulary, spans_of(str(text), 1500))
    assert not corpus_steps.begin(work)
    for name in ("shard-00000/train.ids.0011aabb.7.part", "manifest.json.0011aabb.7.part"):
        (tmp_path / "corpus" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "corpus" / name).write_text("")
    make(work, str(text))
    assert not list((tmp_path / "corpus").rglob("*.part"))
    check(tmp_path / "corpus")


def test_what_is_not_a_corpus_is_left_alone(tmp_path, vocabulary, tfdistill):
    text = write_text(tmp_path / "a.txt", 5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    code, _, told = tfdistill("corpus", text, "--out", tmp_path / "mine", "--tokenizer", vocabulary)
    assert code == 2 and "is not empty" in told and (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


def test_a_damaged_shard_is_found(tmp_path, vocabulary):
    corpus = made(tmp_path, vocabulary, write_text(tmp_path / "a.txt"))
    ids = corpus / "shard-00002" / "train.ids"
    ids.write_bytes(ids.read_bytes()[:-2] + b"\x07\x00")
    with pytest.raises(UserError, match="damaged"):
        check(corpus)
    with pytest.raises(UserError, match=r"damaged; delete .*same tfdistill corpus command"):
        made(tmp_path, vocabulary, tmp_path / "a.txt")  # the same command looks
    shutil.rmtree(corpus / "shard-00002")
    with pytest.raises(UserError, match="shard-00002"):
        ShardedCorpus(corpus, TOKENIZER)


@pytest.mark.parametrize("name", ["train.ids", "train.logits.npy"])
def test_training_reads_no_damaged_corpus_and_looks_once(tmp_path, teacher, monkeypatch, name):
    corpus = labelled(tmp_path)
    read: list[Path] = []
    monkeypatch.setattr(checked, "sha256", lambda path: read.append(Path(path)) or sha256(path))

    def opened() -> int:
        """How many files were compared."""
        read.clear()
        LabelledTexts(corpus, teacher.tokenizer, 2)
        return len(read)

    corpus.chmod(0o555)
    assert opened() == len(json.loads((corpus / "manifest.json").read_text())["sha256"]) and opened() == 0
    file = corpus / "shard-00001" / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    os.utime(file, ns=(0, 0))
    assert opened() == 1 and opened() == 0
    file.write_bytes(content)
    for _ in range(2):
        with pytest.raises(UserError, match=f"shard-00001/{name} is damaged; delete .*make it again"):
            opened()
    file.unlink()
    with pytest.raises(UserError, match=f"shard-00001/{name} is missing; delete"):
        opened()
    corpus.chmod(0o755)


def test_where_nothing_can_be_noted_all_is_compared_each_time(tmp_path, vocabulary, monkeypatch):
    corpus = made(tmp_path, vocabulary, write_text(tmp_path / "a.txt", 9))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    read: list[Path] = []
    monkeypatch.setattr(checked, "sha256", lambda path: read.append(path) or sha256(path))
    counts = [len(read) for _ in range(2) if ShardedCorpus(corpus, TOKENIZER)]
    assert 0 < 2 * counts[0] == counts[1]

    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checked, "sha256", broken)
    with pytest.raises(UserError, match=r"cannot read .*Input/output error"):
        ShardedCorpus(corpus, TOKENIZER)


@pytest.mark.skipif(not find_spec("apache_beam"), reason="make beam has an environment with Apache Beam")
def test_beam_makes_the_same_shards(tmp_path, vocabulary):
    text = write_text(tmp_path / "a.txt")
    command = [
        sys.executable,
        "-m",
        "tfdistill",
        "corpus",
        str(text),
        "--tokenizer",
        vocabulary,
        "--shard-mb",
        "0.0015",
    ]
    for out, options in (
        ("local", ()),
        ("direct", ("--runner", "direct")),
        ("two", ("--runner", "direct", "--workers", "2")),
    ):
        subprocess.run([*command, "--out", str(tmp_path / out), *options], check=True, env={**os.environ})
    sums = [json.loads((tmp_path / out / "manifest.json").read_text())["sha256"] for out in ("local", "direct", "two")]
    assert sums[0] == sums[1] == sums[2]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 3}', "\x00"])
def test_a_damaged_manifest_is_one_line(tmp_path, vocabulary, content):
    corpus = made(tmp_path, vocabulary, write_text(tmp_path / "a.txt", 5))
    (corpus / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="no corpus"):
        read_text(f"corpus:{corpus}", TOKENIZER)
    with pytest.raises(UserError, match="is damaged"):
        made(tmp_path, vocabulary, tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["train.logits.npy", "train.sentences.npy", "counts.npy"])
def test_a_truncated_array_is_one_line(tmp_path, teacher, name):
    file = labelled(tmp_path) / "shard-00000" / name
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match="is damaged"):
        LabelledTexts(tmp_path / "labelled", teacher.tokenizer, 2)


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
    assert code == 2 and "No space left on device" in told and "Traceback" not in told
    assert (tmp_path / "corpus" / "shard-00001" / "corpus.json").is_file()
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    assert tfdistill(*words)[0] == 0
    check(tmp_path / "corpus")


def test_a_corpus_that_is_cut_elsewhere_is_another_one(tmp_path, vocabulary):
    """With as many shards: sentences are numbered by shard, so that what was done for other ones would drop the wrong ones."""
    text = write_text(tmp_path / "a.txt")
    cuts = {size: spans_of(str(text), size) for size in range(1500, 1700, 20)}
    sizes = [size for size, cut in cuts.items() if len(cut) == len(cuts[1500]) and cut != cuts[1500]]
    work = Work(str(tmp_path / "corpus"), vocabulary, cuts[1500], held_out=0.1)
    assert not corpus_steps.begin(work)
    corpus_steps.run_part(work.as_text(), "hashes", 0)
    with pytest.raises(UserError, match="another corpus, with other shards"):
        made(tmp_path, vocabulary, text, sizes[0])
    check(made(tmp_path, vocabulary, text))


@pytest.mark.parametrize(
    ("step", "content"),
    [("hashes", b""), ("hashes", b"\x93NUMPY\x01"), ("repeats", b""), ("shards", b"{"), ("shards", b"{}")],
)
def test_damaged_work_is_made_again(tmp_path, vocabulary, step, content):
    text = write_text(tmp_path / "a.txt")
    work = Work(str(tmp_path / "corpus"), vocabulary, spans_of(str(text), 1500), held_out=0.1)
    assert not corpus_steps.begin(work)
    for each in corpus_steps.STEPS:
        for part in range(work.parts(each)):
            corpus_steps.run_part(work.as_text(), each, part)
    whole = made(tmp_path, vocabulary, text, out="other")
    after = {"hashes": ("repeats", "shards"), "repeats": ("shards",), "shards": ()}[step]
    for each in after:
        for part in range(work.parts(each)):
            Path(work.done(each, part)).unlink()
    Path(work.done(step, 0)).write_bytes(content)
    with pytest.raises(UserError, match="was damaged and is removed; run the same command again"):
        make(work, str(text))
    make(work, str(text))
    sums = [json.loads((place / "manifest.json").read_text())["sha256"] for place in (tmp_path / "corpus", whole)]
    assert sums[0] == sums[1]


def test_what_a_process_left_that_was_killed_after_the_manifest_goes(tmp_path, vocabulary):
    text = write_text(tmp_path / "a.txt", 5)
    corpus = made(tmp_path, vocabulary, text)
    (corpus / "work").mkdir()
    (corpus / "work" / "hashes-00000.npy").write_bytes(b"")
    made(tmp_path, vocabulary, text)
    assert not (corpus / "work").exists()


def test_what_is_for_rows_alone_is_refused_without(tmp_path, vocabulary, tfdistill):
    text = write_text(tmp_path / "a.txt", 5)
    words = ["corpus", text, "--out", tmp_path / "corpus", "--tokenizer", vocabulary, "--max-length", 32]
    code, _, told = tfdistill(*words)
    assert code == 2 and "expected --rows with them" in told
