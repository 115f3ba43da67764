"""Run `tfdistill quickstart`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tfdistill.commands.options import OutOption, SeedOption
from tfdistill.commands.tables import show_next
from tfdistill.errors import optional
from tfdistill.system.files import require_new
from tfdistill.system.tensorflow_import import import_tensorflow


def quickstart(
    fast: Annotated[bool, typer.Option("--fast", help="a small part of the data and few steps: minutes")] = False,
    out: OutOption = Path("quickstart"),
    seed: SeedOption = 1,
    force: Annotated[bool, typer.Option("--force", help="replace a former quickstart at --out")] = False,
) -> None:
    """Distil a real BERT into quantized TFLite files, and compare them in a table and a page.

    Example: `tfdistill quickstart --fast --out quickstart`
    """
    require_new(out, "report.json" if force else None, "Choose a new name, or use --force to replace a quickstart.")
    for library in ("sklearn", "matplotlib"):
        optional(library, "quickstart")
    import_tensorflow()
    from tfdistill.commands.quickstart_job import run_quickstart

    run_quickstart(out, fast=fast, seed=seed, command=" ".join(["tfdistill", *sys.argv[1:]]))
    show_next("tfdistill", "example-data", "intents.tsv")
