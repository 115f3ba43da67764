"""`tfdistill recipes`: list the recipes, or show one."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


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

    table = Table(title="recipes")
    for column in ("name", "paper", "idea", "published"):
        table.add_column(column)
    for name in names():
        text = docstring(name)
        fields = {line.partition(":")[0]: line.partition(":")[2].strip() for line in text.splitlines()}
        paper = " ".join(text.split("\n\n")[0].split())
        table.add_row(name, paper, fields.get("Idea", ""), fields.get("Published", ""))
    Console().print(table)


def _show(name: str) -> None:
    from tfdistill.recipes import find
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    from tfdistill.training.settings import described

    module, console = find(name), Console()
    # Prose is wrapped to the terminal; formulas and lists of fields keep their lines.
    paragraphs = (module.__doc__ or "").strip().split("\n\n")
    prose = [part if part.startswith((" ", "Idea:")) else part.replace("\n", " ") for part in paragraphs]
    console.print("\n\n".join(prose), highlight=False, markup=False)
    table = Table(title="settings (--set key=value)")
    for column in ("key", "default", "meaning"):
        table.add_column(column)
    for row in described(module.Settings):
        table.add_row(*row)
    console.print(table)
