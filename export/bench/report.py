"""A comparison of models as a table on the terminal, as JSON, and as a page one can look at. Imports no TensorFlow."""

from __future__ import annotations

import io
import json
import math
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, optional
from tfdistill.files import atomic_write

Row = dict[str, Any]
Report = dict[str, Any]

# Readable on white and on black.
_COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#d946ef", "#8a8f98", "#06b6d4", "#84a616")
_MARKERS = {"fp32": ("o", "●"), "fp16": ("^", "▲"), "dynamic_int8": ("s", "■")}
_OTHER_MARKER = ("D", "◆")
_INK, _FAINT = "#0a0b0c", "#0d0e0f"  # stand-ins, replaced by the page's own colours
_DASH = "–"


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
    report = _finite(report)
    _baseline(report)
    page = render(report)
    atomic_write(out_dir / "report.json", json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n")
    return atomic_write(out_dir / "report.html", page)


def print_table(report: Report, console: Any = None) -> None:
    """Print the findings and one line for each row. `console` is a rich Console; by default the terminal."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    report = _finite(report)
    console = console or Console()
    columns = _columns(report) if console.width >= 140 else _narrow(_columns(report))
    table = Table(
        title=escape(report["title"]), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name, _ in columns:
        table.add_column(escape(name), justify="left" if name in ("Model", "Training", "Format") else "right")
    for row in report["rows"]:
        bold = "bold" if row is _baseline(report) else None
        table.add_row(*(escape(cell(row)) for _, cell in columns), style=bold)
    console.print(table)
    for line in main_findings(report):
        console.print(f"• {escape(line)}")


# --- what the numbers say -------------------------------------------------------------------------------------------


def main_findings(report: Report) -> list[str]:
    """Sentences: what the smallest file of each model costs and saves, and what distillation gained over labels alone."""
    baseline, lines = _baseline(report), []
    for row in _featured(report):
        parts = [f"{value} {word}" for value, word in _savings(row, baseline)]
        lost = _difference(report, _score(row), _score(baseline))
        if lost:
            parts.append(" ".join(filter(None, [*lost, "of", _metric(report)])))
        if parts:
            lines.append(f"{_name(row)} against {_name(baseline)}: {', '.join(parts)}.")
    for model, quantization, gain, seeds in _gains(report):
        said = _difference(report, gain, 0.0)
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
    baseline = _baseline(report)
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
            max((row for row in rows if row["bytes"] <= least * 1.02), key=lambda row: _score(row) or -math.inf)
        )
    return sorted(best, key=lambda row: -(_score(row) or -math.inf))


def _gains(report: Report) -> list[tuple[str, str, float, int]]:
    """(model, quantization, mean gain in score, seeds) wherever the same model was trained in both ways; as deployed, if files."""
    found = []
    for model in dict.fromkeys(row["model"] for row in report["rows"]):
        by_form: dict[str, dict[str, dict[Any, float]]] = {}
        for row in report["rows"]:
            score = _score(row)
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


def _savings(row: Row, baseline: Row | None) -> list[tuple[str, str]]:
    parts = []
    for ratio, more, less in (
        (_ratio(row, baseline, _size), "smaller", "larger"),
        (_ratio(row, baseline, _latency), "faster", "slower"),
    ):
        if ratio:
            parts.append((f"{max(ratio, 1 / ratio):.1f}×", more if ratio >= 1 else less))
    return parts


def _difference(report: Report, value: float | None, other: float | None) -> tuple[str, str] | None:
    """A signed difference of scores with its unit."""
    if value is None or other is None:
        return None
    if _metric(report) == "accuracy":
        return f"{100 * (value - other):+.1f}".replace("-", "−"), "points"
    return f"{value - other:+.3f}".replace("-", "−"), ""


def _finite(value: Any) -> Any:
    """A copy as JSON can hold it: None for NaN and infinities."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _baseline(report: Report) -> Row | None:
    number = report.get("baseline")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(report["rows"]):
        raise UserError(f"baseline is {number!r}; expected the number of one of the {len(report['rows'])} rows, from 0")
    return report["rows"][number]


def _metric(report: Report) -> str:
    return report["data"].get("metric", "accuracy")


def _score(row: Row | None) -> float | None:
    if row is None:
        return None
    return row["test_accuracy"] if row.get("test_accuracy") is not None else row.get("dev_accuracy")


def _size(row: Row) -> float | None:
    return row.get("bytes")


def _latency(row: Row) -> float | None:
    return (row.get("latency_ms") or {}).get("median")


def _ratio(row: Row, baseline: Row | None, of: Any) -> float | None:
    if baseline is None or not of(row) or not of(baseline):
        return None
    return of(baseline) / of(row)


def _name(row: Row | None) -> str:
    if row is None:
        return "the baseline"
    return " ".join([f"{row['model']},"] * bool(row.get("method")) + [row.get("method") or row["model"]]) + (
        f", {row['quantization']}" if row.get("quantization") else ""
    )


# --- cells ----------------------------------------------------------------------------------------------------------


def _columns(report: Report) -> list[tuple[str, Any]]:
    """(heading, row → text), without the columns that no row fills."""
    baseline, metric = _baseline(report), _metric(report)

    def number(value: float | None, form: str) -> str:
        return _DASH if value is None else format(value, form)

    def score(key: str) -> Any:
        form = ".1%" if metric == "accuracy" else ".3f"
        return lambda row: number(row.get(key), form)

    def times(of: Any) -> Any:
        return lambda row: (
            number(_ratio(row, baseline, of), ".1f").replace(_DASH, "") + "×" if _ratio(row, baseline, of) else _DASH
        )

    def latency(row: Row) -> str:
        values = row.get("latency_ms") or {}
        return f"{values['median']:.1f} ({values['p90']:.1f})" if "p90" in values else number(_latency(row), ".1f")

    columns = [
        ("Model", lambda row: row["model"]),
        ("Training", lambda row: row.get("method") or _DASH),
        ("Format", lambda row: row.get("quantization") or row.get("runtime") or _DASH),
        (f"Test {metric}", score("test_accuracy")),
        ("Size MB", lambda row: number(row["bytes"] / 1e6 if row.get("bytes") else None, ".1f")),
        ("Smaller", times(_size)),
        ("Latency ms (p90)", latency),
        ("Faster", times(_latency)),
        ("Memory MB", lambda row: number(row.get("peak_memory_mb"), ".0f")),
        ("Same answers", lambda row: number((row.get("parity") or {}).get("argmax_agreement"), ".1%")),
        (f"Dev {metric}", score("dev_accuracy")),
        ("Parameters", lambda row: number(row.get("parameters"), ",d")),
        ("Trained s", lambda row: number(row.get("seconds"), ".0f")),
    ]
    if len({row.get("seed") for row in report["rows"]}) > 1:
        columns.append(("Seed", lambda row: number(row.get("seed"), "d")))
    return [(name, cell) for name, cell in columns if any(cell(row) != _DASH for row in report["rows"])]


def _narrow(columns: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Those that fit 80 characters."""
    cells = dict(columns)
    score = next((name for name in cells if name.startswith(("Test ", "Dev "))), "")

    def model(row: Row) -> str:
        return " · ".join(part for part in (row["model"], row.get("method")) if part)

    short: dict[str, Any] = {
        "Model": model,
        "Format": cells.get("Format"),
        score.partition(" ")[2].capitalize(): cells.get(score),
    }
    short |= {"MB": cells.get("Size MB"), "Smaller": cells.get("Smaller")}
    if "Latency ms (p90)" in cells:
        short |= {"ms": lambda row: cells["Latency ms (p90)"](row).partition(" ")[0], "Faster": cells.get("Faster")}
    return [(name, cell) for name, cell in short.items() if cell is not None]


# --- page -----------------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The page as HTML."""
    jinja2 = optional("jinja2", "quickstart")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(resources.files(__package__).joinpath("report.html.jinja").read_text("utf-8"))
    report = {"created": "", "fast": False, "notes": [], "command": "", **report}
    colours = _colours(report)
    columns = _columns(report)
    used = [name for name in _MARKERS if any(row.get("quantization") == name for row in report["rows"])]
    return template.render(
        report=report,
        tiles=_tiles(report),
        findings=[*main_findings(report), *report.get("findings", [])],
        headings=[name for name, _ in columns],
        rows=[
            (row is _baseline(report), colours[_key(row)], [cell(row) for _, cell in columns]) for row in report["rows"]
        ],
        legend=list(
            {
                label: colour for label, colour in ((" · ".join(filter(None, key)), c) for key, c in colours.items())
            }.items()
        ),
        markers=[(_MARKERS[name][1], name) for name in used],
        figures=_figures(report, colours),
        confusion=[_confusion(entry, report["data"].get("label_names") or []) for entry in report.get("confusion", [])],
        measured=_measured(report),
        facts=_facts(report),
    )


def _key(row: Row) -> tuple[str, str]:
    return row["model"], row.get("method") or ""


def _colours(report: Report) -> dict[tuple[str, str], str]:
    keys = dict.fromkeys(_key(row) for row in [*report["rows"], *report.get("curves", [])])
    return {key: _COLOURS[number % len(_COLOURS)] for number, key in enumerate(keys)}


def _tiles(report: Report) -> dict[str, Any] | None:
    """The numbers at the top, of the best small model."""
    featured = next((row for row in _featured(report) if _savings(row, _baseline(report))), None)
    if featured is None:
        return None
    baseline = _baseline(report)
    tiles = list(_savings(featured, baseline))
    lost = _difference(report, _score(featured), _score(baseline))
    if lost:
        tiles.append((lost[0], f"{lost[1]} of {_metric(report)}" if lost[1] else _metric(report)))
    gain = next((found for found in _gains(report) if found[0] == featured["model"]), None)
    if gain is not None:
        value, unit = _difference(report, gain[2], 0.0) or ("", "")
        tiles.append((value, f"{unit} by distillation".strip()))
    return {"name": _name(featured), "against": _name(baseline), "numbers": tiles}


def _measured(report: Report) -> str:
    rows = [row for row in report["rows"] if _latency(row) is not None]
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
        ("Task", f"{data.get('task', '')} ({', '.join(map(str, data.get('label_names') or [])) or _DASH})"),
        ("Machine", flat(report.get("machine") or {})),
        ("Versions", flat(report.get("versions") or {})),
        ("Seed", str(report.get("seed", _DASH))),
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
    return {"title": " · ".join(filter(None, _key(entry))), "names": names, "rows": rows}


# --- figures --------------------------------------------------------------------------------------------------------


def _figures(report: Report, colours: dict[tuple[str, str], str]) -> list[tuple[str, str]]:
    """(caption, SVG) of each figure that the report has numbers for."""
    metric = _metric(report)
    scored = [row for row in report["rows"] if _score(row) is not None]
    figures = []
    if any(_latency(row) for row in scored):
        caption = f"{metric.capitalize()} against latency: up and left is better"
        figures.append((caption, _scatter(report, scored, colours, _latency, "latency (ms)")))
    if any(_size(row) for row in scored):
        caption = f"{metric.capitalize()} against size: up and left is better"
        figures.append((caption, _scatter(report, scored, colours, lambda row: (_size(row) or 0) / 1e6, "size (MB)")))
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
            marker = _MARKERS.get(row.get("quantization") or "", _OTHER_MARKER)[0]
            axes.plot(
                of(row), _score(row), marker, color=colours[_key(row)], markersize=8, alpha=0.85, markeredgewidth=0
            )
        for row in rows:  # what has no file is a line to be above of
            if row.get("runtime") == "scikit-learn":
                axes.axhline(_score(row), color=colours[_key(row)], linestyle=(0, (2, 3)), linewidth=1.2)
        axes.set_xscale("log")
        values = [of(row) for row in placed]
        axes.set_xlim(min(values) / 1.5, max(values) * 1.5)
        _plain_ticks(axes)
        axes.set_xlabel(label)
        axes.set_ylabel(_metric(report))
        axes.margins(y=0.12)
        if _metric(report) == "accuracy":
            _percent(axes)

    return _svg(draw, label)


def _lines(curves: list[dict[str, Any]], colours: dict[tuple[str, str], str], key: str, label: str, metric: str) -> str:
    def draw(axes: Any) -> None:
        for curve in curves:
            points = [(point["step"], point[key]) for point in curve["points"] if point.get(key) is not None]
            if points:
                marker = "o" if len(points) < 15 else ""
                axes.plot(
                    *zip(*points, strict=True), marker=marker, markersize=3.5, linewidth=1.6, color=colours[_key(curve)]
                )
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if key == "dev_accuracy" and metric == "accuracy":
            _percent(axes)

    return _svg(draw, key)


def _percent(axes: Any) -> None:
    ticker = optional("matplotlib.ticker", "quickstart")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0 if high - low > 0.04 else 1))


def _plain_ticks(axes: Any) -> None:
    """1, 2, 5, 10, … instead of powers of ten."""
    ticker = optional("matplotlib.ticker", "quickstart")
    low, high = axes.get_xlim()
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def _svg(draw: Any, salt: str) -> str:
    """What `draw` puts on axes, as SVG to stand within a page, in the page's colours and fonts."""
    matplotlib = optional("matplotlib", "quickstart")
    figure_module = optional("matplotlib.figure", "quickstart")
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,  # ids differ between figures and not between runs
        "text.parse_math": False,
        "font.size": 10,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": _FAINT,
        "grid.linewidth": 0.6,
        "text.color": _INK,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
    }
    with matplotlib.rc_context(style):
        figure = figure_module.Figure(figsize=(4.7, 3.3), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font: (\d+)px [^;\"]*", r"font: \1px inherit; font-size: \1px; font-family: inherit", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
    return text.replace(_INK, "currentColor").replace(_FAINT, "var(--line)")
