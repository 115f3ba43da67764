"""`--task glue/mrpc`: the data of a task, and the settings that a recipe's paper has for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from tfdistill.data import glue
from tfdistill.errors import UserError, listing, nearest
from tfdistill.system.console import say


def data_and_settings(
    task: str | None, data: str | None, settings: Sequence[str], recipe: ModuleType | None = None
) -> tuple[str, list[str]]:
    """(what `--data` names, `key=value` settings): those of the recipe's `GLUE` for this task, and then the given ones.

    Without `data` it is the task in TensorFlow Datasets. Raises UserError for a task that GLUE has not, or if neither is given.
    """
    if task is None:
        if data is None:
            raise UserError("neither --data nor --task was given; expected one, such as --data DIR or --task glue/mrpc")
        return data, list(settings)
    suite, _, name = task.partition("/")
    if suite != "glue" or name not in glue.GLUE:
        near = nearest(name or task, glue.GLUE)
        raise UserError(f"--task {task} is unknown; expected glue/ and one of {listing(glue.GLUE)}{near}")
    published = list(getattr(recipe, "GLUE", {}).get(name, ()))
    if published:
        say(f"published settings for {task}: {', '.join(published)} (--set changes them)")
    return data or f"tfds:{task}", [*published, *settings]
