"""Directories that are replaced as a whole, or not at all."""

import errno
import os

import pytest

from tfdistill.errors import UserError
from tfdistill.system.files import atomic_directory


@pytest.fixture
def place(tmp_path):
    with atomic_directory(tmp_path / "place") as directory:
        (directory / "a").write_text("old")
    return tmp_path / "place"


def test_the_old_one_goes_when_the_new_one_is_whole(place):
    with atomic_directory(place) as directory:
        (directory / "b").write_text("new")
    assert [path.name for path in place.iterdir()] == ["b"] and os.listdir(place.parent) == ["place"]


def test_an_error_leaves_the_old_one(place):
    with pytest.raises(ZeroDivisionError), atomic_directory(place) as directory:
        (directory / "b").write_text("half")
        raise ZeroDivisionError
    assert (place / "a").read_text() == "old" and os.listdir(place.parent) == ["place"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_move_that_fails_leaves_the_old_one(place, monkeypatch, failing):
    calls, real = [], os.replace

    def replace(*paths):
        calls.append(paths)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    with (
        pytest.raises(UserError, match=r"cannot write .*place: No space left on device"),
        atomic_directory(place) as made,
    ):
        (made / "b").write_text("new")
    monkeypatch.undo()
    assert (place / "a").read_text() == "old" and os.listdir(place.parent) == ["place"]


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file; expected a directory"), atomic_directory(tmp_path / "file"):
        pass
