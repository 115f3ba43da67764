"""`tfdistill recipes`: list the recipes, or show one."""

from __future__ import annotations

import shutil
import textwrap
from typing import Annotated

import typer

from tfdistill.system.console import show

_BEGIN = (
    "Begin with soft_targets: the student has some of the teacher's layers, and any teacher will do. bilstm makes a far "
    "smaller and faster student. `tfdistill recipes NAME` shows paper, command and settings of one."
)


def recipes(name: Annotated[str | None, typer.Argument(help="show this recipe in full")] = None) -> None:
    """List the recipes, or show one: paper, command, published score, settings.

    Example: `tfdistill recipes bilstm`
    """
    if name is None:
        _list()
    else:
        _show(name)


def _list() -> None:
    from tfdistill.recipes import docstring, names

    show(*textwrap.wrap(_BEGIN, _width()), "")
    indent = max(map(len, names())) + 2
    for name in names():
        text = docstring(name)
        fields = {line.partition(":")[0]: line.partition(":")[2].strip() for line in text.splitlines()}
        idea, paper = fields.get("Idea", ""), " ".join(text.split("\n\n")[0].split())
        show(*_entry(name, idea, indent), *_entry("", paper, indent))


def _show(name: str) -> None:
    from tfdistill.recipes import find
    from tfdistill.training.settings import described

    module = find(name)
    # Prose is wrapped to the terminal; formulas and lists of fields keep their lines.
    for part in (module.__doc__ or "").strip().split("\n\n"):
        plain = part.startswith((" ", "Idea:"))
        show(*(part.split("\n") if plain else textwrap.wrap(" ".join(part.split()), _width())), "")
    show("Settings, with their defaults (--set KEY=VALUE):")
    for key, default, meaning in described(module.Settings):
        default = "none" if default == "None" else default
        show(f"  {key}={default}" if default else f"  {key}  (required with its group)", *_entry("", meaning, 6))


def _entry(name: str, text: str, indent: int) -> list[str]:
    """Return a name, and a text that is wrapped next to it."""
    space = " " * indent
    return textwrap.wrap(
        text, _width(), initial_indent=name.ljust(indent), subsequent_indent=space, break_on_hyphens=False
    ) or [name]


def _width() -> int:
    return max(40, min(110, shutil.get_terminal_size().columns))
