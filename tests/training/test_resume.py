"""Runs that are stopped or killed resume exactly where they were."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from stopped_runs import TINY, Killed, data, flip, make, same, stopped, tiny

from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.load import load
from tfdistill.recipes import find
from tfdistill.system.signals import (
    exits_on_signals,
)
from tfdistill.training import checkpoint
from tfdistill.training.callbacks import Bookkeeper
from tfdistill.training.recipe import Recipe
from tfdistill.training.run_directory import run
from tfdistill.training.settings import parse_settings

KILLS, STAGES = (int(os.environ.get(name, default)) for name, default in (("KILLS", "1"), ("STAGES", "2")))


@pytest.fixture
def ctrl_c():
    """Heard, as in a terminal; what a shell starts in the background ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.heavy
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


DUAL = ["general.width=8", "general.vocab_size=24", "general.mixed_epochs=1"]
BOTH = ["student=layers", "copies=1", "transformer.epochs=1"]


PLAIN = ["general.length=12", "general.batch_size=4", "general.epochs=1", "epochs=1", "evaluations=2"]


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


@pytest.mark.slow
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


@pytest.mark.slow
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
