"""Run directories: a recipe trained into a folder that says how, with which versions, and what came out, and that goes on
exactly where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_arrays

from tfdistill.training.teacher_outputs import reasons
from tfdistill.training.checkpoint import LOCK, PROJECTIONS, Checkpoints, arrays_of, clear, identity, is_left_over, locked, sweep
from tfdistill.errors import UserError
from tfdistill.system.files import atomic_write, require_new
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.system.console import say
from tfdistill.training.recipe import Recipe
from tfdistill.system.reproducibility import reproducible, versions
from tfdistill.training.runner import Cut, Result, train
from tfdistill.training.trainer import Stage
from tfdistill.system.signals import heard
from tfdistill.system.devices import is_chief, meet
from tfdistill.training.teacher_cache import TeacherCache

DEBUG_STEPS, DEBUG_ROWS = 3, 64
_DEFAULT = TeacherCache().name


def _debug(recipe: Recipe) -> Recipe:
    """A few rows of each split, for `--debug`."""
    data: Any = recipe.data
    splits = {name: split.take(range(min(len(split), DEBUG_ROWS))) for name, split in data.splits.items()}
    return replace(recipe, data=replace(data, splits=splits))


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
    out, teacher_cache = Path(out), teacher_cache or TeacherCache()
    reasons(recipe, teacher_cache)
    one_of(force, resume)
    head = _head(recipe, seed, debug, teacher_cache)
    if not is_chief():
        return _follow(recipe, out, head, seed, debug, gradient_norms, teacher_cache)
    with opened(out, force, resume) as former:
        if former is None:
            clear(out)
        else:
            head = _go_on(out, head, former, resume)
            if is_over(out, former):
                meet()
                return _finished(recipe, out, former)
        checkpoints = Checkpoints(out / "resume", _identity(head), seconds=checkpoint_seconds, keep=keep)
        return _run(recipe, out, head, checkpoints, seed, debug, gradient_norms, teacher_cache)


def _run(
    recipe: Recipe,
    out: Path,
    head: dict[str, Any],
    checkpoints: Checkpoints,
    seed: int,
    debug: bool,
    gradient_norms: bool,
    teacher_cache: TeacherCache,
) -> Result:
    def note(**more: Any) -> None:
        places = {"went_on_from": checkpoints.taken_up} if checkpoints.taken_up else {}
        atomic_write(out / "run.json", json.dumps({**head, **places, **more}, indent=2))

    note(state="running")
    meet()
    try:
        with heard():
            result = train(
                _debug(recipe) if debug else recipe,
                seed=seed,
                out=out,
                max_steps=DEBUG_STEPS if debug else None,
                gradient_norms=gradient_norms,
                checkpoints=checkpoints,
                teacher_cache=teacher_cache,
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
        "data": {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint},
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
    teacher_cache: TeacherCache,
) -> Result:
    """What the other workers do: the chief's training, from its checkpoint, without writing anything.

    Raises UserError where this worker was given another recipe than the chief.
    """
    meet()
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
        _debug(recipe) if debug else recipe,
        seed=seed,
        max_steps=DEBUG_STEPS if debug else None,
        gradient_norms=gradient_norms,
        checkpoints=Checkpoints(out / "resume", _identity(head), read_only=True),
        teacher_cache=teacher_cache,
    )


def _identity(head: dict[str, Any]) -> str:
    """Of the run that a checkpoint is of."""
    same = _same(head)
    if same.get("teacher_cache") == _DEFAULT:  # so that runs from before there was a choice go on
        del same["teacher_cache"]
    if not same.get("execution"):
        same.pop("execution", None)
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def remove_checkpoints(out: Path) -> None:
    for name in ("checkpoint", "resume"):
        shutil.rmtree(out / name, ignore_errors=True)


# --- runs that are there already ------------------------------------------------------------------------------------


def one_of(force: bool, resume: bool) -> None:
    """Raises UserError where both are given."""
    if force and resume:
        raise UserError("--force and --resume were given; expected one of them: --force starts anew, --resume goes on")


def require_run(out: Path, resume: bool) -> None:
    """Raises UserError where `out` is neither free nor a run; with `resume` also where it is free."""
    if not _is_free(out) and not (out / "run.json").is_file():
        require_new(out, None, "")
    if _is_free(out) and resume:
        raise UserError(f"{out} holds no run to go on with; leave --resume out to start one")


@contextmanager
def opened(out: Path, force: bool, resume: bool) -> Iterator[dict[str, Any] | None]:
    """Keep other processes out of a run directory; yields what its run.json says, None where a run begins.

    Raises UserError as `require_run` and `locked`, and for a run.json that cannot be read.
    """
    require_run(out, resume)
    with locked(out):
        yield None if force or _is_free(out) else _read(out)


def is_over(out: Path, former: dict[str, Any]) -> bool:
    """Whether the run that a directory holds is done, which a line says then; else what it left half-written is swept away."""
    if former["state"] != "done":
        sweep(out)
        return False
    say(f"{out} holds this run, and it is done; --force runs it again")
    remove_checkpoints(out)
    return True


def with_changes(head: dict[str, Any], former: dict[str, Any]) -> dict[str, Any]:
    """`head`, which notes what has changed since `former` of versions, machine and devices; one line says so where the run goes on."""
    changed = [text for part in ("versions", "reproducible") for text in _changes(head[part], former.get(part) or {})]
    if changed and former["state"] != "done":
        say(f"since the run began, {'; '.join(changed)}: the last digits may now be others than without a stop")
    changed = [*(former.get("reproducible") or {}).get("changed", []), *changed]
    if not changed:
        return head
    return {**head, "reproducible": {**head["reproducible"], "bit_for_bit": False, "changed": changed}}


def _is_free(out: Path) -> bool:
    """Whether there is nothing at `out` but perhaps what a process left that was killed before it began."""
    return not out.exists() or (
        out.is_dir() and all(path.name == LOCK or is_left_over(path.name) for path in out.iterdir())
    )


def _read(out: Path) -> dict[str, Any]:
    path = out / "run.json"
    try:
        former = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({error}); expected a run of tfdistill: choose another --out, or --force"
        ) from error
    if not isinstance(former, dict) or "recipe" not in former or "state" not in former:
        raise UserError(f"{path} is of no run of tfdistill; choose another --out, or --force to replace it")
    return former


def _same(head: dict[str, Any], start: bool = False) -> dict[str, Any]:
    """What has to be the same for a run to go on: all but what is for reading alone. `start`: the student's first weights too."""
    free = ("versions", "reproducible")
    kept = {key: value for key, value in head.items() if key not in free}
    kept["data"] = {"fingerprint": head["data"].get("fingerprint")}
    kept["weights"] = {key: value for key, value in head["weights"].items() if start or key != "student"}
    return kept


