"""Command-line options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
