"""Directories and disks that are read-only or full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stopped_runs import contents, make, same

from tfdistill.errors import UserError
from tfdistill.training.run_directory import run

pytestmark = pytest.mark.heavy

READ_ONLY = """
import os, sys
sys.path.insert(0, sys.argv[1])
import stopped_runs
from tfdistill.errors import UserError
from tfdistill.training.run_directory import run
recipe = stopped_runs.make()
if os.geteuid() == 0:  # root may write anywhere, nobody may not
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    run(recipe, sys.argv[2], seed=1)
except UserError as error:
    print(os.geteuid(), error)
"""


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
