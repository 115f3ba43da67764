"""A comparison of models as a table on the terminal, as JSON, and as a page one can look at. Imports no TensorFlow."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from tfdistill.export.bench.report.rows import (
    DASH,
    Report,
    Row,
    baseline_of,
    columns_of,
    difference_of,
    finite,
    key_of,
    latency_of,
    metric_of,
    name_of,
    narrow,
    savings,
    score_of,
    size_of,
)
from tfdistill.export.bench.report.svg import COLOURS, MARKERS, OTHER_MARKER, percent, plain_ticks, svg
from tfdistill.export.bench.report.templates import render_page
from tfdistill.system.files import atomic_write


def write_report(report: Report, out_dir: str | os.PathLike) -> Path:
    """Write report.json and report.html, one file that needs nothing else, and return the path of the page.

    Args:
        report: `title`, `created`, `seed`, `fast`, `command`, `machine`, `versions`, `data`, `notes`, `findings`, `rows`, `curves`,
            `confusion`, `baseline` (the row that sizes and speeds are compared with).
        out_dir: made if need be.

    Raises:
        UserError: `out_dir` cannot be written, `baseline` is no row, or matplotlib or jinja2 is missing.
    """
    out_dir = Path(out_dir)
    report = finite(report)
    baseline_of(report)
    page = render(report)
    atomic_write(out_dir / "report.json", json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n")
    return atomic_write(out_dir / "report.html", page)


def print_table(report: Report, console: Any = None) -> None:
    """Print the findings and one line for each row. `console` is a rich Console; by default the terminal."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    report = finite(report)
    console = console or Console()
    columns = columns_of(report) if console.width >= 140 else narrow(columns_of(report))
    table = Table(
        title=escape(report["title"]), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name, _ in columns:
        table.add_column(escape(name), justify="left" if name in ("Model", "Training", "Format") else "right")
    for row in report["rows"]:
        bold = "bold" if row is baseline_of(report) else None
        table.add_row(*(escape(cell(row)) for _, cell in columns), style=bold)
    console.print(table)
    for line in main_findings(report):
        console.print(f"• {escape(line)}")


# --- what the numbers say -------------------------------------------------------------------------------------------


def main_findings(report: Report) -> list[str]:
    """Sentences: what the smallest file of each model costs and saves, and what distillation gained over labels alone."""
    baseline, lines = baseline_of(report), []
    for row in _featured(report):
        parts = [f"{value} {word}" for value, word in savings(row, baseline)]
        lost = difference_of(report, score_of(row), score_of(baseline))
        if lost:
            parts.append(" ".join(filter(None, [*lost, "of", metric_of(report)])))
        if parts:
            lines.append(f"{name_of(row)} against {name_of(baseline)}: {', '.join(parts)}.")
    for model, quantization, gain, seeds in _gains(report):
        said = difference_of(report, gain, 0.0)
        if said is None:
            continue
        how = "gained" if gain > 0 else "lost" if gain < 0 else "changed nothing:"
        over = f", mean of {seeds} seeds" if seeds > 1 else ""
        lines.append(
            f"Distillation {how} {said[0].lstrip('+−')} {said[1]} over labels alone ({model}, {quantization}{over})."
        )
    return lines


def _featured(report: Report) -> list[Row]:
    """For each model but the baseline its smallest file, of the distilled ones where there are any; the best score first."""
    baseline = baseline_of(report)
    files = [
        row
        for row in report["rows"]
        if row.get("bytes") and row.get("file") and row["model"] != (baseline or {}).get("model")
    ]
    best = []
    for model in dict.fromkeys(row["model"] for row in files):
        rows = [row for row in files if row["model"] == model]
        rows = [row for row in rows if row.get("method") == "distilled"] or rows
        least = min(row["bytes"] for row in rows)
        best.append(
            max((row for row in rows if row["bytes"] <= least * 1.02), key=lambda row: score_of(row) or -math.inf)
        )
    return sorted(best, key=lambda row: -(score_of(row) or -math.inf))


def _gains(report: Report) -> list[tuple[str, str, float, int]]:
    """(model, quantization, mean gain in score, seeds) wherever the same model was trained in both ways; as deployed, if files."""
    found = []
    for model in dict.fromkeys(row["model"] for row in report["rows"]):
        by_form: dict[str, dict[str, dict[Any, float]]] = {}
        for row in report["rows"]:
            score = score_of(row)
            if row["model"] == model and row.get("method") in ("labels", "distilled") and score is not None:
                form = row.get("quantization") or row.get("runtime") or "Keras"
                by_form.setdefault(form, {}).setdefault(row["method"], {})[row.get("seed")] = score
        pairs = [(form, both["labels"], both["distilled"]) for form, both in by_form.items() if len(both) == 2]
        order = {"dynamic_int8": 0, "fp32": 1, "fp16": 2}
        for form, labels, distilled in sorted(pairs, key=lambda pair: order.get(pair[0], 3))[:1]:
            seeds = sorted(labels.keys() & distilled.keys(), key=str)
            if seeds:
                gain = sum(distilled[seed] - labels[seed] for seed in seeds) / len(seeds)
            else:
                gain = sum(distilled.values()) / len(distilled) - sum(labels.values()) / len(labels)
            found.append((model, form, gain, len(seeds)))
    return found


# --- page -----------------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The page as HTML."""
    report = {"created": "", "fast": False, "notes": [], "command": "", **report}
    colours = _colours(report)
    columns = columns_of(report)
    used = [name for name in MARKERS if any(row.get("quantization") == name for row in report["rows"])]
    return render_page(
        "report.html.jinja",
        report=report,
        tiles=_tiles(report),
        findings=[*main_findings(report), *report.get("findings", [])],
        headings=[name for name, _ in columns],
        rows=[
            (row is baseline_of(report), colours[key_of(row)], [cell(row) for _, cell in columns])
            for row in report["rows"]
        ],
        legend=list(
            {
                label: colour for label, colour in ((" · ".join(filter(None, key)), c) for key, c in colours.items())
            }.items()
        ),
        markers=[(MARKERS[name][1], name) for name in used],
        figures=_figures(report, colours),
        confusion=[_confusion(entry, report["data"].get("label_names") or []) for entry in report.get("confusion", [])],
        measured=_measured(report),
        facts=_facts(report),
    )


def _colours(report: Report) -> dict[tuple[str, str], str]:
    keys = dict.fromkeys(key_of(row) for row in [*report["rows"], *report.get("curves", [])])
    return {key: COLOURS[number % len(COLOURS)] for number, key in enumerate(keys)}


def _tiles(report: Report) -> dict[str, Any] | None:
    """The numbers at the top, of the best small model."""
    featured = next((row for row in _featured(report) if savings(row, baseline_of(report))), None)
    if featured is None:
        return None
    baseline = baseline_of(report)
    tiles = list(savings(featured, baseline))
    lost = difference_of(report, score_of(featured), score_of(baseline))
    if lost:
        tiles.append((lost[0], f"{lost[1]} of {metric_of(report)}" if lost[1] else metric_of(report)))
    gain = next((found for found in _gains(report) if found[0] == featured["model"]), None)
    if gain is not None:
        value, unit = difference_of(report, gain[2], 0.0) or ("", "")
        tiles.append((value, f"{unit} by distillation".strip()))
    return {"name": name_of(featured), "against": name_of(baseline), "numbers": tiles}


def _measured(report: Report) -> str:
    rows = [row for row in report["rows"] if latency_of(row) is not None]
    if not rows:
        return ""
    threads = sorted({row["threads"] for row in rows if row.get("threads")})
    lengths = sorted({row["length"] for row in rows if row.get("length")})
    said = []
    if lengths:
        said.append(f"rows of {', '.join(map(str, lengths))} tokens")
    if threads:
        said.append(f"{', '.join(map(str, threads))} thread{'s' if threads != [1] else ''}")
    return f"Latency: median (and 90th percentile) of one text at a time{', ' if said else ''}{', '.join(said)}, on this machine."


def _facts(report: Report) -> list[tuple[str, str]]:
    def flat(values: dict[str, Any]) -> str:
        return ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in values.items())

    data = report["data"]
    facts = [
        ("Data", f"{data.get('name', '')}: {flat(data.get('splits') or {})}"),
        ("Task", f"{data.get('task', '')} ({', '.join(map(str, data.get('label_names') or [])) or DASH})"),
        ("Machine", flat(report.get("machine") or {})),
        ("Versions", flat(report.get("versions") or {})),
        ("Seed", str(report.get("seed", DASH))),
    ]
    return [(name, value) for name, value in facts if value]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _confusion(entry: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Cells with their share of the true class in percent."""
    matrix = entry["matrix"]
    names = names if len(names) == len(matrix) else [str(n) for n in range(len(matrix))]
    rows = [
        (name, [(count, round(100 * count / max(sum(counts), 1))) for count in counts])
        for name, counts in zip(names, matrix, strict=True)
    ]
    return {"title": " · ".join(filter(None, key_of(entry))), "names": names, "rows": rows}


# --- figures --------------------------------------------------------------------------------------------------------


def _figures(report: Report, colours: dict[tuple[str, str], str]) -> list[tuple[str, str]]:
    """(caption, SVG) of each figure that the report has numbers for."""
    metric = metric_of(report)
    scored = [row for row in report["rows"] if score_of(row) is not None]
    figures = []
    if any(latency_of(row) for row in scored):
        caption = f"{metric.capitalize()} against latency: up and left is better"
        figures.append((caption, _scatter(report, scored, colours, latency_of, "latency (ms)")))
    if any(size_of(row) for row in scored):
        caption = f"{metric.capitalize()} against size: up and left is better"
        figures.append((caption, _scatter(report, scored, colours, lambda row: (size_of(row) or 0) / 1e6, "size (MB)")))
    curves = report.get("curves") or []
    for key, label, caption in (
        ("dev_accuracy", f"dev {metric}", f"Dev {metric} while training"),
        ("loss", "loss", "Training loss"),
    ):
        if any(point.get(key) is not None for curve in curves for point in curve["points"]):
            figures.append((caption, _lines(curves, colours, key, label, metric)))
    return figures


def _scatter(report: Report, rows: list[Row], colours: dict[tuple[str, str], str], of: Any, label: str) -> str:
    def draw(axes: Any) -> None:
        placed = [row for row in rows if of(row)]
        for row in placed:
            marker = MARKERS.get(row.get("quantization") or "", OTHER_MARKER)[0]
            axes.plot(
                of(row), score_of(row), marker, color=colours[key_of(row)], markersize=8, alpha=0.85, markeredgewidth=0
            )
        for row in rows:  # what has no file is a line to be above of
            if row.get("runtime") == "scikit-learn":
                axes.axhline(score_of(row), color=colours[key_of(row)], linestyle=(0, (2, 3)), linewidth=1.2)
        axes.set_xscale("log")
        values = [of(row) for row in placed]
        axes.set_xlim(min(values) / 1.5, max(values) * 1.5)
        plain_ticks(axes)
        axes.set_xlabel(label)
        axes.set_ylabel(metric_of(report))
        axes.margins(y=0.12)
        if metric_of(report) == "accuracy":
            percent(axes)

    return svg(draw, label)


def _lines(curves: list[dict[str, Any]], colours: dict[tuple[str, str], str], key: str, label: str, metric: str) -> str:
    def draw(axes: Any) -> None:
        for curve in curves:
            points = [(point["step"], point[key]) for point in curve["points"] if point.get(key) is not None]
            if points:
                marker = "o" if len(points) < 15 else ""
                axes.plot(
                    *zip(*points, strict=True),
                    marker=marker,
                    markersize=3.5,
                    linewidth=1.6,
                    color=colours[key_of(curve)],
                )
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if key == "dev_accuracy" and metric == "accuracy":
            percent(axes)

    return svg(draw, key)
