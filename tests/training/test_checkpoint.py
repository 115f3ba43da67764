"""Runs that are stopped go on exactly where they were; what is damaged, full, locked or read-only loses nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from filelock import FileLock
from helpers import mirrored

from tfdistill.compress.layerdrop import keep_layers
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import DivergedError, UserError
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find, finetune
from tfdistill.system.reproducibility import reproducible
from tfdistill.system.signals import (
    deferred_signals,
    exits_on_signals,
    raise_if_signalled,
    signal_received,
    signals_over_errors,
)
from tfdistill.training import callbacks, checkpoint, runner
from tfdistill.training.callbacks import Bookkeeper
from tfdistill.training.checkpoint import Checkpoints, groups_of
from tfdistill.training.evaluation import evaluate
from tfdistill.training.recipe import Recipe
from tfdistill.training.run_directory import run
from tfdistill.training.settings import parse_settings

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
KILLS, STAGES = (int(os.environ.get(name, default)) for name, default in (("KILLS", "1"), ("STAGES", "2")))


class Killed(BaseException):
    """Ends a run at once, as SIGKILL does: nothing in the library catches it."""


# --- the files ------------------------------------------------------------------------------------------------------


def written(directory: Path, count: int, **options) -> Checkpoints:
    store = Checkpoints(directory / "resume", "identity", **options)
    for number in range(1, count + 1):
        assert store.write(
            {"step": number}, {"a/0": np.full(3, number, "float32"), "a/1": np.array(7)}, f"step {number}"
        )
    return store


def test_a_checkpoint_gives_back_what_was_written(tmp_path):
    written(tmp_path, 1)
    state, arrays = Checkpoints(tmp_path / "resume", "identity").read()
    assert state["step"] == 1
    (first, second) = groups_of(arrays)["a"]
    np.testing.assert_array_equal(first, np.ones(3, "float32"))
    assert second.shape == () and second == 7


def test_the_last_ones_stay(tmp_path):
    written(tmp_path, 5, keep=3)
    assert sorted(path.name for path in (tmp_path / "resume").iterdir()) == ["000003", "000004", "000005"]


def cut(path: Path) -> None:
    file = path / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip(path: Path, name: str, place: int) -> None:
    content = bytearray((path / name).read_bytes())
    content[place] ^= 4
    (path / name).write_bytes(content)


DAMAGES = {
    "arrays cut": cut,
    "bit of the arrays": lambda path: flip(path, "arrays.safetensors", -5),
    "bit of the header": lambda path: flip(path, "arrays.safetensors", 12),
    "bit of the state": lambda path: flip(path, "state.json", 90),
    "bit of the checksum": lambda path: flip(path, "state.json", 3),
    "no state": lambda path: (path / "state.json").unlink(),
    "no arrays": lambda path: (path / "arrays.safetensors").unlink(),
    "empty state": lambda path: (path / "state.json").write_bytes(b""),
    "a file": lambda path: (shutil.rmtree(path), path.write_text("x")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_skipped_for_the_one_before(tmp_path, capsys, damage):
    written(tmp_path, 2)
    DAMAGES[damage](tmp_path / "resume" / "000002")
    store = Checkpoints(tmp_path / "resume", "identity")
    state, _ = store.read()
    assert state["step"] == 1 and store.last == "step 1"
    (line,) = capsys.readouterr().err.splitlines()
    assert "000002" in line
    assert Checkpoints(tmp_path / "resume", "identity").read()[0]["step"] == 1  # said once only
    assert not capsys.readouterr().err


def test_those_of_another_run_are_not_read(tmp_path, capsys):
    written(tmp_path, 2)
    assert Checkpoints(tmp_path / "resume", "another").read() is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "000002" in lines[0] and "000001" in lines[1]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("place", ["sha256", "load_file", "iterdir"])
def test_what_cannot_be_read_just_now_is_left_alone(tmp_path, capsys, monkeypatch, number, place):
    written(tmp_path, 2)
    before = sorted((tmp_path / "resume").rglob("*"))

    def broken(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path if place == "iterdir" else checkpoint, place, broken)
        with pytest.raises(UserError, match=os.strerror(number)) as told:
            Checkpoints(tmp_path / "resume", "identity").read()
    assert "\n" not in str(told.value) and not capsys.readouterr().err
    assert sorted((tmp_path / "resume").rglob("*")) == before
    assert Checkpoints(tmp_path / "resume", "identity").read()[0]["step"] == 2


def test_a_full_disk_is_said_once_and_the_older_ones_make_room(tmp_path, capsys, monkeypatch):
    store = written(tmp_path, 2)
    real, full = checkpoint.save_file, True

    def save_file(arrays, path):
        if full and len(list((tmp_path / "resume").glob("0*"))) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(arrays, path)

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    capsys.readouterr()
    room = 1  # for one beside the new one
    assert store.write({"step": 3}, {}, "step 3") and store.read()[0]["step"] == 3
    assert not capsys.readouterr().err
    room = 0
    assert not store.write({"step": 4}, {}, "step 4") and not store.write({"step": 5}, {}, "step 5")
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left" in line and "step 3" in line and store.read()[0]["step"] == 3
    full = False
    assert store.write({"step": 6}, {}, "step 6") and store.read()[0]["step"] == 6
    assert "step 6" in capsys.readouterr().err
    assert not list((tmp_path / "resume").glob(".*"))


def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch):
    store = written(tmp_path, 1, seconds=1000.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert store.write({"step": 2}, {}, "step 2") and not store.due
    os.utime(tmp_path / "resume" / "000001", (2**33, 2**33))
    monkeypatch.setattr(time, "time", lambda: 2.0**33)
    assert not store.due and Checkpoints(tmp_path / "resume", "identity").read()[0]["step"] == 2
    assert Checkpoints(tmp_path, "identity", seconds=0.0).due


def test_checkpoints_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    store = Checkpoints(tmp_path / "resume", "identity")
    assert store.cheap  # the first
    real = store._write

    def slow(*args):
        nonlocal now
        real(*args)
        now += 2.0

    monkeypatch.setattr(store, "_write", slow)
    store.write({}, {}, "step 1")
    now += 39.0
    assert not store.cheap and not store.due
    now += 1.0
    assert store.cheap and not store.due
    now += 260.0
    assert store.due


# --- runs -----------------------------------------------------------------------------------------------------------


def data(rows: int = 40) -> TextData:
    """Texts of letters; the class says whether 'a' is among them."""
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = random.integers(0, 2, count)
        texts = [" ".join([*random.choice(list("bcdefg"), random.integers(2, 6)), "ha"[label]]) for label in labels]
        return Split(texts, labels=labels.astype("int64"))

    return TextData("letters", {"train": split(rows), "dev": split(16), "test": split(8)}, ("no", "yes"))


def tiny(layers: int = 1) -> TextModel:
    """Always the same one, with dropout."""
    keras.utils.set_random_seed(1)
    model = load_directory(TINY, num_outputs=2, label_names=("no", "yes"))
    return keep_layers(model, range(1, layers + 1)) if layers < 3 else model


def make(epochs: float = 2, **changes) -> Recipe:
    """The quickest run: 10 steps with a scoring after each fifth."""
    settings = finetune.Settings(max_length=12, batch_size=8, epochs=epochs, learning_rate=1e-2, evaluations=2)
    return replace(finetune.recipe(tiny(), data(), settings), **changes)


def stopped(monkeypatch, out: Path, recipe: Recipe, stage: int, step: int, by=Killed, scoring: bool = False, **options):
    """Train into `out` until `step` of `stage`, or (`scoring`) into the scoring of that number."""

    books = []

    class Stopping(Bookkeeper):
        def begin(self, *args):
            books.append(self)
            return super().begin(*args)

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if not scoring and (self.state.stage, self.state.step) == (stage, step):
                raise by()

    def stopping(*args):
        result = evaluate(*args)
        state = books[-1].state
        if scoring and (state.stage, state.progress.rounds + 1) == (stage, step):
            raise by()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(runner, "Bookkeeper", Stopping)
        patch.setattr(callbacks, "evaluate", stopping)
        with pytest.raises(by):
            run(recipe, out, seed=1, **{"checkpoint_seconds": 0.0, **options})


def same(one: TextModel, other: TextModel) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run: its directory and what it gave."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, run(make(), out, seed=1)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The same run, stopped by Ctrl-C in the middle of the second round."""
    out = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, out, make(), 0, 7, by=KeyboardInterrupt, checkpoint_seconds=1000.0)
    return out


