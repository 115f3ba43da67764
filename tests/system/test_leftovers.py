"""Test that what killed processes leave is removed, and what living ones write is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfdistill.system.leftovers import is_leftover, sweep

# Writes in all three ways, says so, and waits to be killed or to be let go.
WRITER = """
import sys
from pathlib import Path
from tfdistill.system.files import atomic_directory, atomic_file
from tfdistill.system.leftovers import temporary_directory

with temporary_directory("bundle") as work, atomic_directory("OUT") as out, atomic_file("page.html") as page:
    for place in (work / "model.bin", out / "model.bin", page):
        place.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""
# Is killed between the two renames that replace a directory.
REPLACER = """
import os, signal
from tfdistill.system.files import atomic_directory

def replace(source, target, real=os.replace):
    real(source, target)
    os.kill(os.getpid(), signal.SIGKILL)

with atomic_directory("OUT") as out:
    (out / "new.txt").write_text("new")
    os.replace = replace
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script], cwd=folder, env=environment, **pipes)  # type: ignore[call-overload]


def left(folder: Path) -> list[str]:
    return sorted(path.name.split(".tmp-")[0] for place in (folder, folder / "tmp") for path in place.glob("*.tmp-*"))


@pytest.mark.heavy
def test_only_what_killed_processes_left_is_removed(tmp_path):
    with start(WRITER, tmp_path) as killed, start(WRITER, tmp_path) as living:
        for process in (killed, living):
            assert process.stdout is not None and process.stdout.readline() == "writing\n"
        killed.kill()
        killed.wait()
        assert left(tmp_path) == [".OUT", ".OUT", ".page.html", ".page.html", "tfdistill-bundle", "tfdistill-bundle"]
        environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
        command = [sys.executable, "-m", "tfdistill", "--version"]  # any next command
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert left(tmp_path) == [".OUT", ".page.html", "tfdistill-bundle"]
        living.communicate("go on\n")
    assert living.returncode == 0 and left(tmp_path) == []
    assert (tmp_path / "OUT" / "model.bin").read_text() == (tmp_path / "page.html").read_text() == "half"


@pytest.mark.heavy
def test_a_directory_whose_replacement_was_killed_is_put_back(tmp_path):
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT" / "old.txt").write_text("old")
    with start(REPLACER, tmp_path) as process:
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "OUT").exists()
    sweep(tmp_path)
    assert (tmp_path / "OUT" / "old.txt").read_text() == "old" and left(tmp_path) == []


def test_names_of_others_stay(tmp_path):
    names = [
        ".tmp-notes",
        ".X.tmp-abc",
        "tfdistill-bundle-1",
        ".X.tmp-000000-1-1-abcd",
        "a.tmp-000000-999999999-1-abcd",
    ]
    for name in names:
        (tmp_path / name).write_text("mine")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert not is_leftover(".X.tmp-000000-999999999-1-abcd")  # of another machine
