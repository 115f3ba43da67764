"""Checkpoints on disk: kept, damaged, unreadable, on a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from stopped_runs import cut, flip

from tfdistill.errors import UserError
from tfdistill.training import checkpoint
from tfdistill.training.checkpoint import Checkpoints, groups_of


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


def test_run_json_is_the_last_that_goes(tmp_path, monkeypatch):
    for name in ("run.json", "a", "z"):
        (tmp_path / name).touch()
    gone = []
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: gone.append(path.name))
    checkpoint.clear(tmp_path)
    assert sorted(gone[:2]) == ["a", "z"] and gone[2:] == ["run.json"]
