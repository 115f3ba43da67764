"""Runs a recipe: tokenize, augment, ask the teacher once, train the stages, keep the best student, write it all down."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfdistill.data.batching import Examples
from tfdistill.data.metrics import score
from tfdistill.data.tokenize import Encoded
from tfdistill.errors import UserError
from tfdistill.files import atomic_write
from tfdistill.models.hf import save_directory
from tfdistill.models.text import TextModel
from tfdistill.predict import encode, evaluate, predict_logits
from tfdistill.progress import say, task
from tfdistill.recipe import Recipe, with_learning_rate
from tfdistill.stages import Stage, train_stage

DEBUG_STEPS, DEBUG_ROWS = 3, 64


@dataclass
class Result:
    """What a run gave. `curve` has one point for each scoring: step, loss, dev score; `scores` a dict for each split."""

    student: TextModel
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    searched: dict[float, float] = field(default_factory=dict)
    learning_rate: float | None = None
    rows: int = 0
    seconds: float = 0.0


@dataclass
class Prepared:
    """Training and dev rows of a recipe as ids, and the teacher's logits once they were asked for."""

    train: Encoded
    teacher_train: Encoded | None
    labels: np.ndarray | None
    dev: Encoded
    teacher_logits: np.ndarray | None = None


def prepare(recipe: Recipe, seed: int) -> Prepared:
    """Augment and tokenize. Depends on the data, `recipe.augment` and `seed` only, so that runs may share it."""
    train, dev = recipe.data.splits["train"], recipe.data.splits["dev"]
    if train.labels is None or dev.labels is None:
        raise UserError(f"{recipe.data.name}: train and dev need labels; received none")
    parts = [train]
    if recipe.augment is not None:
        with task("augmenting", None):
            parts.append(recipe.augment(train, seed))

    def encoded(model: TextModel) -> Encoded:
        return Encoded.concatenate([encode(model, part, recipe.max_length) for part in parts])

    teacher, student = recipe.teacher, recipe.student
    other = teacher is not None and teacher.tokenizer.fingerprint != student.tokenizer.fingerprint
    return Prepared(
        train=encoded(student),
        teacher_train=encoded(teacher) if other and teacher is not None else None,
        labels=np.concatenate([part.labels for part in parts if part.labels is not None]),
        dev=encode(student, dev, recipe.max_length),
    )


def ask_teacher(recipe: Recipe, prepared: Prepared) -> None:
    """The teacher's logits of all training rows, once: they do not change while the student learns."""
    if recipe.teacher is None or prepared.teacher_logits is not None:
        return
    rows = prepared.teacher_train or prepared.train
    with task("teacher reads the training texts", len(rows)) as advance:
        prepared.teacher_logits = predict_logits(recipe.teacher, rows, advance=advance)


class _Watch(keras.callbacks.Callback):
    """Scores dev after each round, remembers the best weights, feeds the progress bar, the log and the checkpoint."""

    def __init__(self, run: _Run, stage: Stage, student: TextModel, advance: Any):
        super().__init__()
        self.run, self.stage, self.student, self.advance = run, stage, student, advance
        self.best: tuple[float, list[np.ndarray]] | None = None
        self.scores: dict[str, float] = {}  # on dev, of the weights that the stage ends with
        self.step = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1
        self.advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        scores = self.run.dev_scores(self.student)
        name, value = next(iter(scores.items()))
        losses = {key: float(number) for key, number in (logs or {}).items()}
        self.run.log(stage=self.stage.name, step=self.step, **losses, **{f"dev_{name}": value})
        self.advance(0, note=f"loss {losses.get('loss', float('nan')):.4f}, dev {name} {value:.4f}")
        if self.best is None or value >= self.best[0] or not self.stage.keep_best:
            self.best, self.scores = (value, self.student.get_weights()), scores
        self.run.checkpoint(self.student)


