"""One process at a time."""

import threading
import time

import pytest
from filelock import FileLock

from tfdistill.errors import UserError
from tfdistill.system.files import LOCK
from tfdistill.system.locks import lock_beside, locked


def test_a_second_process_is_refused_in_one_line(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    refused = pytest.raises(UserError, match=r"trains into .*out.*`--out`")
    with FileLock(out / LOCK), refused as error, locked(out / LOCK, f"trains into {out}"):
        pass
    assert "\n" not in str(error.value)


def test_the_lock_makes_the_directory_and_leaves_nothing(tmp_path):
    with locked(tmp_path / "out" / LOCK, "works"):
        assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]
    assert list((tmp_path / "out").iterdir()) == []


def test_the_lock_is_released_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / LOCK, "works"):
            raise ZeroDivisionError


def test_waiting_prints_a_line_and_goes_in_afterwards(tmp_path, capsys):
    other = FileLock(lock_beside(tmp_path / "entry"))
    other.acquire()
    began = []

    def wait():
        with locked(lock_beside(tmp_path / "entry"), "writes entry", wait=True):
            began.append(other.is_locked)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    assert not began
    other.release()
    thread.join(timeout=10)
    assert began == [False] and "writes entry" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file.*`--out`"), locked(tmp_path / "file" / "out" / LOCK, "works"):
        pass
