"""`tfdistill example-data`: write a small data set to try the commands with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfdistill.commands.tables import new_name, show_next
from tfdistill.data.example_data import ROWS, example_rows
from tfdistill.errors import UserError
from tfdistill.system.console import show
from tfdistill.system.files import atomic_write, require_file_place


def example_data(
    file: Annotated[Path, typer.Argument(help="a .tsv file to write")],
    rows: Annotated[int, typer.Option("--rows", min=100, max=5000, help="number of texts")] = ROWS,
    force: Annotated[bool, typer.Option("--force", help="replace the file")] = False,
) -> None:
    """Write short requests to a phone with their intents, as an example of a file with data of your own.

    Example: `tfdistill example-data intents.tsv`
    """
    if file.suffix.lower() != ".tsv":
        raise UserError(f"received {file}. Give a name that ends in .tsv.")
    if file.exists() and not force:
        raise UserError(f"{file} exists. Give another name, or replace it with `--force`.")
    require_file_place(file, "choose another name")
    lines = ["text\tlabel", *(f"{text}\t{intent}" for text, intent in example_rows(rows))]
    atomic_write(file, "\n".join(lines) + "\n", "choose another name")
    intents = {line.split("\t")[1] for line in lines[1:]}
    show(f"{file}: {rows:,} texts with {len(intents)} intents: {', '.join(sorted(intents))}")
    show_next("tfdistill", "finetune", "demo:minilm", "--data", file, "--set", "epochs=6", "--out", new_name("TEACHER"))
