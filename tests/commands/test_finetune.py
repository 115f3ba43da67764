"""Test `tfdistill finetune` and the run directory it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


def test_run_directory(work):
    run = json.loads((work / "teacher" / "run.json").read_text("utf-8"))
    assert run["state"] == "done" and run["seed"] == 1 and run["versions"]["keras"]
    assert run["stages"][0]["terms"][0]["name"] == "hard_labels" and set(run["scores"]) == {"dev", "test"}
    log = [json.loads(line) for line in (work / "teacher" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [entry["step"] for entry in log] == [10, 20] and all("dev_accuracy" in entry for entry in log)
    assert {path.name for path in (work / "teacher" / "student").iterdir()} >= {
        "config.json", "model.safetensors", "vocab.txt", "labels.txt", "recipe.json", "tokenizer_config.json"
    }  # fmt: skip
    assert not (work / "teacher" / "checkpoint").exists()


def test_a_teacher_is_made(work, tfdistill, tmp_path):
    out = tmp_path / "teacher"
    words = [
        "--data",
        work / "data",
        "--out",
        out,
        "--debug",
        "--seed",
        3,
        "--set",
        "max_length=16",
        "--set",
        "epochs=2",
    ]
    code, printed, err = tfdistill("finetune", TINY, *words)
    assert code == 0, err
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert (run["recipe"], run["seed"], run["debug"]) == ("finetune", 3, True)
    assert (run["settings"]["model"], run["settings"]["epochs"]) == (str(TINY), 2)
    assert "accuracy" in printed and "debug run" in printed
    (following,) = [line for line in printed.splitlines() if line.startswith("next: ")]
    assert "--debug" not in following and f"--out {out}" in following and following.endswith("--force")