def test_ctrl_c_is_gone_on_from_even_where_the_disk_is_full(whole, half, tmp_path, capsys, monkeypatch):
    assert json.loads((half / "run.json").read_text("utf-8"))["state"] == "interrupted"
    assert load(half / "checkpoint").num_layers == 1
    assert json.loads((half / "resume" / "000002" / "state.json").read_text("utf-8").partition("\n")[2])["step"] == 7
    out = shutil.copytree(half, tmp_path / "run")
    (out / ".run.json.x1").write_text("{")  # what a process left that was killed while it wrote
    (out / "resume" / ".000003.x2").mkdir()
    random = make()
    random.student.set_weights([weight + 1 for weight in random.student.get_weights()])

    def save_file(arrays, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    result = run(random, out, seed=1, resume=True, checkpoint_seconds=0.0)
    assert same(result.student, whole[1].student) and result.curve == whole[1].curve
    assert result.scores == whole[1].scores
    lines = [line for line in capsys.readouterr().err.splitlines() if "No space" in line]
    assert len(lines) == 1
    assert sorted(path.name for path in out.iterdir()) == ["log.jsonl", "run.json", "student"]
    done = json.loads((out / "run.json").read_text("utf-8"))
    assert done["resumed_from"] == ["step 7 of 'labels'"] and done["reproducible"]["bit_for_bit"] is True


@pytest.mark.slow  # killed.py does it too
def test_what_was_damaged_is_done_again(whole, half, tmp_path, capsys):
    out = shutil.copytree(half, tmp_path / "run")
    flip(out / "resume" / "000002", "arrays.safetensors", -5)
    result = run(make(), out, seed=1)  # goes on by itself: the recipe is the same
    assert "000002" in capsys.readouterr().err
    assert same(result.student, whole[1].student) and result.curve == whole[1].curve


def test_other_devices_are_said_and_end_the_bit_for_bit(half, whole, tmp_path, capsys, monkeypatch):
    first = json.loads((whole[0] / "run.json").read_text("utf-8"))["reproducible"]
    assert (first["strategy"], first["replicas"], first["bit_for_bit"]) == ("one", 1, True) and "changed" not in first
    out = shutil.copytree(half, tmp_path / "run")
    said = json.loads((out / "run.json").read_text("utf-8"))
    said["reproducible"] |= {"strategy": "mirrored", "replicas": 2, "needs": "what an older version said"}
    (out / "run.json").write_text(json.dumps(said), "utf-8")
    capsys.readouterr()
    stopped(monkeypatch, out, make(), 0, 8)
    told = [line for line in capsys.readouterr().err.splitlines() if "since the run began" in line]
    assert len(told) == 1 and "strategy" in told[0] and "replicas" in told[0]
    run(make(), out, seed=1)  # goes on once more, with nothing new to say
    assert "since the run began" not in capsys.readouterr().err
    now = json.loads((out / "run.json").read_text("utf-8"))["reproducible"]
    assert (now["strategy"], now["replicas"], now["bit_for_bit"]) == ("one", 1, False)
    assert [change.partition(" ")[0] for change in now["changed"]] == ["strategy", "replicas"]


def test_two_devices_are_noted():
    with mirrored().scope():
        now = reproducible()
    assert (now["strategy"], now["replicas"]) == ("mirrored", 2)


def test_a_run_that_is_done_is_not_run_again(whole, capsys, monkeypatch):
    monkeypatch.setattr(runner, "prepare", None)
    again = run(make(), whole[0], seed=1)
    assert "it is done" in capsys.readouterr().err
    assert same(again.student, whole[1].student) and again.scores == whole[1].scores
    assert again.curve == whole[1].curve


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (lambda: {"settings": {"epochs": 3}}, {}, r"settings\.epochs is 3"),
        (lambda: {"max_length": 13}, {}, "max_length is 13"),
        (lambda: {"data": data(41)}, {}, r"data\.fingerprint"),
        (lambda: {}, {"seed": 2}, "seed is 2"),
        (lambda: {}, {"debug": True}, "debug is true"),
        (lambda: {"student": tiny(2)}, {}, r"weights\.student is .*--resume"),
    ],
)
def test_another_recipe_is_refused_with_the_difference(half, change, options, told):
    before = sorted(half.rglob("*"))
    with pytest.raises(UserError, match=f"{told}.*--force"):
        run(make(**change()), half, **{"seed": 1, **options})
    assert sorted(half.rglob("*")) == before


