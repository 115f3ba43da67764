"""`examples/supervise.sh` starts a command again if it can resume."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
SUPERVISE = Path(__file__).parents[2] / "examples" / "supervise.sh"


def supervised(restarts: object, *command: str) -> subprocess.Popen:
    environment = {**os.environ, "PAUSE": "0"}
    words = [str(SUPERVISE), str(restarts), "sh", "-c", *command]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("restarts", "command", "code", "starts"),
    [
        (3, "exit 0", 0, 1),
        (3, "exit 2", 2, 1),
        (3, "exit 143", 143, 1),
        (2, "exit 75", 75, 3),
        (1, "kill -KILL $$", 137, 2),
        (0, "exit 75", 75, 1),
        (5, "[ $(wc -l < $0) -lt 3 ] && exit 75; exit 0", 0, 3),
    ],
)
def test_the_supervisor_starts_again_what_may_go_on(restarts, command, code, starts, tmp_path):
    process = supervised(restarts, f"echo started >> $0; {command}", str(tmp_path / "starts"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert len((tmp_path / "starts").read_text().splitlines()) == starts
    assert errors.count("starting again") == starts - 1


@pytest.mark.slow
def test_the_supervisor_hands_sigterm_on():
    process = supervised(3, "trap 'echo asked; kill $!; exit 143' TERM; sleep 20 & echo on; wait; exit 7")
    assert process.stdout.readline() == "on\n"
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and output == "asked\n"


@pytest.mark.heavy
def test_the_supervisor_starts_nothing_after_sigterm():
    environment = {**os.environ, "PAUSE": "2"}
    process = subprocess.Popen(
        [str(SUPERVISE), "3", "sh", "-c", "exit 75"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert "starting again" in process.stderr.readline()
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and errors == ""


@pytest.mark.heavy
def test_the_supervisor_wants_a_number():
    process = supervised("train", "exit 0")
    assert (
        "expected a number of restarts, got 'train'" in process.communicate(timeout=60)[1] and process.returncode == 2
    )
