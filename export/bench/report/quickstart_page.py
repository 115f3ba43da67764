"""Write the page of `tfdistill quickstart`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfdistill.export.bench.report.figures import Point, curves, trade_offs
from tfdistill.export.bench.report.findings import (
    advice,
    choice,
    difference,
    gain_half_width,
    gains,
    main_findings,
    notes_of,
    savings,
    uncertainty,
)
from tfdistill.export.bench.report.page import DASH, cells_of, day, flat, write_page
from tfdistill.export.bench.report.rows import Report, columns_of, half_width, main_columns
from tfdistill.export.bench.report.svg import COLOURS, MARKERS


def write_report(report: Report, out_dir: str | os.PathLike) -> Path:
    """Write report.html, a page that needs no other file, and report.json.

    Args:
        report: what they show.
        out_dir: made if need be.

    Returns:
        The path of the page.

    Raises:
        UserError: `out_dir` cannot be written, or matplotlib or jinja2 is missing.
    """
    labels = dict.fromkeys([*(row.label for row in report.rows), *report.curves])
    colours = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(labels)}
    columns, names = columns_of(report), list(report.data.get("label_names") or [])
    main, shipped = main_columns(report), advice(report)
    numbers = {**asdict(report), "findings": main_findings(report), "notes": notes_of(report)}
    cells = [(row is report.base, colours[row.label], [cell(row) for _, cell in columns]) for row in report.rows]
    used = {row.quantization for row in report.rows}
    return write_page(
        Path(out_dir) / "report.html",
        "quickstart.html.jinja",
        numbers,
        **{
            "created": day(report.created),
            "rows": cells,
            "confusion": [_confusion(*each, names) for each in report.confusion.items()],
        },
        main_headings=[name for name, _, _ in main],
        main_rows=[(row is report.base, colours[row.label], cells_of(main, row)) for row in report.rows],
        ship=None if shipped is None else {"sentence": shipped[0], "commands": shipped[1]},
        tiles=_tiles(report),
        headings=[name for name, _ in columns],
        legend=list(colours.items()),
        markers=[(marker, name) for name, (_, marker) in MARKERS.items() if name in used],
        figures=_figures(report, colours),
        measured=" ".join(filter(None, [_measured(report), uncertainty(report)])),
        facts=_facts(report),
    )


def _tiles(report: Report) -> dict[str, Any] | None:
    """Return the numbers at the top, of the best small model."""
    row = choice(report)
    if row is None:
        return None
    tiles = list(savings(row, report.base))
    lost = difference(report, row.score, report.base.score)
    if lost:
        half = half_width(row, report.base)
        sure = "" if half is None else f"± {100 * half:.1f} "
        tiles.append((lost[0], sure + " of ".join(filter(None, (lost[1], report.metric)))))
    if row.model in gains(report):
        value, unit = difference(report, gains(report)[row.model][1], 0.0) or ("", "")
        half = gain_half_width(report, row.model)
        sure = "" if half is None else f"± {100 * half:.1f} "
        tiles.append((value, f"{sure}{unit} by distillation".strip()))
    return {"name": row.name, "against": report.base.name, "numbers": tiles}


def _measured(report: Report) -> str:
    """Say how the latencies were measured."""
    rows = [row for row in report.rows if row.ms is not None]
    if not rows:
        return ""
    threads = sorted({row.threads for row in rows if row.threads})
    lengths = sorted({row.length for row in rows if row.length})
    parts = ["Latency: median (and 90th percentile) of one text at a time"]
    parts += [f"{', '.join(map(str, lengths))} tokens"] if lengths else []
    parts += [f"{', '.join(map(str, threads))} thread{'' if threads == [1] else 's'}"] if threads else []
    return ", ".join([*parts, "on this machine."])


def _facts(report: Report) -> list[tuple[str, str]]:
    data = report.data
    facts = [
        ("Data", f"{data.get('name', '')}: {flat(data.get('splits') or {})}"),
        ("Task", f"{data.get('task', '')} ({', '.join(map(str, data.get('label_names') or [])) or DASH})"),
        ("Machine", flat(report.machine)),
        ("Versions", flat(report.versions)),
        ("Seed", DASH if report.seed is None else str(report.seed)),
    ]
    return [(name, value) for name, value in facts if value]


def _confusion(title: str, matrix: Any, names: list[str]) -> dict[str, Any]:
    """Give each cell its share of the true class in percent."""
    names = names if len(names) == len(matrix) else [str(n) for n in range(len(matrix))]
    shares = [[(count, round(100 * count / max(sum(counts), 1))) for count in counts] for counts in matrix]
    return {"title": title, "names": names, "rows": list(zip(names, shares, strict=True))}


def _figures(report: Report, colours: dict[str, str]) -> list[tuple[str, str]]:
    """Return (caption, SVG) of each figure that the report has numbers for."""
    scored = [(row, row.score) for row in report.rows if row.score is not None]
    levels = [(score, colours[row.label]) for row, score in scored if row.runtime == "scikit-learn"]
    points = [
        Point(score, colours[row.label], row.ms, row.bytes, row.quantization, row.model, group=row.label)
        for row, score in scored
    ]
    figures = trade_offs(points, report.metric, levels)
    for key, label, caption in (
        ("dev_accuracy", f"dev {report.metric}", f"Dev {report.metric} while training"),
        ("loss", "loss", "Training loss"),
    ):
        known = {
            name: [(point["step"], point[key]) for point in points if point.get(key) is not None]
            for name, points in report.curves.items()
        }
        series = [(colours[name], points) for name, points in known.items() if points]
        if series:
            figures.append((caption, curves(series, "step", label)))
    return figures
