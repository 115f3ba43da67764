"""Check that a name leads to a model directory, and say what it leads to otherwise."""

from __future__ import annotations

import difflib
from pathlib import Path

from tfdistill.errors import UserError
from tfdistill.models.google_config import GOOGLE_CONFIG
from tfdistill.system.files import student_directory

RUN = "run.json"
_CONFIGS = ("config.json", GOOGLE_CONFIG)


def require_model_directory(source: str, other: str = "") -> Path:
    """Return the directory of a model, which for a run directory is that of its student.

    Args:
        source: its name.
        other: what else could be given, for the message about a directory that does not exist.

    Raises:
        UserError: there is no model; the message proposes what was probably meant.
    """
    directory = student_directory(source)
    if is_model(directory):
        return directory
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        others = f", {other}," if other else ""
        raise UserError(f"{directory} {what}{_meant(directory)} Give a model directory, a run{others} or demo:minilm.")
    if (directory / RUN).is_file():
        raise UserError(f"{directory} is a run that has not finished. Run its command again.")
    if (directory / "manifest.json").is_file():
        raise UserError(
            f"{directory} is a bundle, which predict, verify and bench read. Give the model that it was exported from."
        )
    inside = [each for each in sorted(directory.iterdir()) if each.is_dir() and is_model(student_directory(each))]
    hint = f"; did you mean {inside[0]}" if inside else ""
    raise UserError(
        f"{directory} has no {_CONFIGS[0]}, so it is not a model{hint}{'?' if inside else '.'} "
        f"Give a directory with {_CONFIGS[0]}, model.safetensors and the tokenizer."
    )


def is_model(directory: Path) -> bool:
    """Return whether a directory has the config of a model."""
    return any((directory / name).is_file() for name in _CONFIGS)


def _meant(directory: Path) -> str:
    """Return the end of a sentence that proposes a directory of a similar name, or the run around it, if there is one."""
    parent = directory.parent
    siblings = [each for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    close = difflib.get_close_matches(directory.name, [each.name for each in siblings], n=1)
    if close:
        return f"; did you mean {parent / close[0]}?"
    return f"; did you mean {parent}?" if parent != Path() and is_model(student_directory(parent)) else "."
