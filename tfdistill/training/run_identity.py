"""Decide whether a directory holds the same run."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.system.console import say
from tfdistill.system.files import is_free, require_new
from tfdistill.training.checkpoint import is_left_over
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage
from tfdistill.training.teacher_cache import TeacherCache

_DEFAULT = TeacherCache().name


def _identity(head: dict[str, Any]) -> str:
    """Of the run that a checkpoint is of."""
    same = _same(head)
    if same.get("teacher_cache") == _DEFAULT:  # so that runs from before there was a choice go on
        del same["teacher_cache"]
    if not same.get("execution"):
        same.pop("execution", None)
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def one_of(force: bool, resume: bool) -> None:
    """Raises UserError where both are given."""
    if force and resume:
        raise UserError("--force and --resume were given; expected one of them: --force starts anew, --resume goes on")


def require_run(out: Path, resume: bool) -> None:
    """Raises UserError where `out` is neither free nor a run; with `resume` also where it is free."""
    if is_free(out, is_left_over):
        if resume:
            raise UserError(f"{out} holds no run to go on with; leave --resume out to start one")
    else:
        require_new(out, "run.json")


def with_changes(head: dict[str, Any], former: dict[str, Any]) -> dict[str, Any]:
    """`head`, which notes what has changed since `former` of versions, machine and devices; one line says so where the run goes on."""
    changed = [text for part in ("versions", "reproducible") for text in _changes(head[part], former.get(part) or {})]
    if changed and former["state"] != "done":
        say(f"since the run began, {'; '.join(changed)}: the last digits may now be others than without a stop")
    changed = [*(former.get("reproducible") or {}).get("changed", []), *changed]
    if not changed:
        return head
    return {**head, "reproducible": {**head["reproducible"], "bit_for_bit": False, "changed": changed}}


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
    plain = {
        key: value
        for key, value in stage.__dict__.items()
        if key not in ("terms", "teacher", "student", "source", "before")
    }
    if stage.before is not None:
        plain["before"] = re.sub(r" at 0x[0-9a-f]+", "", repr(stage.before))  # of a function: where it lies in memory
    source = stage.source
    said = None if source is None else f"{len(source)} sequences {getattr(source, 'fingerprint', '')}".rstrip()
    return {**plain, "source": said, "terms": [term.as_data() for term in stage.terms]}
