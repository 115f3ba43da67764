"""Files and directories that are written whole or not at all, JSON, and free output directories."""

import errno
import os

import pytest

from tfdistill.errors import UserError
from tfdistill.system.files import LOCK, atomic_directory, atomic_file, atomic_write, is_free, read_json, require_new


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
        pytest.raises(UserError, match=r"place: No space left on device"),
        atomic_directory(place) as made,
    ):
        (made / "b").write_text("new")
    monkeypatch.undo()
    assert (place / "a").read_text() == "old" and os.listdir(place.parent) == ["place"]


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file"), atomic_directory(tmp_path / "file"):
        pass


def test_an_error_leaves_the_old_file(tmp_path):
    path = atomic_write(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    atomic_write(path, b"new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o644 and os.listdir(tmp_path) == ["file"]


def test_a_full_disk_names_the_file(tmp_path):
    with (
        pytest.raises(UserError, match=r"file: No space left.*TFDISTILL_CACHE"),
        atomic_file(tmp_path / "file", "set TFDISTILL_CACHE"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_reading_an_object(tmp_path):
    (tmp_path / "a.json").write_text('{"text": "ä"}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", "") == {"text": "ä"}


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[1]", b"null", b'"text"', b'{"a": "\xe4"}', b"[" * 100_000],
    ids=lambda c: str(c)[:10],
)
def test_what_is_not_a_json_object(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json.*Fetch it again\.$") as error:
        read_json(tmp_path / "a.json", "fetch it again")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "free"),
    [(None, True), ([], True), ([LOCK], True), ([LOCK, ".old"], True), (["a"], False), ([".new"], False)],
)
def test_a_free_directory(tmp_path, names, free):
    out = tmp_path / "out"
    if names is not None:
        out.mkdir()
        for name in names:
            (out / name).touch()
    assert is_free(out, lambda name: name == ".old") == free


def test_a_taken_directory(tmp_path):
    (tmp_path / "run.json").touch()
    require_new(tmp_path / "new")
    require_new(tmp_path, former="run.json")
    for place, former in [(tmp_path, None), (tmp_path, "config.json"), (tmp_path / "run.json", "run.json")]:
        with pytest.raises(UserError, match=str(place)):
            require_new(place, former)
