"""What the teacher cache gives is what the teacher says, whether it was made now, found, or mended; and it is never a wrong one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import threading
import time
from collections import namedtuple
from dataclasses import replace
from functools import wraps
from pathlib import Path

import keras
import numpy as np
import pytest
from filelock import FileLock
from helpers import tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdistill import losses
from tfdistill.corpora.two_vocabularies import MixedSequences
from tfdistill.data.batching import Examples, dataset
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.features import features_of
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import DivergedError, UserError
from tfdistill.models import presets
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training import teacher_cache
from tfdistill.training.recipe import Recipe
from tfdistill.training.row_store import DTYPES, Column, RowStore
from tfdistill.training.rows import Prepared, prepare
from tfdistill.training.run_directory import run
from tfdistill.training.runner import train
from tfdistill.training.stage import Stage
from tfdistill.training.teacher_cache import TeacherCache
from tfdistill.training.teacher_outputs import stage_examples, teacher_plan, training_logits, wanted

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
TERMS = (
    Match(losses.hidden_mse, on="embeddings"),
    Match(losses.hidden_mse, on="hidden_states", layers=((1, 2),)),
    Match(losses.attention_mse, on="attention_scores", layers=((1, 1),)),
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder of caches, and shards of few rows."""
    monkeypatch.setattr(teacher_cache, "folder", lambda: tmp_path / "teacher")
    monkeypatch.setattr(teacher_cache, "_SHARD_ROWS", 64)
    return tmp_path / "teacher"


@pytest.fixture(scope="module")
def model() -> TextModel:
    keras.utils.set_random_seed(0)
    return tiny_bert(layers=2)


def encoded(lengths, seed: int = 0) -> Encoded:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    random = np.random.default_rng(seed)
    ids = random.integers(1, 50, offsets[-1]).astype(np.int32)
    return Encoded(ids, random.integers(0, 2, offsets[-1]).astype(np.int32), offsets)


ROWS = encoded(np.random.default_rng(1).integers(2, 15, 200))


def shards(place: Path) -> list[Path]:
    return sorted(place.glob("*/*.rows"))


def told(capsys) -> list[str]:
    """Lines on stderr but those of progress bars."""
    return [line for line in capsys.readouterr().err.splitlines() if "%" not in line]


# --- the store ------------------------------------------------------------------------------------------------------

COLUMNS = (Column("logits", "row", (3,)), Column("hidden/1", "token", (2,)), Column("scores/1", "pair", (2,)))


def filled(
    directory: Path, lengths, columns=COLUMNS, dtype="float32", batch=2, rows=4, key="k"
) -> tuple[RowStore, list]:
    """A whole store, and the values of each column by row."""
    random, lengths = np.random.default_rng(0), np.asarray(lengths)
    store = RowStore(directory, key, lengths, columns, dtype, batch, 1 << 20, rows)
    values = [[random.normal(size=c.of_row(int(n))).astype("float32") for n in lengths] for c in columns]

    def batches(part):
        for start in range(part.first, part.last, batch):
            chosen = store.order[start : min(start + batch, part.last)]
            width = lengths[chosen].max() + 1  # padding of any kind is left out
            made = []
            for column, each in zip(columns, values, strict=True):
                padded = np.full((len(chosen), *column.of_row(int(width))), 9.0, "float32")
                for place, row in enumerate(chosen):
                    padded[place][tuple(map(slice, each[row].shape))] = each[row]
                made.append(padded)
            yield made

    for part in store.parts:
        store.write(part, batches(part))
    return store, values


