"""Train a recipe: prepare its examples, train its stages, keep the best student, evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.data.batching import dataset, some_rows
from tfdistill.metrics.notation import shown
from tfdistill.system.console import say, task
from tfdistill.training.agreement import agreement
from tfdistill.training.callbacks import Bookkeeper
from tfdistill.training.checkpoint import Checkpoints
from tfdistill.training.evaluation import dev_scores, fp16_range, held_out_scores, test_scores
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared, prepare, take
from tfdistill.training.stage import Pause
from tfdistill.training.state import RunState
from tfdistill.training.teacher_outputs import TeacherPlan, stage_examples, teacher_plan, training_logits
from tfdistill.training.trainer import Trainer

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


@dataclass
class Result:
    """Result of a run.

    Args:
        scores: by split, then by name.
        curve: one entry per evaluation: stage, step, losses, scores.
        test_logits: (n, C) in the order of the test split; None if it was not evaluated.
        rows: number of training examples.
        gradient_norms: by stage and term, if requested.
        cut: smaller students that were cut from the trained one.
        projections: weights of the learned projections.
        agreement: how far answers of a file, labels and student agree, see `training.agreement`.
    """

    student: TextModel
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    searched: dict[float, float] = field(default_factory=dict)
    learning_rate: float | None = None
    test_logits: np.ndarray | None = None
    rows: int = 0
    seconds: float = 0.0
    gradient_norms: dict[str, dict[str, float]] = field(default_factory=dict)
    cut: dict[str, Cut] = field(default_factory=dict)
    projections: dict[str, list[np.ndarray]] = field(default_factory=dict)
    agreement: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps of all stages."""
        return sum({point["stage"]: point["step"] for point in self.curve if "step" in point}.values())


@dataclass
class Cut:
    """A smaller student that was cut from the trained one."""

    student: TextModel
    scores: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _Run:
    """What the stages of a run share."""

    recipe: Recipe
    prepared: Prepared
    plan: TeacherPlan
    trainer: Trainer
    books: Bookkeeper
    seed: int
    max_steps: int | None


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    out: Path | None = None,
    prepared: Prepared | None = None,
    max_steps: int | None = None,
    score_test: bool = True,
    gradient_norms: bool = False,
    trainer: Trainer | None = None,
    checkpoints: Checkpoints | None = None,
    plan: TeacherPlan | None = None,
    before: Callable[[], Any] | None = None,
) -> Result:
    """Train the recipe's student in place. It ends with its best weights.

    Args:
        out: directory for log.jsonl and, after each evaluation, checkpoint/.
        prepared: examples from `prepare`, to share them and the teacher's logits between runs on the same texts.
        max_steps: limit for the steps of each stage.
        score_test: whether to evaluate the test split.
        gradient_norms: whether to compute the gradient norm of each term at the first step of each stage.
        trainer: trainer of the same student, teacher and terms, whose compiled step is used again.
        checkpoints: the run resumes from the newest of these, and writes more.
        plan: what the stages read of the teacher; by default nothing is kept on disk.
        before: called once when the data are prepared, before the first stage.

    Raises:
        DivergedError: a loss became NaN or infinite.
        UserError: a checkpoint does not fit the recipe.
    """
    state, student = RunState(), recipe.student
    plan, prepared = plan or teacher_plan(recipe), prepared or prepare(recipe, seed)
    state.teacher_logits = prepared.teacher_logits
    trainer = trainer or Trainer(student, recipe.stages, recipe.execution)
    trainer.begin(recipe.stages)
    if recipe.projections:
        trainer.projections = dict(recipe.projections)
    books = Bookkeeper(recipe, prepared, trainer, state, out, checkpoints)
    if recipe.teacher_model is not None and any(stage.reads_teacher for stage in recipe.stages):
        fp16_range(recipe, prepared, recipe.stages[-1], recipe.teacher_model, "teacher")
    if before is not None:
        before()
    books.resume()
    run = _Run(recipe, prepared, plan, trainer, books, seed, max_steps)
    for number in range(state.stage, len(recipe.stages)):
        _train_stage(run, number, gradient_norms)
    result = Result(student, rows=len(prepared), learning_rate=recipe.stages[-1].learning_rate)
    result.gradient_norms, result.projections = state.gradient_norms, trainer.projections
    _score(result, run, score_test)
    result.curve, result.seconds = state.curve, state.seconds
    return result


