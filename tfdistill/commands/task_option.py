"""The option `--task glue/mrpc`: the data of a task, and the settings that a recipe's paper has for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from tfdistill.data import glue
from tfdistill.errors import UserError, listing, nearest
from tfdistill.system.console import say


def data_and_settings(
    task: str | None, data: str | None, settings: Sequence[str], recipe: ModuleType | None = None
) -> tuple[str, list[str]]:
    """Return the data source and the settings of a task.

    Args:
        task: value of `--task`, such as glue/mrpc.
        data: value of `--data`; by default the task in TensorFlow Datasets.
        settings: `key=value` texts of the user.
        recipe: module of a recipe; its `GLUE` has the published settings of each task.

    Returns:
        The data source, and the published settings followed by the user's.

    Raises:
        UserError: GLUE has no such task, or both `task` and `data` are missing.
    """
    if task is None:
        if data is None:
            raise UserError("--data and --task are both missing. Give one, such as --data DIR or --task glue/mrpc.")
        return data, list(settings)
    suite, _, name = task.partition("/")
    if suite != "glue" or name not in glue.GLUE:
        near = nearest(name or task, glue.GLUE)
        raise UserError(f"--task {task} is unknown. Give glue/ and one of {listing(glue.GLUE)}{near}.")
    published = list(getattr(recipe, "GLUE", {}).get(name, ()))
    if published:
        say(f"published settings for {task}: {', '.join(published)} (--set changes them)")
    return data or f"tfds:{task}", [*published, *settings]