@pytest.mark.heavy
@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    columns=st.sets(st.sampled_from(COLUMNS), min_size=1),
    dtype=st.sampled_from(sorted(DTYPES)),
    batch=st.integers(1, 5),
    rows=st.integers(1, 12),
    data=st.data(),
)
def test_gives_back_what_was_written(lengths, columns, dtype, batch, rows, data):
    asked = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6)))
    with tempfile.TemporaryDirectory() as directory:
        store, values = filled(Path(directory) / "s", lengths, tuple(columns), dtype, batch, rows)
        assert store.broken() == {} and sum(p.stat().st_size for p in Path(directory).glob("s/*")) == store.nbytes()
        some = store.open().take(np.arange(len(lengths))[::-1])
        for of, numbers in ((store, asked), (some, len(lengths) - 1 - asked)):
            width = max(lengths[row] for row in asked)
            for column, each, found in zip(columns, values, of.read(numbers), strict=True):
                expected = np.zeros((len(asked), *column.of_row(width)), DTYPES[dtype])
                for place, row in enumerate(asked):
                    expected[place][tuple(map(slice, each[row].shape))] = each[row].astype(DTYPES[dtype])
                np.testing.assert_array_equal(found.astype("float32"), expected.astype("float32"))
                assert found.dtype == DTYPES[dtype] and found.shape == expected.shape


