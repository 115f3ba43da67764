"""Run directories: train a recipe into a folder, resume it exactly where it was stopped, and read what came out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_arrays

from tfdistill.errors import UserError
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.system.console import say
from tfdistill.system.files import LOCK, atomic_write, is_free
from tfdistill.system.locks import locked
from tfdistill.system.signals import signals_over_errors
from tfdistill.system.workers import barrier, chief_flag, is_chief
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.check import DEV_ROWS, Check, check_recipe
from tfdistill.training.checkpoint import PROJECTIONS, Checkpoints, arrays_of, clear, is_left_over, sweep
from tfdistill.training.outcome import after_lines, summary
from tfdistill.training.recipe import Recipe, small
from tfdistill.training.run_identity import (
    checkpoint_identity,
    describe,
    read_run,
    require_run,
    require_same_command,
    require_same_run,
    with_changes,
)
from tfdistill.training.runner import Cut, Result, train
from tfdistill.training.teacher_cache import TeacherCache
from tfdistill.training.teacher_outputs import TeacherPlan, teacher_plan

DEBUG_STEPS = 3
_DEBUG_ROWS = 64  # dev rows that the teachers answer


@dataclass(frozen=True)
class _Job:
    """A recipe with everything that `train` needs."""

    recipe: Recipe
    out: Path
    seed: int
    debug: bool
    gradient_norms: bool
    plan: TeacherPlan

    def train(self, checkpoints: Checkpoints, look: Callable[[], Any] | None = None, out: Path | None = None) -> Result:
        return train(
            small(self.recipe) if self.debug else self.recipe,
            seed=self.seed,
            out=out,
            max_steps=DEBUG_STEPS if self.debug else None,
            gradient_norms=self.gradient_norms,
            checkpoints=checkpoints,
            plan=self.plan,
            before=look,
        )

    def check(self, former: Check | None = None) -> Check | None:
        """Look at data and teachers on all workers, unless the first one knows the check of this run already."""
        if not chief_flag(former is None):
            return former
        return check_recipe(self.recipe, seed=self.seed, dev_rows=_DEBUG_ROWS if self.debug else DEV_ROWS)


def run(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    seed: int = 0,
    debug: bool = False,
    force: bool = False,
    gradient_norms: bool = False,
    resume: bool = False,
    checkpoint_seconds: float = 300.0,
    keep: int = 2,
    teacher_cache: TeacherCache | None = None,
) -> Result:
    """Train `recipe` into the run directory `out`, or resume the run of the same recipe that was stopped there.

    The directory holds run.json (resolved recipe, versions, seed, scores), log.jsonl (one line per evaluation), student/
    (the best one) and, until the run is done, checkpoint/ (the present student) and resume/ (all that resuming needs).
    However often it is killed, the student is on CPUs bit for bit that of a run that never stopped; run.json says under
    "reproducible" what that takes. A run that is done is not run again: its student and scores are returned, without
    `test_logits`.

    Args:
        recipe: student, teacher, data and stages.
        out: the run directory.
        seed: seed of everything random.
        debug: a few examples and steps of each stage.
        force: replace a run at `out`.
        gradient_norms: whether to compute the gradient norm of each term at the first step of each stage.
        resume: require a run at `out`. Start weights and duration may then differ from those of that run.
        checkpoint_seconds: longest time without a checkpoint. Each evaluation writes one too, unless that would take more
            than a twentieth of the time.
        keep: number of checkpoints to keep.
        teacher_cache: what to keep of the teacher's outputs on disk; the logits by default. A run resumes only with the same.

    Raises:
        UserError: `out` holds another run (and not `force`), or cannot be written, or another process trains into it; or no
            stage can use the teacher cache, or the disk is full.
    """
    out, plan = Path(out), teacher_plan(recipe, teacher_cache or TeacherCache())
    job = _Job(recipe, out, seed, debug, gradient_norms, plan)
    head = describe(recipe, seed, debug, plan.cache)
    if not is_chief():
        return _follow(job, head)
    require_run(out, resume, force)
    check: Check | None = None
    with locked(out / LOCK, f"trains into {out}"):
        if force or is_free(out, is_left_over):
            clear(out)
        else:
            former = read_run(out)
            require_same_run(out, head, former, resume)
            head, check = with_changes(head, former), Check.from_data(former.get("check"))
            if former["state"] == "done":
                say(f"{out} holds this run, and it is done; --force runs it again")
                _remove_checkpoints(out)
                barrier()
                return _finished(recipe, out, former)
            sweep(out)
        checkpoints = Checkpoints(out / "resume", checkpoint_identity(head), seconds=checkpoint_seconds, keep=keep)
        return _run(job, head, checkpoints, check)


def _run(job: _Job, head: dict[str, Any], checkpoints: Checkpoints, check: Check | None) -> Result:
    recipe, out = job.recipe, job.out

    def note(**more: Any) -> None:
        places: dict[str, Any] = {"resumed_from": checkpoints.resumed_from} if checkpoints.resumed_from else {}
        checked = {} if check is None else {"check": check.as_data()}
        atomic_write(out / "run.json", json.dumps({**head, **places, **checked, **more}, indent=2))

    def look() -> None:
        nonlocal check
        check = job.check(check)
        _say(check.lines() if check is not None else [])
        with suppress(UserError):  # a full disk ends no training, and the end of the run writes it again
            note(state="running")

    note(state="running")
    barrier()
    try:
        with signals_over_errors():
            result = job.train(checkpoints, look, out)
    except (KeyboardInterrupt, SystemExit):
        try:
            if not (out / "checkpoint").is_dir():
                save_directory(recipe.student, out / "checkpoint")
            atomic_write(out / "checkpoint" / "recipe.json", json.dumps(head, indent=2))
            note(state="interrupted")
        except UserError as error:
            say(str(error))  # and end as requested: what was written before is valid
        where = f"resumes from {checkpoints.last}" if checkpoints.last else "starts from the beginning"
        say(f"stopped; the same command {where}; the present student is in {out / 'checkpoint'}")
        raise
    except UserError as error:
        note(state=f"failed: {error}")
        raise
    result.student.trained_length = recipe.max_length
    save_directory(result.student, out / "student", recipe=head)
    if result.projections:
        atomic_write(out / "student" / PROJECTIONS, save_arrays(arrays_of(result.projections)))
    for name, other in list(result.cut.items())[1:]:
        save_directory(other.student, out / f"student-{name}", recipe=head)
    if check is not None and not job.debug:
        check = replace(check, after=after_lines(check, recipe, result.scores.get("dev", {}), result.curve))
        _say([summary(check, result.scores.get("dev", {})), *(f"WARNING: {line}" for line in check.after)])
    note(
        state="done",
        scores=result.scores,
        parameters=result.student.count_params(),
        teacher=_teacher(recipe),
        cut={name: {"parameters": c.student.count_params(), "scores": c.scores} for name, c in result.cut.items()},
        steps=result.steps,
        seconds=result.seconds,
        **({"gradient_norms": result.gradient_norms} if job.gradient_norms else {}),
        **({"agreement": result.agreement} if result.agreement else {}),
    )
    _remove_checkpoints(out)
    return result


def _teacher(recipe: Recipe) -> dict[str, Any] | None:
    if isinstance(recipe.teacher, AnswersTeacher):
        return {"answers": recipe.teacher.name}
    return None if recipe.teacher is None else {"parameters": recipe.teacher.count_params()}


def _follow(job: _Job, head: dict[str, Any]) -> Result:
    """Train as one of the other workers: from the first worker's checkpoint, without writing anything."""
    barrier()
    first = read_run(job.out)
    if first["state"] == "done":
        return _finished(job.recipe, job.out, first)
    require_same_command(head, first)
    checkpoints = Checkpoints(job.out / "resume", checkpoint_identity(first), read_only=True)
    return job.train(checkpoints, job.check)


def _say(lines: Iterable[str]) -> None:
    for line in filter(None, lines):
        say(line)


def _remove_checkpoints(out: Path) -> None:
    for name in ("checkpoint", "resume"):
        shutil.rmtree(out / name, ignore_errors=True)


def _finished(recipe: Recipe, out: Path, done: dict[str, Any]) -> Result:
    """Return the result of a run that is done, from its directory."""
    student = load_directory(out / "student")
    result = Result(student, scores=done["scores"], seconds=done["seconds"])
    result.learning_rate = recipe.stages[-1].learning_rate
    result.gradient_norms, result.agreement = done.get("gradient_norms", {}), done.get("agreement", {})
    for place, (name, cut) in enumerate(done["cut"].items()):
        model = student if place == 0 else load_directory(out / f"student-{name}")
        result.cut[name] = Cut(model, cut["scores"])
    if not result.cut:
        recipe.student.set_weights(student.get_weights())
        result.student = recipe.student
    result.student.trained_length = recipe.max_length
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    result.curve = [{key: value for key, value in line.items() if key != "time"} for line in lines]
    return result
