"""Test `tfdistill train`: distilled students, the undistilled baseline, and one line for every mistake."""

from __future__ import annotations

import json
import os

import keras
import numpy as np
import pytest

from tfdistill.data.text_sources import load_data
from tfdistill.models.load import load
from tfdistill.recipes import bilstm
from tfdistill.training import runner

pytestmark = pytest.mark.heavy


def words_of(work, out, *more):
    return ["train", "soft_targets", "--teacher", work / "teacher", "--data", work / "data", "--out", out, *more]


def test_a_student_is_distilled(work, tfdistill, tmp_path):
    run = tmp_path / "run"
    settings = [
        word
        for setting in ("num_layers=1", "hidden_weight=1", "epochs=2", "max_length=16")
        for word in ("--set", setting)
    ]
    code, printed, err = tfdistill(*words_of(work, run, *settings, "--teacher-cache", "all"))
    assert code == 0, err
    assert (
        "accuracy" in printed
        and f"tfdistill export {run} --quantize dynamic_int8 --data {work / 'data'} --out" in printed
    )
    written = json.loads((run / "run.json").read_text("utf-8"))
    assert written["state"] == "done" and written["teacher_cache"] == "all fp16"
    assert json.loads((run / "student" / "recipe.json").read_text("utf-8"))["recipe"] == "soft_targets"
    code, printed, err = tfdistill("evaluate", run / "student", "--data", work / "data", "--split", "test", "--json")
    scores = json.loads(printed)
    assert scores["rows"] == 20 and scores["accuracy"] == pytest.approx(written["scores"]["test"]["accuracy"])


def test_debug_takes_a_few_steps(work, tfdistill, tmp_path):
    code, _, err = tfdistill(*words_of(work, tmp_path / "run", "--debug", "--set", "num_layers=1"))
    assert code == 0, err
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert max(steps) == 3


def test_labels_alone_is_the_same_run_without_the_teacher(work, tfdistill, tmp_path):
    words = ["train", "bilstm", "--teacher", work / "teacher", "--data", work / "data", "--debug", "--on-labels"]
    code, _, err = tfdistill(*words, "--out", tmp_path / "run", "--set", "embedding_size=8")
    assert code == 0, err
    stages = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["stages"]
    assert [term["name"] for term in stages[0]["terms"]] == ["hard_labels"]


@pytest.mark.slow
def test_a_rounded_student_is_exported_with_its_ranges(work, tfdistill, tmp_path):
    words = ["train", "quantization_aware", "--teacher", work / "teacher", "--data", work / "data", "--debug"]
    code, printed, err = tfdistill(*words, "--out", tmp_path / "run", "--set", "max_length=16")
    assert code == 0, err
    assert "debug run" in printed


@pytest.mark.slow
def test_same_seed_same_student(work):
    data, weights = load_data(str(work / "data")), []
    for seed in (1, 1, 2):
        teacher = load(work / "teacher" / "student")
        keras.utils.set_random_seed(seed)
        settings = bilstm.Settings(copies=1, epochs=1, max_length=16, embedding_size=8, evaluations=1)
        weights.append(runner.train(bilstm.recipe(teacher, data, settings), seed=seed).student.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


# --- mistakes -------------------------------------------------------------------------------------------------------

MISTAKES = {
    "teacher cache": (["--teacher-cache", "some"], "cls"),
    "unknown setting": (["--set", "epoch=2"], "epochs"),
    "setting without value": (["--set", "epochs"], "--set"),
    "setting of another kind": (["--set", "epochs=many"], "many"),
    "setting out of range": (["--set", "temperature=0"], "temperature"),
    "more layers than the teacher": (["--set", "num_layers=9"], "9"),
    "nothing to resume": (["--resume"], "--resume"),
    "resume and force": (["--resume", "--force"], "--force"),
    "unknown precision": (["--precision", "int4"], "--precision"),
    "unknown strategy": (["--strategy", "two"], "--strategy"),
    "teacher without a model": (["--teacher", "nothing"], "nothing"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(work, tfdistill, tmp_path, case):
    more, part = MISTAKES[case]
    code, _, err = tfdistill(*words_of(work, tmp_path / "run", *more))
    assert code == 2 and part in err and err.count("\n") == 1, err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_unknown_recipe_is_one_line(work, tfdistill, tmp_path):
    code, _, err = tfdistill("train", "soft_target", *words_of(work, tmp_path / "run")[2:])
    assert code == 2 and "soft_targets" in err and err.count("\n") == 1


def test_a_place_that_is_taken_is_refused(work, tfdistill, tmp_path):
    (tmp_path / "file").write_text("x", "utf-8")
    for out in (work / "data", work / "data" / "dev.tsv", tmp_path / "file" / "run"):
        code, _, err = tfdistill(*words_of(work, out))
        assert code == 2 and str(out.parent) in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "part"),
    [(lambda text: "", "dev.tsv"), (lambda text: text.replace("\tneg", "\tnegative"), "'negative'")],
    ids=["damaged", "other classes than the teacher"],
)
def test_data_that_does_not_fit_is_one_line(work, make_data, tfdistill, tmp_path, change, part):
    data = make_data(tmp_path / "data")
    for file in data.iterdir():
        file.write_text(change(file.read_text("utf-8")) if file.name == "dev.tsv" else file.read_text("utf-8"), "utf-8")
    words = ["train", "soft_targets", "--teacher", work / "teacher", "--data", data, "--out", tmp_path / "run"]
    code, _, err = tfdistill(*words)
    assert code == 2 and part in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_divergence_names_step_and_term(work, tfdistill, tmp_path):
    settings = ["--set", "learning_rate=1e30", "--set", "num_layers=1", "--set", "epochs=5"]
    code, _, err = tfdistill(*words_of(work, tmp_path / "run", *settings))
    assert code == 2 and "step" in err.splitlines()[-1] and "'hard_labels'" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["state"].startswith("failed")
    assert not (tmp_path / "run" / "student").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory(work, tfdistill, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = tfdistill(*words_of(work, tmp_path / "run"))
    assert code == 2 and str(tmp_path) in err


def test_an_interrupt_leaves_a_usable_checkpoint(work, tfdistill, tmp_path, monkeypatch):
    class Impatient(runner.Bookkeeper):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if self.state.step == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(runner, "Bookkeeper", Impatient)
    code, _, err = tfdistill(*words_of(work, tmp_path / "run", "--set", "num_layers=1"))
    assert code == 130 and "checkpoint" in err
    assert load(tmp_path / "run" / "checkpoint").num_layers == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["state"] == "interrupted"