def flip(place: int):
    def change(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[place] ^= 8
        return bytes(damaged)

    return change


DAMAGES = {
    "a bit": flip(5),
    "a bit of the checksum": flip(-3),
    "cut": lambda content: content[:-7],
    "longer": lambda content: content + b"x",
    "empty": lambda content: b"",
    "dropped row": lambda content: content[12:],
    "of another place": None,
    "of another cache": None,
    "gone": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found(tmp_path, damage):
    store, _ = filled(tmp_path / "s", [3] * 12)
    file = store.path(store.parts[1])
    if damage == "gone":
        file.unlink()
    elif damage == "of another place":
        shutil.copy(store.path(store.parts[0]), file)
    elif damage == "of another cache":
        other, _ = filled(tmp_path / "t", [3] * 12, key="other")
        shutil.copy(other.path(other.parts[1]), file)
    else:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    broken = store.broken()
    assert list(broken) == [store.parts[1]] and bool(broken[store.parts[1]]) == (damage != "gone")


def test_is_memory_mapped(tmp_path):
    store, _ = filled(tmp_path / "s", [3] * 12)
    maps = store.open()._maps
    assert len(maps) == 3 and all(
        type(each) is np.memmap and each.mode == "r" and each.base is not None for each in maps
    )
    before = store.read(np.arange(12))
    shutil.rmtree(tmp_path / "s")  # what was opened stays readable
    for one, other in zip(before, store.read(np.arange(12)), strict=True):
        np.testing.assert_array_equal(one, other)


# --- outputs of a teacher -------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_logits_are_those_of_the_teacher_bit_for_bit(model, place, capsys):
    live = predict_logits(model, ROWS)
    np.testing.assert_array_equal(TeacherCache("off").logits(model, ROWS, "reads"), live)
    assert not place.exists()
    np.testing.assert_array_equal(TeacherCache().logits(model, ROWS, "reads"), live)
    (line,) = told(capsys)
    assert str(place) in line and "2.5 kB" in line and len(shards(place)) == 4
    before = [file.stat().st_ino for file in shards(place)]
    np.testing.assert_array_equal(TeacherCache().logits(model, ROWS, "reads"), live)
    assert told(capsys) == [] and [file.stat().st_ino for file in shards(place)] == before
    shards(place)[2].write_bytes(b"")
    np.testing.assert_array_equal(TeacherCache().logits(model, ROWS, "reads"), live)
    (line,) = told(capsys)
    assert "damaged (0 bytes" in line and "1 of 4" in line
    after = [file.stat().st_ino for file in shards(place)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True]


@pytest.mark.heavy
@pytest.mark.parametrize(("format", "bits"), [("fp16", 11), pytest.param("bf16", 8, marks=pytest.mark.slow)])
def test_features_are_those_of_the_teacher_rounded(model, place, format, bits):
    """And a subset in other batches reads the same."""
    names = wanted((*TERMS, Match(losses.patient, on="hidden_states", layers=((1, 1),))), model) | {"pooled": False}
    cache = TeacherCache("all", format)
    store = cache.features(model, ROWS, names, "reads")
    assert [(c.name, c.per, c.shape) for c in store.columns] == [
        ("attention_scores/1", "pair", (2,)),
        ("embeddings", "token", (8,)),
        ("hidden_states/1", "row", (1, 8)),
        ("hidden_states/2", "token", (8,)),
        ("pooled", "row", (8,)),
    ]
    (batch,) = dataset(Examples(ROWS.take(range(9)), stored=(store.take(np.arange(9)),)), 9)
    live, kept = features_of(model, batch["student"], model.offers, False), batch["teacher_features"]
    real = batch["student"]["padding_mask"].numpy()
    pairs = (real[:, None, :, None] * real[:, None, None, :]) + np.zeros((1, 2, 1, 1))
    for found, expected, mask in (
        (kept["hidden_states"]["2"], live.hidden_states[1], real[:, :, None]),
        (kept["embeddings"], live.embeddings, real[:, :, None]),
        (kept["attention_scores"]["1"], live.attention_scores[0], pairs),
        (kept["hidden_states"]["1"], live.hidden_states[0][:, :1], 1),
        (kept["pooled"], live.pooled, 1),
    ):
        # Rounding is half a unit in the last place; other batches differ in the last bits of float32.
        np.testing.assert_allclose(found, expected * mask, rtol=2.0**-bits * 1.01, atol=1e-6)
    assert cache.features(model, ROWS, names, "reads") is store  # checked once


@pytest.mark.heavy
def test_logits_of_tokens_are_kept_without_padding(place):
    tagger = tiny_bert(layers=1, outputs=4, task="token_classification")
    store = TeacherCache().stored_logits(tagger, ROWS, "reads")
    assert store.nbytes() == 4 * 4 * len(ROWS.token_ids) + 32 * len(store.parts)
    live = predict_logits(tagger, ROWS)
    for row, found in enumerate(store.read(np.arange(200))[0]):
        length = ROWS.lengths[row]
        np.testing.assert_array_equal(found[:length], live[row, :length])
        assert not found[length:].any()


def test_what_does_not_fit_is_refused(tmp_path):
    column = (Column("hidden_states/2", "token", (2,)),)
    for value, dtype, why in (
        (1e5, "float16", r"hidden_states/2 .*--cache-format bf16"),
        (np.nan, "bfloat16", "are NaN"),
    ):
        store = RowStore(tmp_path, "k", np.array([3, 1]), column, dtype)
        with pytest.raises(UserError, match=why):
            store.write(store.parts[0], [[np.full((2, 4, 2), value, "float32")]])
    store = RowStore(tmp_path, "k", np.array([3, 1]), column, "bfloat16")
    store.write(store.parts[0], [[np.full((2, 4, 2), 1e5, "float32")]])
    assert float(store.read(np.array([0]))[0][0, 0, 0]) == pytest.approx(1e5, rel=2e-3)
    with pytest.raises(UserError, match="--cache-format bf16"):
        TeacherCache("logits", "bf16")
    for options, named in ((("some",), "--teacher-cache some"), (("all", "fp8"), "--cache-format fp8")):
        with pytest.raises(UserError, match=named):
            TeacherCache(*options)


def test_the_key_is_of_all_that_the_outputs_depend_on(model):
    def key(teacher=model, rows=ROWS, columns=COLUMNS, dtype="float16", batch=32) -> str:
        return teacher_cache.cache_key(teacher, rows, columns, dtype, batch)

    def changed(name: str, place: int) -> Encoded:
        values = getattr(ROWS, name).copy()
        values[place] += 1
        return replace(ROWS, **{name: values})

    other = tiny_bert(layers=2)
    other.set_weights(model.get_weights())
    assert key(other) == key()
    weights = model.get_weights()
    weights[7].flat[3] = np.nextafter(weights[7].flat[3], 1e9)
    different = [
        key(rows=changed("token_ids", 11)),
        key(rows=changed("segment_ids", 11)),
        key(rows=changed("offsets", 5)),
    ]
    different += [key(rows=ROWS.take(range(199))), key(columns=COLUMNS[:2]), key(dtype="bfloat16"), key(batch=64)]
    other.config = replace(other.config, hidden_act="relu")
    different.append(key(other))
    other.config = model.config
    other.set_weights(weights)
    different.append(key(other))
    assert len({key(), *different}) == 1 + len(different)


# --- stops, full disks, other processes -----------------------------------------------------------------------------


class Killed(BaseException):
    """Ends all at once, as SIGKILL does."""


@pytest.mark.heavy
def test_goes_on_with_the_shards_that_are_there(model, place, monkeypatch, capsys):
    live, real, read = predict_logits(model, ROWS), RowStore.write, []

    def write(self, part, batches):
        if part.number == 2:
            (self.directory / ".00002.rows.xyz").write_bytes(b"half of it")
            raise Killed
        real(self, part, batches)

    monkeypatch.setattr(RowStore, "write", write)
    with pytest.raises(Killed):
        TeacherCache().logits(model, ROWS, "reads")
    assert [file.name for file in shards(place)] == ["00000.rows", "00001.rows"]
    monkeypatch.setattr(
        RowStore, "write", lambda self, part, batches: (read.append(part.number), real(self, part, batches))
    )
    capsys.readouterr()
    np.testing.assert_array_equal(TeacherCache().logits(model, ROWS, "reads"), live)
    (line,) = told(capsys)
    assert read == [2, 3] and "2 of 4" in line and not list(place.glob("*/.*"))


def test_a_disk_without_room_is_refused_before_anything_is_written(model, place, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda path: usage(10**6, 0, 2000))
    with pytest.raises(UserError, match=r"2\.5 kB in .*TFDISTILL_CACHE"):
        TeacherCache("cls").logits(model, ROWS, "reads")
    assert not shards(place)
    np.testing.assert_array_equal(TeacherCache().logits(model, ROWS, "reads"), predict_logits(model, ROWS))
    (line,) = told(capsys)
    assert "memory" in line and "2.5 kB" in line


@pytest.mark.heavy
def test_a_disk_that_fills_up_keeps_the_whole_shards(model, place, monkeypatch):
    real = os.fsync

    def fsync(handle):
        if shards(place):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"No space left on device.*TFDISTILL_CACHE"),
    ):
        patch.setattr(os, "fsync", fsync)
        TeacherCache().stored_logits(model, ROWS, "reads")
    assert len(shards(place)) == 1 and not list(place.glob("*/.*"))
    assert TeacherCache().stored_logits(model, ROWS, "reads").broken() == {}


