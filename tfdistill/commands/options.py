"""Command-line options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfdistill.errors import UserError

if TYPE_CHECKING:
    pass

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="a .tsv, .csv or .jsonl file, a directory with train/dev/test, tfds:glue/TASK, conll:DIR, squad:DIR, "
        "demo:movie-snippets",
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="glue/TASK: reads its data (tfds:glue/TASK unless --data is set) and uses its published settings",
    ),
]
OutOption = Annotated[Path, typer.Option("--out", help="directory to write")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value, changes one setting; may be repeated")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="seed of all random numbers")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
ReplaceModelOption = Annotated[bool, typer.Option("--force", help="replace a model at --out")]


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers from text such as `16,32,64`, sorted and without repeats.

    Raises:
        UserError: the text is anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"received {option} {text}. Give whole numbers above 0, such as 16,32,64")
    return tuple(sorted({int(part) for part in parts}))
