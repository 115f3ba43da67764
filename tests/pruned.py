"""Run the pruning recipes on tiny data, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.models.hf import load_directory
from tfdistill.models.predict import evaluate
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find
from tfdistill.training.run_directory import run
from tfdistill.training.runner import Result


def tiny_data() -> TextData:
    """Return texts of letters; the class tells whether 'a' is among them."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = rng.integers(0, 2, count)
        texts = [" ".join([*rng.choice(list("bcdefg"), 3), "a" if label else "h"]) for label in labels]
        return Split(texts, labels=labels.astype("int64"))

    return TextData("tiny", {"train": split(48), "dev": split(16), "test": split(16)}, ("neg", "pos"))


def trained(name: str, teacher: TextModel, out: Path, **settings: Any) -> tuple[Result, dict[str, Any], TextModel]:
    """Return the result of a run, its run.json, and the student as it opens from the directory."""
    module, data = find(name), tiny_data()
    chosen = module.Settings(**{"max_length": 16, "batch_size": 16, "evaluations": 1, "epochs": 1, **settings})
    result = run(module.recipe(teacher, data, chosen), out, seed=3)
    report = json.loads((out / "run.json").read_text("utf-8"))
    student = load_directory(out / "student")
    assert student.count_params() == report["parameters"] == result.student.count_params()
    for split in ("dev", "test"):
        assert evaluate(student, data, split, max_length=16) == report["scores"][split]
    return result, report, student


def pruning_log(out: Path) -> list[dict[str, Any]]:
    """Return the lines of log.jsonl that report removed heads."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if "heads_removed" in line]
