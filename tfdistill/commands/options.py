"""Command-line options that several verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from tfdistill.errors import UserError

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

_COLUMNS = {
    "text": "the column with the texts, if it is not called text",
    "text_b": "the column with the second text of a pair, if it is not called text_b",
    "label": "the column with the labels, if it is not called label",
}


def with_column_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb with the option `--data` or `--file` take the names of the columns too; they become part of the name of the data."""
    signature = inspect.signature(verb, eval_str=True)
    source = "data" if "data" in signature.parameters else "file"

    @wraps(verb)
    def call(**values: Any) -> None:
        from tfdistill.data.columns import OPTIONS, with_columns

        given = {role: values.pop(f"{role}_column", None) for role in _COLUMNS}
        columns = {role: name for role, name in given.items() if name is not None}
        if columns:
            options = " ".join(OPTIONS[role] for role in columns)
            if values[source] is None:
                raise UserError(f"`{options}` needs `--{source}`, a .tsv, .csv or .jsonl file or a directory of them")
            values[source] = with_columns(values[source], columns)
        verb(**values)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()]
    columns = [
        inspect.Parameter(
            f"{role}_column",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(f"--{role.replace('_', '-')}-column", help=text)],
        )
        for role, text in _COLUMNS.items()
    ]
    place = 1 + [each.name for each in parameters].index(source)
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*parameters[:place], *columns, *parameters[place:]]
    )
    return call


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers from text such as `16,32,64`, sorted and without repeats.

    Raises:
        UserError: the text is anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"received {option} {text}. Give whole numbers above 0, such as 16,32,64")
    return tuple(sorted({int(part) for part in parts}))
