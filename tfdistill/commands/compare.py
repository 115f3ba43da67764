"""Run `tfdistill compare`: compression factor → score of runs and bundles, as in the papers. Imports no TensorFlow.

The compression factor is the number of teacher parameters ÷ that of student parameters, embeddings included.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tfdistill.commands.compare_rows import PUBLISHED, Row, rows_of
from tfdistill.commands.compare_table import as_table, check_plot, left_out, write_plot
from tfdistill.commands.options import JsonOption
from tfdistill.system.console import Console, say, show_table

__all__ = ["PUBLISHED", "Row", "as_table", "compare", "rows_of", "write_plot"]


def compare(
    sources: Annotated[list[Path] | None, typer.Argument(help="runs and bundles")] = None,
    teacher: Annotated[Path | None, typer.Option("--teacher", help="run of the teacher (default: of finetune)")] = None,
    split: Annotated[str | None, typer.Option("--split", help="test or dev (default: test if all have it)")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="score to compare (default: each run's first)")] = None,
    bench: Annotated[Path | None, typer.Option("--bench", help="file with the output of bench --json")] = None,
    published: Annotated[bool, typer.Option("--published", help="also the papers' results on MRPC")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="picture to write: .png, .svg or .pdf")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs and bundles: compression factor, score, share of the teacher's score, size and latency.

    Example: `tfdistill compare TEACHER RUN1 RUN2 BUNDLE --plot compare.png`
    """
    if plot is not None:
        check_plot(plot)
    rows = rows_of(sources or [], teacher=teacher, split=split, metric=metric, bench=bench, published=published)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        width = Console().width
        show_table(as_table(rows, width))
        if missing := left_out(rows, width):
            say(f"not shown in {width} characters: {', '.join(missing)}; a wider terminal or --json shows them")
    if plot is not None:
        drawn = sum(row.factor is not None and row.score is not None for row in rows)
        say(f"{write_plot(rows, plot)}: {drawn} of {len(rows)} rows, score over compression factor")
