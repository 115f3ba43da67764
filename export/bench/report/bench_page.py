"""Write the page of `tfdistill bench --report`: all bundles side by side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfdistill.export.bench import profile as profiles
from tfdistill.export.bench.host import typical_ms
from tfdistill.export.bench.report.bench_rows import Measured, Row, having, rows_of, tokens_of
from tfdistill.export.bench.report.figures import Point, curves, operator_bars, trade_offs
from tfdistill.export.bench.report.page import (
    DASH,
    Column,
    cells_of,
    day,
    fastest_near_best,
    filled,
    flat,
    number,
    points,
    times,
    within,
    write_page,
)
from tfdistill.export.bench.report.svg import COLOURS, MARKERS, OTHER_MARKER
from tfdistill.metrics.interval import interval, unpaired

_MOST_KINDS, _MOST_OPERATORS = 12, 5
_LEAST_DIFFERENCE = 5e-5  # of a probability; smaller ones are invisible in the page's four digits


def write_bench_report(
    measured: Measured,
    path: Path,
    *,
    title: str = "Models on this machine",
    baseline: Path | None = None,
    notes: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    command: str = "",
    created: str = "",
) -> Path:
    """Write a page that needs no other file, and its numbers next to it (report.html, report.json).

    Args:
        measured: the results of each bundle or .tflite file.
        path: ends in .html.
        title: of the page.
        baseline: the file that sizes and latencies are compared with.
        notes: what a reader must know.
        facts: machine or phone, versions, data.
        command: how it was made.
        created: when it was made.

    Returns:
        The path.

    Raises:
        UserError: a file cannot be written, or matplotlib or jinja2 is missing.
    """
    rows = rows_of(measured)
    baseline_row = next((row for row in rows if baseline is not None and row["path"] == str(baseline)), None)
    numbers: dict[str, Any] = {
        "title": title,
        "created": created,
        "command": command,
        "facts": dict(facts or {}),
        "notes": [*notes, *_notes(measured, rows)],
        "rows": rows,
        "measured": {str(each): list(results) for each, results in measured.items()},
    }
    return write_page(
        path,
        "bench.html.jinja",
        numbers,
        **{**_table(rows, baseline_row), **_main_table(rows, baseline_row), **_pictures(rows, measured)},
        **{"created": day(created), "ship": _ship(rows, baseline_row)},
        facts=[(name, flat(value)) for name, value in numbers["facts"].items() if value],
        disagreements=having(measured, "disagreements"),
        least=_LEAST_DIFFERENCE,
    )


def _notes(measured: Measured, rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        if not row["minimum"]["runs"] or not row["minimum"]["warmup"]:
            lines.append(
                f"{row['model']}: {row['runs']} runs after {row['warmup']} for warm-up; use at least 50 after at least 1."
            )
        if row.get("agree") is False:
            lines.append(f"{row['model']}: the repeats on the phone differ by more than 5 %.")
    for name, profile in having(measured, "profile"):
        lines += [f"{line}." for line in profiles.remarks(name, profile)]
    metric = _metric(rows)
    other = [row["model"] for row in rows if row["metric"] and row["score"] is None]
    if other:
        lines.append(f"{', '.join(other)}: evaluated by another metric than {metric}, so left out of the figures.")
    if metric is None:
        lines.append("No bundle states its score: export with --data, or give --data and --model here.")
    return lines


def _metric(rows: Sequence[Row]) -> str | None:
    return next((row["metric"] for row in rows if row["score"] is not None), None)


def _table(rows: Sequence[Row], baseline: Row | None) -> dict[str, Any]:
    metric = _metric(rows)
    on_phone = any(row["delegate"] for row in rows)
    compared = baseline or {}

    def latency(row: Row) -> str:
        high = next((row["latency_ms"][key] for key in ("p90", "p95") if key in row["latency_ms"]), None)
        return f"{row['ms']:.2f}" + (f" ({high:.2f})" if high is not None else "")

    def runs(row: Row) -> str:
        if row["mlperf_minimum"]:
            return f"{row['runs']} · MLPerf ✓"
        return f"{row['runs']} {'✓' if row['minimum']['runs'] and row['minimum']['warmup'] else '✗'}"

    named = all((row["quantization"] or "") in row["model"] for row in rows)
    score = f"{rows[0]['split'].capitalize()} {metric}" if metric else "Score"
    columns: list[Column] = [
        ("#", lambda row: str(rows.index(row) + 1)),
        ("Model", lambda row: row["model"]),
        ("Format", lambda row: DASH if named else row["quantization"] or DASH),
        ("Front", lambda row: "★" if row["front"] else DASH),
        (score, lambda row: number(row["score"], ".1%" if metric == "accuracy" else ".3f")),
        ("Same answer as Keras", lambda row: number(row["same_answers"], ".1%")),
        ("MB", lambda row: f"{row['bytes'] / 1e6:.1f}"),
        ("Smaller", lambda row: times(compared.get("bytes"), row["bytes"], ".2f")),
        (f"ms ({'p95' if on_phone else 'p90'})", latency),
        ("Faster", lambda row: times(compared.get("ms"), row["ms"], ".2f")),
        ("Cold ms", lambda row: number(row["init_ms"] if row["first_ms"] is None else row["first_ms"], ".0f")),
        ("Memory MB", lambda row: number(row["peak_memory_mb"] or row["memory_mb"], ".0f")),
        ("Runs", runs),
        ("Parameters", lambda row: number(row["parameters"], ",d")),
    ]
    if len({row["threads"] for row in rows}) > 1:
        columns.insert(8, ("Threads", lambda row: str(row["threads"])))
    if len({row["length"] for row in rows}) > 1:
        columns.insert(8, ("Tokens", lambda row: str(tokens_of(row))))
    columns = filled(columns, rows)
    return {
        "headings": [name for name, _ in columns],
        "rows": [(row is baseline, _colour(row), [cell(row) for _, cell in columns]) for row in rows],
        "compared": baseline is not None,
        "starred": any(row["front"] for row in rows),
        "on_phone": on_phone,
        "alike": _alike(rows),
    }


def _main_table(rows: Sequence[Row], baseline: Row | None) -> dict[str, Any]:
    """Return the columns that a reader chooses by."""
    metric, compared = _metric(rows), baseline or {}

    def how(row: Row) -> str:
        named = (row["quantization"] or "") in row["model"]
        parts = ["★" if row["front"] else "", "" if named else row["quantization"] or ""]
        return " ".join(filter(None, parts)) or DASH

    def lost(row: Row) -> str:
        found = _difference(row, baseline)
        if found is None or row is baseline:
            return DASH
        value, (low, high) = found
        return f"{points(value)} ± {50 * (high - low):.1f}"

    columns = [
        ("Model", lambda row: f"{rows.index(row) + 1} · {row['model']}", how),
        (
            (metric or "score").capitalize(),
            lambda row: number(row["score"], ".1%" if metric == "accuracy" else ".3f"),
            lost,
        ),
        ("MB", lambda row: f"{row['bytes'] / 1e6:.1f}", lambda row: times(compared.get("bytes"), row["bytes"])),
        ("ms", lambda row: f"{row['ms']:.2f}", lambda row: times(compared.get("ms"), row["ms"])),
    ]
    return {
        "main_headings": [name for name, _, _ in columns],
        "main_rows": [(row is baseline, _colour(row), cells_of(columns, row)) for row in rows],
    }


def _difference(row: Row, other: Row | None) -> tuple[float, tuple[float, float]] | None:
    """Return the difference of two accuracies and its 95 % interval; None if one is not known.

    The manifests do not state which examples were right, so the interval is that of different examples, which is wider.
    """
    if other is None or row["metric"] != "accuracy" or row["score"] is None or other["score"] is None:
        return None
    if not row["examples"] or not other["examples"]:
        return None
    found = unpaired(row["score"], row["examples"], other["score"], other["examples"])
    return row["score"] - other["score"], found


def _ship(rows: Sequence[Row], baseline: Row | None) -> dict[str, Any] | None:
    """Say which file to ship: the fastest one at most one point below the best; None without scores."""
    scored = [row for row in rows if row["score"] is not None]
    if not scored or len(rows) < 2:
        return None
    row = fastest_near_best(scored, lambda row: row["score"], lambda row: (row["ms"], row["bytes"]))
    form = ".1%" if row["metric"] == "accuracy" else ".3f"
    parts = [f"{number(row['score'], form)} {row['metric']}", f"{row['bytes'] / 1e6:.1f} MB", f"{row['ms']:.2f} ms"]
    found = _difference(row, baseline)
    if found is not None and row is not baseline:
        assert baseline is not None
        parts.append(f"{points(found[0])} points {within(found[1])} against {baseline['model']}")
    sentence = f"Ship {row['model']}: {', '.join(parts)}. No file here is faster within one point of the best score."
    return {
        "sentence": sentence,
        "commands": [f'tfdistill predict {shlex.quote(row["path"])} "a text"'],
    }


def _alike(rows: Sequence[Row]) -> str:
    """Name the length and the threads that all rows share, and that no column shows."""
    tokens, threads = {tokens_of(row) for row in rows}, {row["threads"] for row in rows}
    parts = [f", {value} tokens" for value in tokens if len(tokens) == 1]
    parts += [f", {value} thread{'' if value == 1 else 's'}" for value in threads if len(threads) == 1]
    return "".join(parts)


def _colour(row: Row) -> str:
    return COLOURS[row["file_number"] % len(COLOURS)]


def _pictures(rows: Sequence[Row], measured: Measured) -> dict[str, Any]:
    metric = _metric(rows)
    points = [
        Point(row["score"], _colour(row), row["ms"], row["bytes"], row["quantization"], str(place), row["front"])
        for place, row in enumerate(rows, 1)
        if row["score"] is not None
    ]
    figures = trade_offs(points, metric or "")
    series = _series(measured)
    if series:
        drawn = curves(series, "tokens", "latency (ms)", from_zero=True)
        figures.append(("Latency of shorter and longer texts", drawn))
    profiled = having(measured, "profile")
    shapes = dict.fromkeys(row["quantization"] for row in rows if row["quantization"])
    return {
        "figures": figures,
        "legend": list({row["model"]: _colour(row) for row in rows}.items()),
        "markers": [(MARKERS.get(name, OTHER_MARKER)[1], name) for name in shapes] if metric else [],
        "bars": operator_bars(profiled) if profiled else None,
        "error": _uncertainty(rows),
        "profiles": [(*each, _slowest(each[1])) for each in profiled],
        "most_kinds": _MOST_KINDS,
    }


def _uncertainty(rows: Sequence[Row]) -> str:
    """State on how many examples an accuracy was measured, and its interval."""
    scored = [row for row in rows if row["score"] is not None and row["metric"] == "accuracy" and row["examples"]]
    if not scored:
        return ""
    row = max(scored, key=lambda row: row["score"])
    within = interval(row["score"], row["examples"])
    return f"measured on {row['examples']:,} texts of {row['split']}; the best one is within {within} (95 % interval)"


def _series(measured: Measured) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return (colour, points) of files measured with several lengths, at their first number of threads."""
    series = []
    for place, results in enumerate(measured.values()):
        alike = [each for each in results if each["threads"] == results[0]["threads"]]
        points = sorted((tokens_of(each), typical_ms(each)) for each in alike)
        if len(points) > 1:
            series.append((COLOURS[place % len(COLOURS)], points))
    return series


def _slowest(profile: dict[str, Any]) -> list[tuple[int, str, float]]:
    """Return (place in the run, kind, milliseconds) of the slowest operators."""
    operators = [(place, each["kind"], each["ms"]) for place, each in enumerate(profile["operators"], 1)]
    return sorted(operators, key=lambda each: -each[2])[:_MOST_OPERATORS]
