"""What a run directory accepts, refuses and records."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from filelock import FileLock
from helpers import mirrored
from stopped_runs import data, make, same, stopped, tiny

from tfdistill.errors import DivergedError, UserError
from tfdistill.recipes import find
from tfdistill.system.reproducibility import reproducible
from tfdistill.training import runner
from tfdistill.training.recipe import Recipe
from tfdistill.training.run_directory import run
from tfdistill.training.settings import parse_settings


@pytest.mark.heavy
def test_other_devices_are_said_and_end_the_bit_for_bit(half, whole, tmp_path, capsys, monkeypatch):
    first = json.loads((whole[0] / "run.json").read_text("utf-8"))["reproducible"]
    assert (first["strategy"], first["replicas"], first["bit_for_bit"]) == ("one", 1, True) and "changed" not in first
    out = shutil.copytree(half, tmp_path / "run")
    said = json.loads((out / "run.json").read_text("utf-8"))
    said["reproducible"] |= {"strategy": "mirrored", "replicas": 2, "needs": "what an older version said"}
    (out / "run.json").write_text(json.dumps(said), "utf-8")
    capsys.readouterr()
    stopped(monkeypatch, out, make(), 0, 8)
    told = [line for line in capsys.readouterr().err.splitlines() if "since the run began" in line]
    assert len(told) == 1 and "strategy" in told[0] and "replicas" in told[0]
    run(make(), out, seed=1)  # goes on once more, with nothing new to say
    assert "since the run began" not in capsys.readouterr().err
    now = json.loads((out / "run.json").read_text("utf-8"))["reproducible"]
    assert (now["strategy"], now["replicas"], now["bit_for_bit"]) == ("one", 1, False)
    assert [change.partition(" ")[0] for change in now["changed"]] == ["strategy", "replicas"]


def test_two_devices_are_noted():
    with mirrored().scope():
        now = reproducible()
    assert (now["strategy"], now["replicas"]) == ("mirrored", 2)


@pytest.mark.heavy
def test_a_run_that_is_done_is_not_run_again(whole, capsys, monkeypatch):
    monkeypatch.setattr(runner, "prepare", None)
    again = run(make(), whole[0], seed=1)
    assert "it is done" in capsys.readouterr().err
    assert same(again.student, whole[1].student) and again.scores == whole[1].scores
    assert again.curve == whole[1].curve


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (lambda: {"settings": {"epochs": 3}}, {}, r"settings\.epochs is 3"),
        (lambda: {"max_length": 13}, {}, "max_length is 13"),
        (lambda: {"data": data(41)}, {}, r"data\.fingerprint"),
        (lambda: {}, {"seed": 2}, "seed is 2"),
        (lambda: {}, {"debug": True}, "debug is true"),
        (lambda: {"student": tiny(2)}, {}, r"weights\.student is .*--resume"),
    ],
)
def test_another_recipe_is_refused_with_the_difference(half, change, options, told):
    before = sorted(half.rglob("*"))
    with pytest.raises(UserError, match=f"{told}.*--force"):
        run(make(**change()), half, **{"seed": 1, **options})
    assert sorted(half.rglob("*")) == before


@pytest.mark.heavy
def test_a_worker_with_another_command_than_the_first_ones_ends(half, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tfdistill.training.run_directory.is_chief", lambda: False)
        with pytest.raises(UserError, match="seed is 2"):
            run(make(), half, seed=2)


@pytest.mark.heavy
def test_other_weights_of_teachers_or_another_config_are_another_run(tmp_path, monkeypatch):
    def soft(weights, dropout=0.1) -> Recipe:
        teacher = tiny(1)
        settings = parse_settings(find("soft_targets").Settings, ["num_layers=1", f"dropout={dropout}"])
        made = find("soft_targets").recipe(teacher, data(), settings)
        return replace(made, other_teachers=(tiny(2),), teacher_weights=weights)

    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(soft((2.0, 1.0)), tmp_path / "run")
    with pytest.raises(UserError, match=r"teacher_weights\.0 is 1\.0"):
        run(soft(None), tmp_path / "run")
    with pytest.raises(UserError, match=r"settings\.dropout is 0\.2.*weights\.student is"):
        run(soft((2.0, 1.0), 0.2), tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        run(soft((2.0, 1.0)), tmp_path / "run")


@pytest.mark.heavy
def test_what_is_no_run_is_refused(tmp_path):
    recipe = make()
    with pytest.raises(UserError, match="--resume"):
        run(recipe, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=str(tmp_path)):
        run(recipe, tmp_path, force=True)
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / ".lock").exists()
    for content in ("{", "[]", "{}"):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run\.json"):
            run(recipe, tmp_path)
    with pytest.raises(UserError, match=r"recipe is .*more"):
        (tmp_path / "run.json").write_text('{"recipe": "pretrain", "state": "done"}')
        run(recipe, tmp_path)


@pytest.mark.heavy
def test_two_processes_do_not_train_into_one_directory(half):
    with FileLock(half / ".lock"), pytest.raises(UserError, match="another process trains into"):
        run(make(), half, seed=1)


@pytest.mark.heavy
def test_a_run_killed_at_its_first_write_begins_again(tmp_path, monkeypatch):
    """The lock and a file that never got its name are no other run."""
    out = tmp_path / "run"
    out.mkdir()
    for name in (".lock", ".run.json.a1b2c3d4"):
        (out / name).touch()
    seen = []
    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: seen.append(args) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(make(), out, seed=1)
    assert seen and {path.name for path in out.iterdir()} == {"run.json"}
    (out / "run.json").unlink()
    (out / "thesis.docx").touch()
    with pytest.raises(UserError, match=str(tmp_path)):
        run(make(), out, seed=1)


def test_what_the_clock_decides_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr("tfdistill.training.run_directory.train", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(make(breaks=("its masked LM was trained by the clock",)), tmp_path / "run")
    said = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["reproducible"]
    assert said["bit_for_bit"] is False and "its masked LM was trained by the clock" in said["breaks"]


@pytest.mark.heavy
def test_force_starts_anew(half, tmp_path, monkeypatch):
    out = shutil.copytree(half, tmp_path / "run")

    def train(*args, checkpoints, **options):
        assert checkpoints.read() is None and [path.name for path in out.iterdir() if path.name != ".lock"] == [
            "run.json"
        ]
        raise DivergedError(1, "loss")

    monkeypatch.setattr("tfdistill.training.run_directory.train", train)
    with pytest.raises(DivergedError):
        run(make(), out, seed=1, force=True)


@pytest.mark.heavy
def test_other_training_rows_are_refused(half, tmp_path):
    out = shutil.copytree(half, tmp_path / "run")
    with pytest.raises(UserError, match="training examples"):
        run(make(augment=lambda split, seed: split.take(range(3))), out, seed=1)