@pytest.mark.heavy
def test_waits_for_another_process_and_takes_what_it_wrote(model, place, monkeypatch, capsys):
    first = TeacherCache().stored_logits(model, ROWS, "reads")
    content = first.path(first.parts[3]).read_bytes()
    first.path(first.parts[3]).unlink()

    def other() -> None:
        with FileLock(place / f".{first.directory.name}.lock"):
            held.set()
            time.sleep(0.3)
            first.path(first.parts[3]).write_bytes(content)

    held, thread = threading.Event(), threading.Thread(target=other)
    thread.start()
    held.wait()
    capsys.readouterr()
    monkeypatch.setattr(RowStore, "write", None)
    np.testing.assert_array_equal(TeacherCache().logits(model, ROWS, "reads"), predict_logits(model, ROWS))
    thread.join()
    (line,) = told(capsys)
    assert "another process writes" in line


@pytest.mark.heavy
def test_says_where_the_last_digits_may_differ(model, place, monkeypatch, capsys):
    TeacherCache().logits(model, ROWS, "reads")
    here = teacher_cache.made_on()
    monkeypatch.setattr(teacher_cache, "made_on", lambda: {**here, "threads": 99})
    capsys.readouterr()
    TeacherCache().logits(model, ROWS, "reads")
    (line,) = told(capsys)
    assert "threads is 99" in line


