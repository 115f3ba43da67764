"""Run directories: a recipe trained into a folder that says how, with which versions, and what came out."""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.files import atomic_write, require_new
from tfdistill.models.hf import save_directory
from tfdistill.progress import say
from tfdistill.recipe import Recipe
from tfdistill.runner import Result, train
from tfdistill.stages import Stage

DEBUG_STEPS, DEBUG_ROWS = 3, 64


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
) -> Result:
    """Train `recipe` into the run directory `out`.

    It holds run.json (resolved recipe, versions, seed, scores), log.jsonl (one line for each scoring), checkpoint/ (the last
    student, while the run goes on or when it was stopped) and student/ (the best one).

    Raises:
        UserError: `out` holds a run already (and not `force`), or cannot be written.
    """
    out = Path(out)
    require_new(out, "run.json" if force else None, ", or --force to replace a former run")
    if (out / "run.json").is_file():
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
            _debug(recipe) if debug else recipe,
            seed=seed,
            out=out,
            max_steps=DEBUG_STEPS if debug else None,
            gradient_norms=gradient_norms,
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
    for name, other in list(result.cut.items())[1:]:
        save_directory(other.student, out / f"student-{name}", recipe=head)
    done = {
        **head,
        "state": "done",
        "scores": result.scores,
        "parameters": result.student.count_params(),
        "teacher": None if recipe.teacher is None else {"parameters": recipe.teacher.count_params()},
        "cut": {name: {"parameters": c.student.count_params(), "scores": c.scores} for name, c in result.cut.items()},
        "seconds": result.seconds,
        **({"gradient_norms": result.gradient_norms} if gradient_norms else {}),
    }
    atomic_write(out / "run.json", json.dumps(done, indent=2))
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    return result


def stage_as_data(stage: Stage) -> dict[str, Any]:
    """A stage as plain values, for run.json."""
    terms = []
    for term in stage.terms:
        entry: dict[str, Any] = {"term": type(term).__name__, "name": term.name, "weight": term.weight}
        for key in ("on", "teacher_on", "layers", "project", "where", "options", "smoothing"):
            if getattr(term, key, None):
                entry[key] = getattr(term, key)
        terms.append(entry)
    plain = {
        key: value
        for key, value in stage.__dict__.items()
        if key not in ("terms", "teacher", "student", "source", "before")
    }
    if stage.before is not None:
        plain["before"] = repr(stage.before)
    return {**plain, "source": None if stage.source is None else f"{len(stage.source)} sequences", "terms": terms}
