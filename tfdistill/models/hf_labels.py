"""Read the class names of a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.models.class_order import is_unnamed
from tfdistill.models.config_fields import shown
from tfdistill.models.hf_config import CONFIG
from tfdistill.system.console import say
from tfdistill.system.files import read_utf8

LABELS = "labels.txt"
_LARGEST = 1 << 26  # bytes


def label_names_in(directory: Path, raw: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the class names in labels.txt, or else in a parsed config.json; None if there are none.

    Raises:
        UserError: labels.txt or `id2label` of config.json is damaged, or names a class twice.
    """
    path = directory / LABELS
    stated = _id2label(raw.get("id2label"), f"{directory / CONFIG}: `id2label`")
    names = None if is_unnamed(stated) else stated
    numbers = raw.get("label2id")
    expected = {name: number for number, name in enumerate(names or ())}
    if expected and isinstance(numbers, dict) and expected.keys() == numbers.keys() and expected != numbers:
        say(f"{directory / CONFIG}: `label2id` numbers the classes differently from `id2label`, which is taken.")
    if not (path.exists() or path.is_symlink()):
        return names
    advice = "save the class names in UTF-8, one on each line"
    lines = read_utf8(path, advice, _LARGEST).split("\n")
    listed = _different(tuple(lines[:-1] if lines[-1] == "" else lines), str(path))
    if names is not None and names != listed:
        one, other = (", ".join(shown(name) for name in each[:5]) for each in (listed, names))
        raise UserError(
            f"{path} and `id2label` of {CONFIG} name the classes differently: {one} and {other}. Correct one of them."
        )
    return None if is_unnamed(listed) else listed


def _id2label(named: Any, origin: str) -> tuple[str, ...]:
    if named is None:
        return ()
    if not isinstance(named, dict):
        raise UserError(f"{origin} is {shown(named)}. Use an object with the names of the classes 0, 1, 2, …")
    numbers = {int(key): name for key, name in named.items() if key.isdecimal() and len(key) < 10}
    if len(numbers) < len(named) or sorted(numbers) != list(range(len(numbers))):
        raise UserError(f"{origin} has the keys {shown(list(named))}. Use 0, 1, 2, … without gaps.")
    for number, name in numbers.items():
        if not isinstance(name, str | int | float):
            raise UserError(f"{origin} names class {number} {shown(name)}. Use a text.")
    return _different(tuple(str(numbers[number]) for number in range(len(numbers))), origin)


def _different(names: tuple[str, ...], origin: str) -> tuple[str, ...]:
    """Return class names. Raises UserError if one cannot be a line of labels.txt, or is there twice."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.isprintable() and any(each in name for each in "\n\r\0"):
            raise UserError(f"{origin} has the class name {shown(name)}. Use names without line breaks.")
        if name in seen:
            raise UserError(
                f"{origin} has {shown(name)} for the classes {seen[name]} and {number}. Use each name once."
            )
        seen[name] = number
    return names
