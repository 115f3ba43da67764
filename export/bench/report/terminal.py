"""What `tfdistill bench` prints. Imports no TensorFlow."""

from __future__ import annotations

from typing import Any

from tfdistill.export.bench import profile as profiles
from tfdistill.export.bench.phone.android import as_table, remarks
from tfdistill.export.bench.report.bench_page import Measured, names_of


def show(measured: Measured, console: Any, *, compared: bool) -> None:
    """Print tables of what `tfdistill bench` measured.

    Args:
        measured: as for `write_bench_report`.
        console: a rich Console.
        compared: whether the results say how much `faster` than a baseline they are.
    """
    names = names_of(list(measured))
    first = next(iter(measured.values()))[0]
    if "phone" in first:
        firsts = [found[0] for found in measured.values()]
        console.print(as_table(list(measured), firsts))
        for line in remarks(list(measured), firsts):
            console.print(line, highlight=False)
    else:
        console.print(_table(measured, compared))
    for path, results in measured.items():
        for found in results:
            if "profile" in found:
                console.print(_operators(names[path], found["profile"]))
                for line in profiles.remarks(names[path], found["profile"]):
                    console.print(line, highlight=False)
            if "disagreements" in found:
                said = found["disagreements"]
                differing = f"{said['differing']} of {said['rows']} texts of {said['split']} get another answer"
                console.print(
                    f"{names[path]} against Keras: {differing}, largest difference {said['max_difference']:.4f}",
                    highlight=False,
                    soft_wrap=True,
                )


def _table(measured: Measured, compared: bool) -> Any:
    from rich import box
    from rich.table import Table

    names, results = names_of(list(measured)), [found for each in measured.values() for found in each]
    columns: dict[str, Any] = {
        "threads": lambda found: str(found["threads"]),
        "tokens": lambda found: str(found["tokens"]),
        "length": lambda found: str(found["length"]),
        "MB": lambda found: f"{found['bytes'] / 1e6:.1f}",
        "ms": lambda found: f"{found['latency_ms']['median']:.2f}",
        "p90": lambda found: f"{found['latency_ms']['p90']:.2f}",
        "cold ms": lambda found: f"{found['first_ms']:.0f}",
        "peak MB": lambda found: f"{found['peak_memory_mb']:.0f}",
    }
    if compared:
        columns["faster"] = lambda found: f"{found['faster']:.2f}×" if "faster" in found else "–"
    if all(found["tokens"] == found["length"] for found in results):
        del columns["length"]
    title = f"{min(found['runs'] for found in results)} runs of one text at a time, median"
    if len({found["threads"] for found in results}) == 1:
        del columns["threads"]
        title += f", {results[0]['threads']} thread{'' if results[0]['threads'] == 1 else 's'}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("file", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for path, found_of in measured.items():
        for found in found_of:
            table.add_row(names[path], *(cell(found) for cell in columns.values()))
    return table


def _operators(name: str, profile: dict[str, Any], most: int = 10) -> Any:
    from rich import box
    from rich.table import Table

    title = (
        f"{name}: {len(profile['operators'])} operators, {profile['accounted_ms']:.2f} of {profile['total_ms']:.2f} ms"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("kind", "by", "times", "ms", "share"):
        table.add_column(column, justify="left" if column in ("kind", "by") else "right")
    kinds = profile["kinds"]
    for each in kinds[:most]:
        count, share = str(each["count"]), f"{each['share']:.1%}"
        table.add_row(each["kind"], each["runtime"], count, f"{each['ms']:.3f}", share)
    if len(kinds) > most:
        rest = [each["ms"] for each in kinds[most:]]
        share = f"{sum(rest) / profile['total_ms']:.1%}"
        table.add_row(f"{len(rest)} more kinds", "", "", f"{sum(rest):.3f}", share)
    return table