def test_a_worker_with_another_command_than_the_first_ones_ends(half, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tfdistill.training.run_directory.is_chief", lambda: False)
        with pytest.raises(UserError, match="seed is 2"):
            run(make(), half, seed=2)


def test_other_weights_of_teachers_or_another_config_are_another_run(tmp_path, monkeypatch):
    def soft(weights, dropout=0.1) -> Recipe:
        teacher = tiny(1)
        settings = parse_settings(find("soft_targets").Settings, ["num_layers=1", f"dropout={dropout}"])
        made = find("soft_targets").recipe(teacher, data(), settings)
        return replace(made, other_teachers=(tiny(2),), teacher_weights=weights)

    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(soft((2.0, 1.0)), tmp_path / "run")
    with pytest.raises(UserError, match=r"teacher_weights\.0 is 1\.0"):
        run(soft(None), tmp_path / "run")
    with pytest.raises(UserError, match=r"settings\.dropout is 0\.2.*weights\.student is"):
        run(soft((2.0, 1.0), 0.2), tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        run(soft((2.0, 1.0)), tmp_path / "run")


def test_what_is_no_run_is_refused(tmp_path):
    recipe = make()
    with pytest.raises(UserError, match="--resume"):
        run(recipe, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=str(tmp_path)):
        run(recipe, tmp_path, force=True)
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / ".lock").exists()
    for content in ("{", "[]", "{}"):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run\.json"):
            run(recipe, tmp_path)
    with pytest.raises(UserError, match=r"recipe is .*more"):
        (tmp_path / "run.json").write_text('{"recipe": "pretrain", "state": "done"}')
        run(recipe, tmp_path)


def test_two_processes_do_not_train_into_one_directory(half):
    with FileLock(half / ".lock"), pytest.raises(UserError, match="another process trains into"):
        run(make(), half, seed=1)


def test_a_run_killed_at_its_first_write_begins_again(tmp_path, monkeypatch):
    """The lock and a file that never got its name are no other run."""
    out = tmp_path / "run"
    out.mkdir()
    for name in (".lock", ".run.json.a1b2c3d4"):
        (out / name).touch()
    seen = []
    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: seen.append(args) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(make(), out, seed=1)
    assert seen and {path.name for path in out.iterdir()} == {"run.json"}
    (out / "run.json").unlink()
    (out / "thesis.docx").touch()
    with pytest.raises(UserError, match=str(tmp_path)):
        run(make(), out, seed=1)


def test_what_the_clock_decides_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(make(breaks=("its masked LM was trained by the clock",)), tmp_path / "run")
    said = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["reproducible"]
    assert said["bit_for_bit"] is False and "its masked LM was trained by the clock" in said["breaks"]


def test_run_json_is_the_last_that_goes(tmp_path, monkeypatch):
    for name in ("run.json", "a", "z"):
        (tmp_path / name).touch()
    gone = []
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: gone.append(path.name))
    checkpoint.clear(tmp_path)
    assert sorted(gone[:2]) == ["a", "z"] and gone[2:] == ["run.json"]