# --- runs -----------------------------------------------------------------------------------------------------------


def letters(rows: int) -> Split:
    random = np.random.default_rng(rows)
    texts = [" ".join(random.choice(list("abcdefg"), random.integers(2, 9))) for _ in range(rows)]
    return Split(texts, labels=np.array(["a" in text for text in texts]).astype("int64"))


@pytest.fixture(scope="module")
def base() -> tuple[Recipe, Prepared]:
    """A student of the teacher's first layer, and both their rows."""
    keras.utils.set_random_seed(0)
    teacher = tiny_bert(outputs=2, label_names=("no", "yes"))
    teacher.tokenizer = Tokenizer.from_directory(TINY)
    student = presets.student_from_layers(teacher, layers=[1])
    data = TextData("letters", {"train": letters(48), "dev": letters(8)}, ("no", "yes"))
    stage = Stage("layers", TERMS, epochs=2, batch_size=16, evaluations=3, learning_rate=1e-2, keep_best=False)
    made = Recipe("test", student, data, (stage,), teacher, max_length=12)
    return made, prepare(made, 1)


@pytest.fixture
def recipe(base):
    """Makes the recipe with other terms and options of its stage."""
    return lambda terms=TERMS, **options: replace(base[0], stages=(replace(base[0].stages[0], terms=terms, **options),))


@pytest.mark.heavy
def test_a_run_from_the_cache_is_that_of_the_live_teacher(base, place, monkeypatch):
    (made, prepared), cache = base, TeacherCache("all")
    start = made.student.get_weights()
    live = train(made, seed=1, prepared=prepared)
    made.student.set_weights(start)
    stage_examples(made, prepared, 0, teacher_plan(made, cache))
    files = {file: file.read_bytes() for file in shards(place)}
    assert len(files) == 1
    real = TextModel.features

    @wraps(real)
    def features(self, inputs, *args, **options):
        to_know_its_shapes = isinstance(inputs["token_ids"], np.ndarray)
        assert self is made.student or to_know_its_shapes, "the teacher was asked"
        return real(self, inputs, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TextModel, "features", features)
        cached = train(made, seed=1, prepared=prepared, plan=teacher_plan(made, cache))
    # float16 moves the teacher's numbers, of size 1, by up to 2^-12, and so a loss of 0.1, a mean of squares, by some 1e-4.
    assert len(live.curve) == len(cached.curve) == 3
    for one, other in zip(live.curve, cached.curve, strict=True):
        for term in TERMS:
            np.testing.assert_allclose(other[term.name], one[term.name], rtol=2e-3, atol=2e-4)
    # Found or mended it holds the same bits, and so it gives the same run.
    next(iter(files)).write_bytes(b"x")
    stage_examples(made, prepared, 0, teacher_plan(made, TeacherCache("all")))
    assert {file: file.read_bytes() for file in shards(place)} == files


PAIRS = Split(["ac a", "b c ca", "ab", "f aca b"], labels=np.array([0, 1, 0, 1]))
SOFT = Match(losses.soft_kl, options={"temperature": 2.0})
CLS = Match(losses.patient, on="hidden_states", layers=((1, 1),))


class Masked:
    masker = object()


