"""`tfdistill cache`: list sizes and ages, and remove teacher outputs."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tfdistill.commands import app as cli
from tfdistill.commands.cache import entries

ABOUT = {"rows": 1200, "features": ["hidden_states 2, 4"], "dtype": "float16", "teacher": "bert, 6 layers"}


@pytest.fixture
def caches(tmp_path, monkeypatch) -> Path:
    """Two teacher caches, one of them without its description, and a package."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    for name, size in (("packages/a.whl", 500), ("teacher/aa/00000.rows", 3000), ("teacher/bb/00000.rows", 40)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "teacher" / "aa" / "about.json").write_text(json.dumps(ABOUT), "utf-8")
    os.utime(tmp_path / "teacher" / "bb" / "00000.rows", (0, time.time() - 2 * 86400))
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfdistill", "cache", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_lists_what_is_there(caches, command):
    found = entries()
    assert [entry.name for entry in found] == ["teacher/aa", "packages", "teacher/bb"]
    assert found[0].size == 3000 + len(json.dumps(ABOUT)) and found[2].days == pytest.approx(2, abs=0.01)
    assert found[0].about == "1,200 rows: hidden_states 2, 4 (float16); bert, 6 layers" and not found[2].about
    code, out, _ = command("--json")
    assert code == 0 and [entry["bytes"] for entry in json.loads(out)["entries"]][1:] == [500, 40]
    code, out, _ = command()
    assert code == 0 and "teacher/bb" in out and "3.1 kB" in out


def test_clears_teacher_caches_and_what_is_named(caches, command):
    code, _, err = command("teacher/cc", "--clear")
    assert code == 2 and "teacher/cc" in err and "teacher/aa" in err
    assert command("teacher/bb", "--clear")[0] == 0 and [entry.name for entry in entries()] == [
        "teacher/aa",
        "packages",
    ]
    (caches / "teacher" / ".aa.lock").touch()
    code, out, _ = command("--clear")
    assert code == 0 and "removed 1 of 1" in out and [entry.name for entry in entries()] == ["packages"]
    assert list((caches / "teacher").iterdir()) == []
    assert command("packages", "--clear")[0] == 0 and entries() == []


def test_what_another_process_writes_stays(caches, command):
    with FileLock(caches / "teacher" / ".aa.lock"):
        code, out, _ = command("--clear")
    assert code == 0 and "teacher/aa" in out and "removed 1 of 2" in out


def test_an_empty_folder(tmp_path, monkeypatch, command):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "none"))
    assert entries() == [] and command("--clear")[0] == 0
    assert entries(tmp_path) == []
