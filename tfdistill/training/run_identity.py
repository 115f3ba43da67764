"""Describe a run for run.json, and decide whether a directory holds the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tfdistill.distill.step import plain
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.repository import commit_of
from tfdistill.system.console import say
from tfdistill.system.files import is_free, read_json, require_new
from tfdistill.system.identity import as_json, differences, digest, summary
from tfdistill.system.reproducibility import CLOCK, reproducible, versions
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.checkpoint import is_left_over
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage
from tfdistill.training.teacher_cache import TeacherCache

_DURATION = ("exact_steps", "minutes")  # what `--resume` may change of a stage
_ADVICE = "Choose another `--out`, or use `--force` to replace it."


def describe(recipe: Recipe, seed: int, debug: bool, cache: TeacherCache) -> dict[str, Any]:
    """Return what run.json says about a run before it begins."""
    trained = [id(stage.teacher or recipe.teacher) for stage in recipe.stages if stage.train_teacher]
    teachers = [*recipe.teachers, *(stage.teacher for stage in recipe.stages if stage.teacher is not None)]
    frozen = {id(teacher): teacher for teacher in teachers if id(teacher) not in trained}
    weights = list(recipe.teacher_weights or [1.0] * len(recipe.teachers))
    head: dict[str, Any] = {
        "recipe": recipe.name,
        **recipe.about,
        "settings": recipe.settings,
        "stages": [stage_as_data(stage) for stage in recipe.stages],
        "data": {} if recipe.data is None else {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint},
        "max_length": recipe.max_length,
        "seed": seed,
        "debug": debug,
        **({"teacher_cache": cache.name} if recipe.teachers else {}),
        **({"teacher_weights": weights} if recipe.other_teachers else {}),
        "execution": recipe.execution.as_data(),
        # SHA-256 of weights and config at the start. The stages describe teachers that are trained.
        "weights": {"student": identity(recipe.student), "teachers": [_identity(each) for each in frozen.values()]},
        **revisions(recipe, frozen.values()),
        "versions": versions(),
        "reproducible": reproducible(recipe.breaks),
    }
    return dict(as_json(head))


def revisions(recipe: Recipe, teachers: Iterable[Any]) -> dict[str, Any]:
    """Return the commits of models from the Hugging Face hub, as the part "revisions" of run.json; empty without any."""
    student = commit_of(getattr(recipe.student, "loaded_from", None))
    commits = [commit for each in teachers if (commit := commit_of(getattr(each, "loaded_from", None)))]
    parts = {"student": student, "teachers": commits}
    return {"revisions": {key: value for key, value in parts.items() if value}} if student or commits else {}


def _identity(teacher: Any) -> str:
    return f"answers {teacher.fingerprint}" if isinstance(teacher, AnswersTeacher) else identity(teacher)


def stage_as_data(stage: Stage) -> dict[str, Any]:
    """Return a stage as plain values: every field of it and of its terms, callables by their qualified names."""
    models = ("teacher", "student")
    data = {each.name: plain(getattr(stage, each.name)) for each in fields(Stage) if each.name not in models}
    texts = {name: getattr(stage, name) for name in ("source", "held_out")}
    data |= {
        name: text and f"{len(text)} sequences {getattr(text, 'fingerprint', '')}".rstrip()
        for name, text in texts.items()
    }
    return {**data, "terms": [term.as_data() for term in stage.terms]}


def checkpoint_identity(head: Mapping[str, Any]) -> str:
    """Return the identity of a run for its checkpoints, which start weights and duration do not change."""
    return digest(_identifying(head, start=False, duration=False))


def _identifying(head: Mapping[str, Any], *, start: bool = True, duration: bool = True) -> dict[str, Any]:
    """Return the parts of run.json that identify a run, perhaps without start weights and duration."""
    reading = ("versions", "reproducible", "state", "resumed_from", *_RESULTS)
    kept = {key: value for key, value in head.items() if key not in reading}
    kept["data"] = {"fingerprint": head["data"].get("fingerprint")}
    free = () if duration else _DURATION
    kept["stages"] = [{key: stage[key] for key in stage if key not in free} for stage in head["stages"]]
    for part in ("weights", "revisions"):
        if part in head:
            kept[part] = {key: value for key, value in head[part].items() if start or key != "student"}
    return kept


_RESULTS = ("check", "scores", "parameters", "teacher", "cut", "steps", "seconds", "gradient_norms", "agreement")


def require_same_run(out: Path, head: Mapping[str, Any], former: Mapping[str, Any], resume: bool) -> None:
    """Check that run.json at `out` describes the run `head`. With `resume` start weights and duration may differ.

    Raises UserError with the differences.
    """
    done = former["state"] == "done"
    duration = not resume or done  # the checkpoints of a run that is done are gone
    try:
        then = _identifying(former, start=not resume, duration=duration)
    except (KeyError, AttributeError, TypeError):
        then = dict(former)
    other = differences(_identifying(head, start=not resume, duration=duration), then)
    if other:
        changes = [key for key in other if not (key == "weights.student" or key.rpartition(".")[2] in _DURATION)]
        hint = "" if changes or resume or done else "Use `--resume` to continue it. "
        raise UserError(f"{out} holds another run: {summary(other.values())}. {hint}{_ADVICE}")


def require_same_command(head: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Check that this worker has the recipe of the first worker. Raises UserError otherwise."""
    other = differences(_identifying(head, start=False), _identifying(first, start=False))
    if other:
        raise UserError(
            f"This worker has another run than the first one: {summary(other.values())}. Use the same command on all workers."
        )


def with_changes(head: dict[str, Any], former: dict[str, Any]) -> dict[str, Any]:
    """Return `head` for a run that resumes, with its first start weights and all changes of versions and devices so far."""
    now, then = head["reproducible"], former["reproducible"]
    if CLOCK in then.get("breaks", "") and CLOCK not in now.get("breaks", ""):  # steps may end it now
        now = reproducible((CLOCK,))
    ignored = ("bit_for_bit", "needs", "breaks", "changed")
    changed = list(differences(head["versions"], former["versions"]).values())
    changed += differences(*({key: each[key] for key in now if key not in ignored} for each in (now, then))).values()
    if changed and former["state"] != "done":
        say(f"since the run began, {'; '.join(changed)}: results may differ in the last digits")
    changed = [*then.get("changed", []), *changed]
    if changed:
        now = {**now, "bit_for_bit": False, "changed": changed}
    return {**head, "weights": former["weights"], "reproducible": now}


def require_run(out: Path, resume: bool, force: bool = False) -> None:
    """Check that `out` is free or holds a run; with `resume` that it holds one. Raises UserError otherwise."""
    if force and resume:
        raise UserError("`--force` starts over, and `--resume` continues. Use one of them.")
    if not is_free(out, is_left_over):
        require_new(out, "run.json")
    elif resume:
        raise UserError(f"{out} holds no run to resume. Remove `--resume` to start one.")


def read_run(out: Path) -> dict[str, Any]:
    """Read run.json. Raises UserError if it cannot be read or does not describe a run."""
    path = out / "run.json"
    former = read_json(path, _ADVICE)
    if "recipe" not in former or "state" not in former:
        raise UserError(f"{path} does not describe a run of tfdistill. {_ADVICE}")
    return former