@pytest.mark.parametrize(
    ("terms", "options", "level", "why"),
    [
        ((SOFT,), {}, "logits", ""),
        ((SOFT,), {}, "off", "its terms read logits; expected --teacher-cache logits"),
        ((SOFT, CLS), {}, "logits", "its terms read hidden_states/1; expected --teacher-cache cls"),
        ((SOFT, CLS), {}, "cls", ""),
        ((CLS, *TERMS), {}, "cls", "attention_scores/1, embeddings, hidden_states/1, .* expected --teacher-cache all"),
        ((CLS, *TERMS), {}, "all", ""),
        ((HardLabels(),), {}, "off", ""),
        ((SOFT,), {"train_teacher": True}, "all", "teacher is trained"),
        ((SOFT,), {"source": Masked()}, "all", "masked"),
        ((SOFT,), {"source": object.__new__(MixedSequences)}, "all", "segmented"),
        ((SOFT,), {"source": object()}, "all", "plain text"),
        ((SOFT,), {"teacher": object()}, "all", "teacher of its own"),
    ],
)
def test_says_why_a_stage_asks_the_teacher_in_each_step(recipe, terms, options, level, why):
    made = recipe(terms, **options)
    if level not in ("cls", "all") or not (why or terms == (HardLabels(),)):
        found = teacher_plan(made, TeacherCache(level)).stages[0].reason
        assert re.search(why, found) if why else found == ""
        return
    with pytest.raises(UserError, match=f"--teacher-cache {level}.*'layers': .*{why}"):
        teacher_plan(made, TeacherCache(level))
    second = replace(
        made, stages=(*made.stages, replace(made.stages[0], name="b", terms=(SOFT,), **dict.fromkeys(options)))
    )
    if not options:
        reasons = [reads.reason for reads in teacher_plan(second, TeacherCache(level)).stages]
        assert re.search(why, reasons[0]) and not reasons[1]


@pytest.mark.heavy
def test_the_plan_decides_what_a_stage_reads(base, recipe, place):
    both = (SOFT, CLS)
    for level, features, columns in (("logits", [], []), ("cls", ["logits"], ["hidden_states/1"])):
        made = recipe(both)
        examples = stage_examples(made, base[1], 0, teacher_plan(made, TeacherCache(level)))
        assert list(examples.teacher_features) == features
        assert [c.name for store in examples.stored for c in store.columns] == columns
    assert len(shards(place)) == 2
    shutil.rmtree(place)
    training_logits(recipe((SOFT,), train_teacher=True), base[1], TeacherCache())
    assert not place.exists()  # the logits of a teacher that is trained are of no use to other runs


@pytest.mark.slow
def test_features_of_other_pieces_are_aligned_with_the_students(base, recipe):
    student = tiny_bert(layers=1, outputs=2, label_names=("no", "yes"))
    student.tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"gfedca", "##a", "##c", "b"])
    made = replace(recipe(), student=student, data=replace(base[0].data, splits=dict.fromkeys(("train", "dev"), PAIRS)))
    prepared, distiller, found = prepare(made, 0), Distiller(student, made.teacher, TERMS), []
    assert not np.array_equal(prepared.train.encoded.lengths, prepared.read_by(made, made.teacher).lengths)
    for cache in (TeacherCache("off"), TeacherCache("all")):
        examples = stage_examples(made, prepared, 0, teacher_plan(made, cache))
        assert len(examples.stored) == (cache.level == "all") and examples.teacher is not None
        (batch,) = dataset(examples, 4, shuffle=False)
        step = distiller.forward(batch, None, training=False)
        found.append([term(step) for term in TERMS])
    np.testing.assert_allclose(found[1], found[0], rtol=2e-3)


def test_a_run_goes_on_with_the_same_cache_only(recipe, tmp_path, monkeypatch):
    def fails(*args, **options):
        raise DivergedError(1, "loss")

    made = recipe()
    monkeypatch.setattr("tfdistill.training.run_directory.train", fails)
    for cache in (None, TeacherCache("logits")):  # the default
        with pytest.raises(DivergedError):
            run(made, tmp_path / "run", teacher_cache=cache)
    with pytest.raises(UserError, match="teacher_cache"):
        run(made, tmp_path / "run", teacher_cache=TeacherCache("all"))
    with pytest.raises(UserError, match="--teacher-cache cls"):
        run(made, tmp_path / "new", teacher_cache=TeacherCache("cls"))
    assert not (tmp_path / "new").exists()