class _Run:
    """State of one run that callbacks share: where it writes, and how dev is scored."""

    def __init__(self, recipe: Recipe, prepared: Prepared, out: Path | None):
        self.recipe, self.prepared, self.out = recipe, prepared, out
        self.curve: list[dict[str, Any]] = []

    def dev_scores(self, student: TextModel) -> dict[str, float]:
        labels = self.recipe.data.splits["dev"].known_labels
        return score(student.task, labels, predict_logits(student, self.prepared.dev))

    def log(self, **entry: Any) -> None:
        self.curve.append(entry)
        if self.out is not None:
            with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), **entry}) + "\n")

    def checkpoint(self, student: TextModel) -> None:
        if self.out is not None:
            save_directory(student, self.out / "checkpoint")


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    out: Path | None = None,
    prepared: Prepared | None = None,
    max_steps: int | None = None,
    title: str | None = None,
    score_test: bool = True,
) -> Result:
    """Train the recipe's student in place and return it with its best weights and its dev and (`score_test`) test scores.

    Args:
        out: writes log.jsonl and, after each scoring, checkpoint/ there.
        prepared: from `prepare`, to share ids and teacher logits between runs on the same texts.
        max_steps: at most so many steps in each stage.

    Raises:
        DivergedError: a loss became NaN or infinite.
    """
    started = time.monotonic()
    prepared = prepared or prepare(recipe, seed)
    run = _Run(recipe, prepared, out)
    student = recipe.student
    for number, stage in enumerate(recipe.stages):
        features: dict[str, np.ndarray] = {}
        if stage.teacher is None and stage.reads_teacher == {"logits"}:
            ask_teacher(recipe, prepared)
            assert prepared.teacher_logits is not None
            features = {"logits": prepared.teacher_logits}
        examples = Examples(
            prepared.train,
            prepared.labels,
            teacher=prepared.teacher_train if stage.reads_teacher and not features else None,
            teacher_features=features,
        )
        steps = min(stage.steps(len(examples)), max_steps or 10**9)
        with task(title or f"{recipe.name}: {stage.name}", steps) as advance:
            watch = _Watch(run, stage, student, advance)
            train_stage(
                stage,
                student,
                recipe.teacher,
                examples,
                seed=seed * 1000 + number,
                callbacks=[watch],
                max_steps=max_steps,
            )
        if stage.keep_best and watch.best is not None:
            student.set_weights(watch.best[1])
    result = Result(student, curve=run.curve, rows=len(prepared.train), learning_rate=recipe.stages[-1].learning_rate)
    result.scores = {"dev": watch.scores}
    test = recipe.data.splits.get("test")
    if score_test and test is not None and test.labels is not None:
        result.scores["test"] = evaluate(student, test, max_length=recipe.max_length)
    result.seconds = time.monotonic() - started
    return result


def search_learning_rate(
    recipe: Recipe, candidates: Sequence[float], *, seed: int, steps: int, prepared: Prepared | None = None
) -> dict[float, float]:
    """Dev score after `steps` steps for each learning rate, every one from the student's present weights, which stay."""
    prepared = prepared or prepare(recipe, seed)
    start, scores = recipe.student.get_weights(), {}
    for candidate in candidates:
        trial = with_learning_rate(recipe, candidate)
        trial = replace(trial, stages=tuple(replace(stage, evaluations=1) for stage in trial.stages))
        result = train(
            trial,
            seed=seed,
            prepared=prepared,
            max_steps=steps,
            title=f"{recipe.name}: trying {candidate:g}",
            score_test=False,
        )
        scores[candidate] = next(iter(result.scores["dev"].values()))
        recipe.student.set_weights(start)
    return scores


# --- run directories ------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Versions of this library and of what it stands on."""
    found = {"python": platform.python_version()}
    for name in ("tfdistill", "tensorflow", "keras", "tensorflow-text", "ai-edge-litert", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _debug(recipe: Recipe) -> Recipe:
    """A few rows of each split, for `--debug`."""
    splits = {name: split.take(range(min(len(split), DEBUG_ROWS))) for name, split in recipe.data.splits.items()}
    return replace(recipe, data=replace(recipe.data, splits=splits))


def run(recipe: Recipe, out: str | os.PathLike, *, seed: int = 0, debug: bool = False, force: bool = False) -> Result:
    """Train `recipe` into the run directory `out`.

    It holds run.json (resolved recipe, versions, seed, scores), log.jsonl (one line for each scoring), checkpoint/ (the last
    student, while the run goes on or when it was stopped) and student/ (the best one).

    Raises:
        UserError: `out` holds a run already (and not `force`), or cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not force or not (out / "run.json").is_file():
            raise UserError(f"{out} exists and is not empty; expected a new name, or --force to replace a former run")
        shutil.rmtree(out)
    head = {
        "recipe": recipe.name,
        "settings": recipe.settings,
        "stages": [stage_as_data(stage) for stage in recipe.stages],
        "data": {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint},
        "max_length": recipe.max_length,
        "seed": seed,
        "debug": debug,
        "versions": versions(),
    }
    atomic_write(out / "run.json", json.dumps({**head, "state": "running"}, indent=2))
    try:
        result = train(
            _debug(recipe) if debug else recipe, seed=seed, out=out, max_steps=DEBUG_STEPS if debug else None
        )
    except KeyboardInterrupt:
        save_directory(recipe.student, out / "checkpoint", recipe=head)
        atomic_write(out / "run.json", json.dumps({**head, "state": "interrupted"}, indent=2))
        say(f"stopped; the student as it stands is in {out / 'checkpoint'}")
        raise
    except UserError as error:
        atomic_write(out / "run.json", json.dumps({**head, "state": f"failed: {error}"}, indent=2))
        raise
    save_directory(result.student, out / "student", recipe=head)
    done = {
        **head,
        "state": "done",
        "scores": result.scores,
        "parameters": result.student.count_params(),
        "seconds": result.seconds,
    }
    atomic_write(out / "run.json", json.dumps(done, indent=2))
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return result


def stage_as_data(stage: Stage) -> dict[str, Any]:
    """A stage as plain values, for run.json."""
    terms = []
    for term in stage.terms:
        entry: dict[str, Any] = {"term": type(term).__name__, "name": term.name, "weight": term.weight}
        for key in ("on", "layers", "project", "options"):
            if getattr(term, key, None):
                entry[key] = getattr(term, key)
        terms.append(entry)
    plain = {key: value for key, value in stage.__dict__.items() if key not in ("terms", "teacher")}
    return {**plain, "terms": terms}
