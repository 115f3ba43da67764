"""`tfdistill recipes`: list the recipes, or show one."""

from __future__ import annotations

from typing import Annotated

import typer

from tfdistill.system.console import make_table, show_prose, show_table


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

    rows = []
    for name in names():
        text = docstring(name)
        fields = {line.partition(":")[0]: line.partition(":")[2].strip() for line in text.splitlines()}
        paper = " ".join(text.split("\n\n")[0].split())
        rows.append((name, paper, fields.get("Idea", ""), fields.get("Published", "")))
    headings = ("name", "paper", "idea", "published")
    show_table(make_table(headings, rows, title="recipes", left=headings))


def _show(name: str) -> None:
    from tfdistill.recipes import find
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    from tfdistill.training.settings import described

    module = find(name)
    # Prose is wrapped to the terminal; formulas and lists of fields keep their lines.
    paragraphs = (module.__doc__ or "").strip().split("\n\n")
    prose = [part if part.startswith((" ", "Idea:")) else part.replace("\n", " ") for part in paragraphs]
    show_prose("\n\n".join(prose))
    headings = ("key", "default", "meaning")
    show_table(make_table(headings, described(module.Settings), title="settings (--set key=value)", left=headings))
