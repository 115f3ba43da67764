"""Read how a stored model was trained, from the recipe.json of its directory."""

from __future__ import annotations

from typing import Any

from tfdistill.errors import UserError
from tfdistill.models.names import kept_directory
from tfdistill.system.console import say
from tfdistill.system.files import read_json

DEFAULT_LENGTH = 64  # tokens of an example, for training without a teacher's length, and for models of unknown training


def recipe_of(source: str) -> dict[str, Any]:
    """Return recipe.json of a student directory or of the student of a run; empty if it is missing or damaged."""
    directory = kept_directory(source) if source else None
    if directory is None or not (directory / "recipe.json").exists():
        return {}
    path = directory / "recipe.json"
    try:
        return read_json(path, "remove it")
    except UserError as error:
        say(f"how the model was trained is unknown: {error}")
        return {}


def max_length_of(source: str) -> int:
    """Return the number of tokens that a model was trained with; `DEFAULT_LENGTH` if its directory does not say so."""
    return _length_in(recipe_of(source)) or DEFAULT_LENGTH


def trained_length(model: Any) -> int | None:
    """Return the number of tokens that a model was trained with; None if that is not known."""
    return model.trained_length or _length_in(recipe_of(model.loaded_from or ""))


def _length_in(recipe: dict[str, Any]) -> int | None:
    length = recipe.get("max_length")
    return length if type(length) is int and length >= 3 else None