def _train_stage(run: _Run, number: int, gradient_norms: bool) -> None:
    recipe, prepared, books, stage = run.recipe, run.prepared, run.books, run.recipe.stages[number]
    state, student = books.state, stage.student or recipe.student
    rows = len(stage.source) if stage.source is not None else len(prepared.rows(stage.rows))
    steps = stage.steps(len(prepared.rows(stage.counted)) if stage.counted else rows)
    steps = min(steps, run.max_steps or steps)
    if not books.begin(number, steps):
        if stage.student is not None:
            copy_encoder(recipe.student, stage.student)
        if stage.before is not None:
            stage.before(student, _pause(run, number))
            state.progress = replace(state.progress, entries=len(state.log))
            books.save(training=False)
    if stage.start_counts and stage.keep_best and steps and state.progress.top is None:
        books.count_start()
    if stage.held_out is not None and not state.held_out_before:
        state.held_out_before = held_out_scores(stage, student)
        say(f"held out before: {in_words(state.held_out_before)}")
    if not books.finished:
        data = stage.source or _examples(run, number)
        total = steps if books.clock is None else books.clock.limit
        with task(f"{recipe.name}: {stage.name}", total) as advance, books.training(advance) as position:
            run.trainer.train(
                number,
                recipe.teacher_model,
                data,
                seed=run.seed * 1000 + number if stage.seed is None else stage.seed,
                steps=steps,
                callback=books,
                gradient_norms=gradient_norms,
                position=position,
            )
        if run.trainer.norms:
            state.gradient_norms[stage.name] = run.trainer.norms
    if steps:
        books.restore_best()
        if stage.student is not None:
            copy_encoder(stage.student, recipe.student)


def _examples(run: _Run, number: int) -> Any:
    """Return the training examples of a stage. The teacher's logits are computed once in a run."""
    state = run.books.state
    if run.plan.stages[number].memory and state.teacher_logits is None:
        state.teacher_logits = training_logits(run.recipe, run.prepared, run.plan.cache)
    return stage_examples(run.recipe, run.prepared, number, run.plan, state.teacher_logits)


def _pause(run: _Run, number: int) -> Pause:
    """Return what `stage.before` may use."""
    recipe, stage = run.recipe, run.recipe.stages[number]

    def batches(rows: int | None, batch_size: int) -> Iterable[Mapping[str, Any]]:
        labelled = replace(stage, rows="labelled", terms=())
        examples = stage_examples(replace(recipe, stages=(labelled,)), run.prepared, 0)
        return dataset(take(examples, some_rows(len(examples), rows, run.seed)), batch_size, shuffle=False)

    def score_of(student: TextModel) -> float:
        return next(iter(dev_scores(run.prepared, student).values()))

    return Pause(batches, score_of, lambda **entry: run.books.log(stage=stage.name, **entry))


def _score(result: Result, run: _Run, score_test: bool) -> None:
    """Evaluate the student, and the smaller students that are cut from it."""
    recipe, prepared, state, student = run.recipe, run.prepared, run.books.state, result.student
    if recipe.data is None:
        result.scores = {"held_out_before": state.held_out_before, "held_out": state.progress.scores}
        say(f"held out after: {in_words(state.progress.scores)}")
        return
    result.scores = {"dev": state.progress.scores or dev_scores(prepared, student)}
    if score_test:
        scores, result.test_logits = test_scores(recipe, student)
        result.scores |= scores
    for name, small in (recipe.cut(student) if recipe.cut is not None else {}).items():
        dev = dev_scores(prepared, small)
        result.cut[name] = Cut(small, {"dev": dev} | (test_scores(recipe, small)[0] if score_test else {}))
        run.books.log(cut=name, parameters=small.count_params(), **{f"dev_{k}": v for k, v in dev.items()})
    if result.cut:
        first = next(iter(result.cut.values()))
        result.student, result.scores = first.student, first.scores
    result.agreement = agreement(recipe, prepared, result.student)


def in_words(scores: Mapping[str, float]) -> str:
    """Return scores as a line of text."""
    return ", ".join(f"{name.replace('_', ' ')} {shown(name, value)}" for name, value in scores.items())