def _go_on(out: Path, head: dict[str, Any], former: dict[str, Any], resume: bool) -> dict[str, Any]:
    """`head` for a run that goes on. Raises UserError where `former` is of another recipe."""
    then = {key: former.get(key) for key in head} | {key: former.get(key) or {} for key in ("data", "weights")}
    then["execution"] = former.get("execution", {})
    if "teacher_cache" in head:
        then["teacher_cache"] = former.get("teacher_cache", _DEFAULT)
    advice = "--resume to go on with the student that is there"
    start = not resume
    require_same(out, _same(head, start=start), _same(then, start=start), "weights.student", advice)
    return {**with_changes(head, former), "weights": former["weights"]}


def require_same(out: Path, now: dict[str, Any], then: dict[str, Any], free: str, advice: str) -> None:
    """Raises UserError with the differences of the run at `out`, and with the `advice`, if any, where all lie under the key `free`."""
    other = _differences(now, then)
    if other:
        shown = "; ".join(other[:3]) + (f"; and {len(other) - 3} more" if len(other) > 3 else "")
        hint = f", {advice}" if advice and all(each.startswith((f"{free} ", f"{free}.")) for each in other) else ""
        raise UserError(f"{out} holds another run: {shown}; choose another --out{hint}, or --force to replace it")


def _changes(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """Differences in what both say of versions or machine, but for what follows from the rest."""
    both = [key for key in now if key in then and key not in ("bit_for_bit", "needs", "breaks", "changed")]
    return _differences({key: now[key] for key in both}, {key: then[key] for key in both})


def _differences(now: Any, then: Any, name: str = "") -> list[str]:
    """Each value that is another one, "settings.epochs is 4, there 3"."""
    if isinstance(now, dict) and isinstance(then, dict):
        keys = [*now, *(key for key in then if key not in now)]
        return [
            text
            for key in keys
            for text in _differences(now.get(key), then.get(key), f"{name}.{key}" if name else str(key))
        ]
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [
            text
            for place, pair in enumerate(zip(now, then, strict=True))
            for text in _differences(*pair, f"{name}.{place}")
        ]
    if now == then:
        return []
    return [f"{name} is {json.dumps(now)[:60]}, there {json.dumps(then)[:60]}"]


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


def _weights(recipe: Recipe) -> dict[str, Any]:
    """SHA-256 of the weights that the models have at the start and of their config; of teachers that learn, the stages say enough."""
    trained = [id(stage.teacher or recipe.teacher) for stage in recipe.stages if stage.train_teacher]
    teachers = [*recipe.teachers, *(stage.teacher for stage in recipe.stages if stage.teacher is not None)]
    different = {id(teacher): teacher for teacher in teachers if id(teacher) not in trained}
    return {
        "student": identity(recipe.student),
        "teachers": [identity(teacher) for teacher in different.values()],
    }


def _teacher_weights(recipe: Recipe) -> list[float]:
    return list(recipe.teacher_weights or [1.0] * len(recipe.teachers))


def stage_as_data(stage: Stage) -> dict[str, Any]:
    """A stage as plain values, for run.json."""
    terms = []
    for term in stage.terms:
        entry: dict[str, Any] = {"term": type(term).__name__, "name": term.name, "weight": term.weight}
        for key in ("on", "teacher_on", "layers", "project", "where", "options", "smoothing"):
            if getattr(term, key, None):
                entry[key] = getattr(term, key)
        loss = getattr(term, "loss", None)
        if callable(loss):
            entry["loss"] = getattr(loss, "__name__", type(loss).__name__)
        terms.append(entry)
    plain = {
        key: value
        for key, value in stage.__dict__.items()
        if key not in ("terms", "teacher", "student", "source", "before")
    }
    if stage.before is not None:
        plain["before"] = re.sub(r" at 0x[0-9a-f]+", "", repr(stage.before))  # of a function: where it lies in memory
    source = stage.source
    said = None if source is None else f"{len(source)} sequences {getattr(source, 'fingerprint', '')}".rstrip()
    return {**plain, "source": said, "terms": terms}