def test_force_starts_anew(half, tmp_path, monkeypatch):
    out = shutil.copytree(half, tmp_path / "run")

    def train(*args, checkpoints, **options):
        assert checkpoints.read() is None and [path.name for path in out.iterdir() if path.name != ".lock"] == [
            "run.json"
        ]
        raise DivergedError(1, "loss")

    monkeypatch.setattr("tfdistill.training.run_directory.train", train)
    with pytest.raises(DivergedError):
        run(make(), out, seed=1, force=True)


def test_other_training_rows_are_refused(half, tmp_path):
    out = shutil.copytree(half, tmp_path / "run")
    with pytest.raises(UserError, match="training examples"):
        run(make(augment=lambda split, seed: split.take(range(3))), out, seed=1)


READ_ONLY = """
import os, sys
sys.path.insert(0, sys.argv[1])
import test_checkpoint
recipe = test_checkpoint.make()
if os.geteuid() == 0:  # root may write anywhere, nobody may not
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    test_checkpoint.run(recipe, sys.argv[2], seed=1)
except test_checkpoint.UserError as error:
    print(os.geteuid(), error)
"""


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False], ids=["a run", "no run"])
def test_a_read_only_directory_is_refused(half, there):
    """In a process of its own, which is root's no more."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own are for the user alone
        os.chmod(place, 0o755)
        out = Path(place) / "run"
        if there:
            shutil.copytree(half, out)
            out.chmod(0o555)
        else:
            os.chmod(place, 0o555)
        before = contents(Path(place))
        words = [sys.executable, "-c", READ_ONLY, Path(__file__).parents[1], out]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        (line,) = done.stdout.splitlines()
        told = f"cannot write in {out}" if there else f"cannot create {out}: Permission denied"
        assert told in line and not line.startswith("0 ")
        assert contents(Path(place)) == before and out.exists() == there
        for folder in (place, out):
            if Path(folder).exists():
                os.chmod(folder, 0o755)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("there is no mount")
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, room: int) -> Path:
    """Leave so many bytes of a disk."""
    state = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - room))
    return disk / "filler"


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(whole, half, small_disk, capsys):
    out = shutil.copytree(half, small_disk / "run")
    shutil.rmtree(out / "resume" / "000001")  # so that no older checkpoint makes room
    filler = fill(small_disk, 0)
    before = contents(out)
    with pytest.raises(UserError, match=r"run\.json: No space left on device"):
        run(make(), out, seed=1)
    assert contents(out) == before
    filler.unlink()

    filler = fill(small_disk, 12_288)  # for run.json and the log, neither for a checkpoint nor for the student
    capsys.readouterr()
    with pytest.raises(UserError, match=r"student.*: No space left on device"):
        run(make(), out, seed=1, checkpoint_seconds=0.0)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "No space left" in line]
    assert "No space left on device" in line and "step 7 of 'labels'" in line
    assert [path.name for path in (out / "resume").iterdir()] == ["000002"] and not (out / "student").exists()
    filler.unlink()

    result = run(make(), out, seed=1)
    assert "resuming from step 7" in capsys.readouterr().err
    assert same(result.student, whole[1].student) and result.curve == whole[1].curve
    assert sorted(path.name for path in out.iterdir()) == ["log.jsonl", "run.json", "student"]


@pytest.mark.slow
def test_a_disk_that_can_only_be_read_is_refused(half, small_disk):
    """Also to root."""
    out = shutil.copytree(half, small_disk / "run")
    before = contents(out)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=r"cannot write in .*`--out`"):
        run(make(), out, seed=1)
    with pytest.raises(UserError, match=r"cannot create .*Read-only file system"):
        run(make(), small_disk / "other", seed=1)
    assert contents(out) == before


# --- exactly, whatever the recipe -----------------------------------------------------------------------------------

BOTH = ["student=layers", "copies=1", "transformer.epochs=1"]
PLAIN = ["general.length=12", "general.batch_size=4", "general.epochs=1", "epochs=1", "evaluations=2"]
DUAL = ["general.width=8", "general.vocab_size=24", "general.mixed_epochs=1"]
# Recipe, settings, and where it is stopped: stage, step or number of the scoring, whether it is a scoring.
EXACT = {
    "projections, in a round": ("tinybert", [*BOTH, "transformer.projection=per_layer"], (0, 2, False)),
    "projections, stage change": ("tinybert", [*BOTH, "transformer.projection=shared"], (0, 3, True)),
    "shared steps": ("xtremedistil", ["embedding_size=8", "lstm_size=6", "patience=1"], (2, 3, False)),
    "own loss on dev": ("xtremedistil", ["embedding_size=8", "lstm_size=6", "patience=9"], (0, 2, True)),
    "progressive": ("mobilebert", ["schedule=progressive", "transfer.epochs=1"], (1, 3, False)),
    "layers left out, cut": ("layerdrop", ["depth=1"], (0, 4, False)),
    "pruned before": ("neuron_pruning", ["steps=2", "intermediate=0.5"], (1, 1, False)),
    "heads": ("head_pruning", ["epochs=1", "share=0.0", "step=0.25"], (0, 4, False)),
    "own student": ("distilbert", [*PLAIN, "soft_weight=0.5"], (0, 3, False)),
    "own student, next stage": ("distilbert", [*PLAIN], (1, 2, False)),
    "trained teacher": ("dualtrain_sharedproj", [*PLAIN, *DUAL], (1, 3, False)),
}  # fmt: skip


@pytest.fixture
def text_file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    sentences = [" ".join(random.choice(list("abcdefgh"), 9)).capitalize() + "." for _ in range(120)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join("\n".join(sentences[n : n + 4]) + "\n" for n in range(0, 120, 4)), "utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT)
def test_goes_on_exactly(case, tmp_path, text_file, monkeypatch):
    name, settings, (stage, step, scoring) = EXACT[case]
    if "general.length=12" in settings:
        keras.utils.set_random_seed(2)
        save_directory(load_directory(TINY, task="masked_lm"), tmp_path / "general")
        settings = [*settings, f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}"]
    defaults = ["max_length=12", "batch_size=8", "epochs=2", "evaluations=3", "learning_rate=1e-3"]
    given = {setting.partition("=")[0] for setting in settings}
    settings = [*(each for each in defaults if each.partition("=")[0] not in given), *settings]

    def made() -> Recipe:
        teacher, module = tiny(2), find(name)
        return module.recipe(teacher, data(), parse_settings(module.Settings, settings))

    undisturbed = run(made(), tmp_path / "whole", seed=1)
    stopped(monkeypatch, tmp_path / "run", made(), stage, step, by=SystemExit if scoring else Killed, scoring=scoring)
    result = run(made(), tmp_path / "run", seed=1)
    assert result.curve == undisturbed.curve and result.scores == undisturbed.scores
    assert same(result.student, undisturbed.student)
    assert all(same(small.student, undisturbed.cut[key].student) for key, small in result.cut.items())


# --- processes ------------------------------------------------------------------------------------------------------


def test_sigterm_ends_a_process_that_is_in_native_code():
    code = (
        "import hashlib\nfrom tfdistill.system.signals import exits_on_signals\n"
        "with exits_on_signals(grace=0.3):\n  print('on', flush=True)\n  hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"on\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143 and b"last checkpoint" in err and err.count(b"\n") == 1


@pytest.fixture
def ctrl_c():
    """Heard, as in a terminal; what a shell starts in the background ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_stays_ignored_where_it_was(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with exits_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_is_only_noted_waits_for_the_end(ctrl_c, number, expected):
    """What workers that stop together need. What an error after it is taken for does not wait."""
    reached = []
    with pytest.raises(expected), exits_on_signals(), deferred_signals():
        assert not signal_received()
        os.kill(os.getpid(), number)
        raise_if_signalled()
        assert signal_received()
        reached.append("end")
    assert reached == ["end"] and not signal_received()
    with pytest.raises(expected), exits_on_signals(), deferred_signals(), signals_over_errors():
        os.kill(os.getpid(), number)
        raise ValueError("what native code made of it")
    with pytest.raises(expected), exits_on_signals(), deferred_signals():
        os.kill(os.getpid(), number)
        raise_if_signalled(now=True)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("lost", [False, True], ids=["another error", "no error"])
def test_a_signal_that_native_code_turns_into(ctrl_c, whole, lost, number, expected, tmp_path, monkeypatch):
    """What tracing made of SystemExit in the CI once: a SystemError, and a run that said it had failed."""

    def step(self, *_, **__):
        if self.state.step == 2 and not sent:
            try:
                sent.append(os.kill(os.getpid(), number))
                time.sleep(5)
            except BaseException:
                if not lost:
                    raise SystemError("bad argument to internal function") from None

    sent: list = []
    monkeypatch.setattr(Bookkeeper, "on_train_batch_begin", step)
    with pytest.raises(expected) as caught, exits_on_signals():
        run(make(), tmp_path / "run", seed=1)
    assert expected is KeyboardInterrupt or caught.value.code == 143
    monkeypatch.undo()
    assert json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["state"] == "interrupted"
    assert (
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        and signal.getsignal(signal.SIGINT) == signal.default_int_handler
    )
    again = run(make(), tmp_path / "run", seed=1)  # nothing is left of it
    assert same(again.student, whole[1].student)


@pytest.mark.parametrize("stages", [STAGES, pytest.param(0, marks=pytest.mark.slow)], ids=["train", "pretrain"])
def test_killed_at_random_moments(tmp_path, stages):
    """And at each change of the stage. `make torture` kills a run of three stages, and a pre-training, twenty times each."""
    words = [sys.executable, Path(__file__).parents[1] / "killed.py", tmp_path / "work", KILLS, 41, stages]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120 * (KILLS + 4))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert f"{KILLS} kills" in done.stdout and "all alike" in done.stdout
    for stage in range(2, stages + 1):
        assert f"killed at the first checkpoint of stage {stage}; newest: " in done.stdout
