"""Test what all verbs share: help, one-line errors, exit codes, and starting without TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tfdistill.commands.app import app

VERBS = [command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback]

WITHOUT_TENSORFLOW = """
import sys
from tfdistill.commands.app import main

assert "numpy" not in sys.modules, "tfdistill --help must start fast"
for words in (["--help"], ["verify", "nothing"], ["bench", "nothing"], ["compare", "nothing"], ["cache"], ["recipes"]):
    sys.argv = ["tfdistill", *words]
    try:
        main()
    except SystemExit:
        print("loaded", words[0], sorted({"tensorflow", "keras", "tensorflow_text"} & set(sys.modules)))
"""


@pytest.mark.heavy
def test_start_without_tensorflow(tmp_path):
    environment = {**os.environ, "TFDISTILL_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW], env=environment, capture_output=True, text=True, check=True
    )
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded ")]
    assert loaded == [f"loaded {verb} []" for verb in ("--help", "verify", "bench", "compare", "cache", "recipes")]


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(tfdistill, verb):
    code, out, _ = tfdistill(verb, "--help")
    assert code == 0 and "Example" in out and f"tfdistill {verb}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nothing"], "'nothing'"),
        (["trian"], "train"),
        (["export", "x"], "'--out'"),
        (["export", "x", "--out", "y", "--length", "3"], "'--length'"),
        (["verify", "a", "b"], "a"),
        (["augment", "--data", "x", "--out", "y", "--p-mask", "7"], "--p-mask"),
        (["augment", "--data", "x", "--out", "y", "--p", "0.4"], "--p-replace"),
        (["evaluate", "x", "--data", "y", "--length", "9"], "--max-length"),
        (["recipes", "--nothing"], "--nothing"),
        (["train", "bilstm", "--teacher", "x", "--out", "y", "--sed", "1"], "--seed"),
        (["verify", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_line(tfdistill, words, part):
    code, _, err = tfdistill(*words)
    assert code == 2 and part in err and err.count("\n") == 1, err


def test_no_command_shows_them_all(tfdistill):
    code, out, err = tfdistill()
    assert code == 2 and all(verb in out + err for verb in VERBS) and "Traceback" not in err


@pytest.mark.heavy
def test_another_backend_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tfdistill", "quickstart", "--out", "q"],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "KERAS_BACKEND" in done.stderr and done.stderr.count("\n") == 1
