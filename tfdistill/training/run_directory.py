"""Run directories: a recipe trained into a folder that says how, with which versions, and what came out, and that goes on
exactly where it was stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_arrays

from tfdistill.errors import UserError
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.system.console import say
from tfdistill.system.files import LOCK, atomic_write, is_free
from tfdistill.system.locks import locked
from tfdistill.system.reproducibility import reproducible, versions
from tfdistill.system.signals import signals_over_errors
from tfdistill.system.workers import barrier, is_chief
from tfdistill.training.checkpoint import PROJECTIONS, Checkpoints, arrays_of, clear, is_left_over, sweep
from tfdistill.training.recipe import Recipe, small
from tfdistill.training.run_identity import (
    _differences,
    _go_on,
    _identity,
    _read,
    _same,
    _teacher_weights,
    _weights,
    one_of,
    require_run,
    stage_as_data,
)
from tfdistill.training.runner import Cut, Result, train
from tfdistill.training.teacher_cache import TeacherCache
from tfdistill.training.teacher_outputs import TeacherPlan, teacher_plan

DEBUG_STEPS = 3


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
    """Train `recipe` into the run directory `out`, or go on with the run of the same recipe that was stopped there.

    It holds run.json (resolved recipe, versions, seed, scores), log.jsonl (one line for each scoring), student/ (the best one) and,
    while the run goes on or when it was stopped, checkpoint/ (the student as it stands) and resume/ (all that going on needs).
    However often it is killed, the student is on CPUs bit for bit that of a run that never stopped; run.json says under
    "reproducible" what that takes. A run that is done is not run again: its student and scores are returned (no `test_logits`).

    Args:
        resume: there has to be a run. The student may then start from other weights than those it had, which do not count.
        checkpoint_seconds: a checkpoint is written at a scoring, unless the last one is so fresh that this would cost more than a
            twentieth of the time, and after so many seconds without one.
        keep: how many checkpoints stay.
        teacher_cache: what is kept of the teacher's outputs in the cache folder; the logits by default. A run that is gone on
            with needs the same.

    Raises:
        UserError: `out` holds another run (and not `force`), or cannot be written, or another process trains into it; or no
            stage can use the teacher cache, or its disk is full.
    """
    out, plan = Path(out), teacher_plan(recipe, teacher_cache or TeacherCache())
    if plan.cache.keeps("cls"):
        for stage, reads in zip(recipe.stages, plan.stages, strict=True):
            if reads.reason:
                say(f"no teacher cache for '{stage.name}': {reads.reason}")
    one_of(force, resume)
    head = _head(recipe, seed, debug, plan.cache)
    if not is_chief():
        return _follow(recipe, out, head, seed, debug, gradient_norms, plan)
    with opened(out, force, resume) as former:
        if former is None:
            clear(out)
        else:
            head = _go_on(out, head, former, resume)
            if is_over(out, former):
                barrier()
                return _finished(recipe, out, former)
        checkpoints = Checkpoints(out / "resume", _identity(head), seconds=checkpoint_seconds, keep=keep)
        return _run(recipe, out, head, checkpoints, seed, debug, gradient_norms, plan)


def _run(
    recipe: Recipe,
    out: Path,
    head: dict[str, Any],
    checkpoints: Checkpoints,
    seed: int,
    debug: bool,
    gradient_norms: bool,
    plan: TeacherPlan,
) -> Result:
    def note(**more: Any) -> None:
        places = {"went_on_from": checkpoints.taken_up} if checkpoints.taken_up else {}
        atomic_write(out / "run.json", json.dumps({**head, **places, **more}, indent=2))

    note(state="running")
    barrier()
    try:
        with signals_over_errors():
            result = train(
                small(recipe) if debug else recipe,
                seed=seed,
                out=out,
                max_steps=DEBUG_STEPS if debug else None,
                gradient_norms=gradient_norms,
                checkpoints=checkpoints,
                plan=plan,
            )
    except (KeyboardInterrupt, SystemExit):
        try:
            if not (out / "checkpoint").is_dir():
                save_directory(recipe.student, out / "checkpoint")
            atomic_write(out / "checkpoint" / "recipe.json", json.dumps(head, indent=2))
            note(state="interrupted")
        except UserError as error:
            say(str(error))  # and end as asked: what was written before holds
        where = f"goes on from {checkpoints.last}" if checkpoints.last else "starts from the beginning"
        say(f"stopped; the same command {where}; the student as it stands is in {out / 'checkpoint'}")
        raise
    except UserError as error:
        note(state=f"failed: {error}")
        raise
    save_directory(result.student, out / "student", recipe=head)
    if result.projections:
        atomic_write(out / "student" / PROJECTIONS, save_arrays(arrays_of(result.projections)))
    for name, other in list(result.cut.items())[1:]:
        save_directory(other.student, out / f"student-{name}", recipe=head)
    note(
        state="done",
        scores=result.scores,
        parameters=result.student.count_params(),
        teacher=None if recipe.teacher is None else {"parameters": recipe.teacher.count_params()},
        cut={name: {"parameters": c.student.count_params(), "scores": c.scores} for name, c in result.cut.items()},
        seconds=result.seconds,
        **({"gradient_norms": result.gradient_norms} if gradient_norms else {}),
    )
    remove_checkpoints(out)
    return result


def _head(recipe: Recipe, seed: int, debug: bool, teacher_cache: TeacherCache) -> dict[str, Any]:
    """What run.json says of a run before it begins."""
    head: dict[str, Any] = {
        "recipe": recipe.name,
        "settings": recipe.settings,
        "stages": [stage_as_data(stage) for stage in recipe.stages],
        "data": {} if recipe.data is None else {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint},
        "max_length": recipe.max_length,
        "seed": seed,
        "debug": debug,
        **({"teacher_cache": teacher_cache.name} if recipe.teachers else {}),
        **({"teacher_weights": _teacher_weights(recipe)} if recipe.other_teachers else {}),
        "execution": recipe.execution.as_data(),
        "weights": _weights(recipe),
        "versions": versions(),
        "reproducible": reproducible(recipe.breaks),
    }
    return dict(json.loads(json.dumps(head)))


def _follow(
    recipe: Recipe,
    out: Path,
    own: dict[str, Any],
    seed: int,
    debug: bool,
    gradient_norms: bool,
    plan: TeacherPlan,
) -> Result:
    """What the other workers do: the chief's training, from its checkpoint, without writing anything.

    Raises UserError where this worker was given another recipe than the chief.
    """
    barrier()
    head = _read(out)
    if head["state"] == "done":
        return _finished(recipe, out, head)
    head = {key: value for key, value in head.items() if key not in ("state", "went_on_from")}
    other = _differences(_same(own), _same(head))
    if other:
        raise UserError(
            f"this worker was given another run than the first one: {'; '.join(other[:3])}; expected the same command on all workers"
        )
    return train(
        small(recipe) if debug else recipe,
        seed=seed,
        max_steps=DEBUG_STEPS if debug else None,
        gradient_norms=gradient_norms,
        checkpoints=Checkpoints(out / "resume", _identity(head), read_only=True),
        plan=plan,
    )


def remove_checkpoints(out: Path) -> None:
    for name in ("checkpoint", "resume"):
        shutil.rmtree(out / name, ignore_errors=True)


# --- runs that are there already ------------------------------------------------------------------------------------


@contextmanager
def opened(out: Path, force: bool, resume: bool) -> Iterator[dict[str, Any] | None]:
    """Keep other processes out of a run directory; yields what its run.json says, None where a run begins.

    Raises UserError as `require_run` and `locked`, and for a run.json that cannot be read.
    """
    require_run(out, resume)
    with locked(out / LOCK, f"trains into {out}"):
        yield None if force or is_free(out, is_left_over) else _read(out)


def is_over(out: Path, former: dict[str, Any]) -> bool:
    """Whether the run that a directory holds is done, which a line says then; else what it left half-written is swept away."""
    if former["state"] != "done":
        sweep(out)
        return False
    say(f"{out} holds this run, and it is done; --force runs it again")
    remove_checkpoints(out)
    return True


def _finished(recipe: Recipe, out: Path, done: dict[str, Any]) -> Result:
    """What the run gave, from its directory."""
    student = load_directory(out / "student")
    result = Result(student, scores=done["scores"], seconds=done["seconds"])
    result.learning_rate = recipe.stages[-1].learning_rate
    result.gradient_norms = done.get("gradient_norms", {})
    for place, (name, cut) in enumerate(done["cut"].items()):
        small = student if place == 0 else load_directory(out / f"student-{name}")
        result.cut[name] = Cut(small, cut["scores"])
    if not result.cut:
        recipe.student.set_weights(student.get_weights())
        result.student = recipe.student
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    result.curve = [{key: value for key, value in line.items() if key != "time"} for line in lines]
    return result


# --- what run.json says ---------------------------------------------------------------------------------------------
