"""Print the tables of `tfdistill bench` and `tfdistill quickstart`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfdistill.export.bench import profile as profiles
from tfdistill.export.bench.host import typical_ms
from tfdistill.export.bench.phone import android
from tfdistill.export.bench.report.bench_rows import Measured, names_of
from tfdistill.export.bench.report.findings import advice, main_findings, uncertainty
from tfdistill.export.bench.report.page import DASH, Column, filled, number
from tfdistill.export.bench.report.rows import Report, columns_of, narrow
from tfdistill.system.console import Console, make_table, show_prose, show_table
from tfdistill.system.console import show as show_lines

_LEFT = ("Model", "Training", "Format", "file", "kind", "by")  # columns of text


def print_report(report: Report, console: Console | None = None) -> None:
    """Print one line for each row of the quickstart's report, and its findings."""
    console = console or Console()
    columns = columns_of(report) if console.width >= 140 else narrow(columns_of(report))
    show_table(_table(report.title, columns, report.rows, bold=report.base), console)
    shipped = advice(report)
    if shipped is not None:
        show_prose(shipped[0], console)
    for line in main_findings(report):
        show_prose(f"• {line}", console)
    if certain := uncertainty(report):
        show_prose(certain, console)
    if shipped is not None:
        show_lines("The same from your own data:", *(f"  {command}" for command in shipped[1]), on=console)


def show(measured: Measured, console: Console | None = None) -> None:
    """Print what `tfdistill bench` measured."""
    console = console or Console()
    names = names_of(list(measured))
    results = [(names[path], result) for path, results in measured.items() for result in results]
    show_table(_results(results), console)
    lines = android.remarks(*zip(*results, strict=True)) if "phone" in results[0][1] else []
    for name, result in results:
        if "profile" in result:
            show_table(_operators(name, result["profile"]), console)
            lines += profiles.remarks(name, result["profile"])
        if "disagreements" in result:
            apart = result["disagreements"]
            lines.append(
                f"{name} against Keras: {apart['differing']} of {apart['rows']} texts of {apart['split']} get another "
                f"answer, largest difference {apart['max_difference']:.4f}"
            )
    show_lines(*lines, on=console)


def _table(title: str, columns: Sequence[Column], rows: Sequence[Any], bold: Any = None) -> Any:
    cells = [[cell(row) for _, cell in columns] for row in rows]
    marked = next((number for number, row in enumerate(rows) if row is bold), None)
    headings = [name for name, _ in columns]
    return make_table(headings, cells, title=title, left=_LEFT, light=True, bold=marked)


def _results(results: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    """Show one line for each measurement, on this machine or on a phone."""
    first = results[0][1]
    title = f"{min(result['runs'] for _, result in results)} runs of one text at a time"
    if "phone" in first:
        phone, system = first["phone"], f"Android {first['phone']['android']}" if "android" in first["phone"] else "iOS"
        title = f"{phone['maker']} {phone['model']}, {system}, {first['delegate']}, {title}"

    def of(name: str, key: str, form: str) -> Column:
        return name, lambda each: number(each[1].get(key), form)

    def high(each: tuple[str, dict[str, Any]]) -> str:
        latency = each[1]["latency_ms"]
        return number(latency.get("p90", latency.get("p95")), ".2f")

    def warmth(each: tuple[str, dict[str, Any]]) -> str:
        celsius = [value for value in each[1].get("celsius", ()) if value is not None]
        return f"{min(celsius):.0f} to {max(celsius):.0f}" if celsius else DASH

    columns: list[Column] = [
        ("file", lambda each: each[0]),
        *(of(key, key, "d") for key in ("threads", "tokens", "length")),
        ("MB", lambda each: f"{each[1]['bytes'] / 1e6:.1f}"),
        ("ms", lambda each: number(typical_ms(each[1]), ".2f")),
        ("p95" if "phone" in first else "p90", high),
        of("cold ms", "first_ms", ".0f"),
        of("peak MB", "peak_memory_mb", ".0f"),
        of("memory MB", "memory_mb", ".0f"),
        ("°C", warmth),
        ("faster", lambda each: f"{each[1]['faster']:.2f}×" if "faster" in each[1] else DASH),
    ]
    return _table(title, filled(columns, results), results)


def _operators(name: str, profile: dict[str, Any], most: int = 10) -> Any:
    columns: list[Column] = [
        ("kind", lambda kind: kind["kind"]),
        ("by", lambda kind: kind["runtime"]),
        ("times", lambda kind: str(kind["count"])),
        ("ms", lambda kind: f"{kind['ms']:.3f}"),
        ("share", lambda kind: f"{kind['share']:.1%}"),
    ]
    kinds, rest = profile["kinds"][:most], profile["kinds"][most:]
    if rest:
        summed = {"runtime": "", "count": "", **{key: sum(each[key] for each in rest) for key in ("ms", "share")}}
        kinds = [*kinds, {"kind": f"{len(rest)} more kinds", **summed}]
    times = f"{profile['accounted_ms']:.2f} of {profile['total_ms']:.2f} ms"
    return _table(f"{name}: {len(profile['operators'])} operators, {times}", columns, kinds)
