"""The page that `tfdistill bench --report` writes: all bundles side by side. Imports no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bench import profile as profiles
from tfdistill.export.bench.report.bench_figures import front, lengths, on_front, operator_bars
from tfdistill.export.bench.report.rows import DASH, Row, finite
from tfdistill.export.bench.report.svg import COLOURS, MARKERS, OTHER_MARKER
from tfdistill.export.bench.report.templates import render_page
from tfdistill.system.files import atomic_write

_MOST_KINDS, _MOST_OPERATORS = 12, 5
_LEAST_DIFFERENCE = 5e-5  # of a probability: below it the four digits that the page shows are the same
Measured = Mapping[Path, Sequence[dict[str, Any]]]


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
    """Write a page that needs nothing else, and its numbers beside it (report.html, report.json).

    Args:
        measured: for each bundle or .tflite file what was measured of it: results of `bench_files`, `bench_on_phone` or
            `ios.read_result`, of which one may have a `profile`, and one `disagreements`, as `worst_disagreements` gives them.
        path: ends in .html.
        title: of the page.
        baseline: the one of them that sizes and latencies are compared with.
        notes: what a reader must know.
        facts: machine or phone, versions, data.
        command, created: how and when it was made.

    Raises:
        UserError: another path, or it cannot be written; matplotlib or jinja2 is missing.
    """
    if path.suffix.lower() != ".html":
        raise UserError(f"--report {path}: expected a path that ends in .html")
    rows = rows_of(measured)
    baseline_row = next((row for row in rows if baseline is not None and row["path"] == str(baseline)), None)
    values = {
        "title": title,
        "created": created,
        "command": command,
        "notes": [*notes, *_notes(measured, rows)],
        "facts": [(name, _flat(value)) for name, value in (facts or {}).items() if value],
        **_table(rows, baseline_row),
        **_pictures(rows, measured),
        "profiles": [_profile(name, found) for name, found in _having(measured, "profile")],
        "disagreements": _having(measured, "disagreements"),
        "least": _LEAST_DIFFERENCE,
    }
    page = render_page("bench.html.jinja", **values)
    numbers = {
        "title": title,
        "created": created,
        "command": command,
        "facts": dict(facts or {}),
        "notes": values["notes"],
        "rows": rows,
        "measured": {str(each): list(found) for each, found in measured.items()},
    }
    content = json.dumps(finite(numbers), indent=2, ensure_ascii=False, default=str) + "\n"
    atomic_write(path.with_suffix(".json"), content)
    return atomic_write(path, page)


def rows_of(measured: Measured) -> list[Row]:
    """One row for each file and number of threads, of the longest row of tokens that all were measured with, or else its own.

    `score` is the file's on test, from manifest.json of its bundle; where not all files that have one have it on test, that on
    dev; without either that of `disagreements`. Files with another metric than the first one's have none. `ms` is the median
    latency, or the mean where no median is known. `front` says whether no other row is better in score, latency and size.
    """
    names = names_of(list(measured))
    rows: list[Row] = []
    common = set.intersection(*({_tokens(each) for each in results} for results in measured.values()))
    for number, (path, results) in enumerate(measured.items()):
        manifest = _manifest(path)
        known = next((each["disagreements"] for each in results if "disagreements" in each), None)
        for threads in dict.fromkeys(each["threads"] for each in results):
            of = [each for each in results if each["threads"] == threads]
            longest = max((each for each in of if not common or _tokens(each) in common), key=_tokens)
            latency = longest["latency_ms"]
            dev = manifest.get("parity") or known or {}
            rows.append(
                {
                    "model": names[path],
                    "path": str(path),
                    "file_number": number,
                    "quantization": manifest.get("quantization"),
                    "family": manifest.get("family"),
                    "parameters": manifest.get("parameters"),
                    "scores": {"test": _score(manifest.get("test")), "dev": _score(dev)},
                    "same_answers": dev.get("argmax_agreement"),
                    "ms": latency.get("median", latency["mean"]),
                    **{key: longest.get(key) for key in _COPIED},
                }
            )
    scored = [row for row in rows if any(row["scores"].values())]
    split = "test" if all(row["scores"]["test"] for row in scored) else "dev"
    chosen = [(row, row["scores"][split] or row["scores"]["test"] or (None, None, None)) for row in rows]
    metric = next((name for _, (name, _, _) in chosen if name), None)
    for row, (name, value, count) in chosen:
        row |= {"metric": name, "split": split, "score": value if name == metric else None, "rows": count}
    for row, best in zip(rows, on_front(rows), strict=True):
        row["front"] = best
    return rows


_COPIED = (
    *(
        "bytes",
        "threads",
        "length",
        "tokens",
        "latency_ms",
        "load_ms",
        "first_ms",
        "init_ms",
        "peak_memory_mb",
        "memory_mb",
    ),
    *("memory_delta_mb", "runs", "warmup", "seconds", "repeats", "minimum", "mlperf_minimum", "agree", "delegate"),
)


def names_of(paths: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of paths that tell them apart."""
    plain = {path: path.parent if path.name == "model.tflite" and path.parent.name else path for path in paths}
    for depth in range(1, max((len(path.parts) for path in plain.values()), default=1) + 1):
        names = {path: "/".join(short.parts[-depth:]) or str(path) for path, short in plain.items()}
        if len(set(names.values())) == len(names):
            return names
    return {path: str(path) for path in paths}


def _manifest(path: Path) -> dict[str, Any]:
    """What a bundle says of itself; empty for a file alone, and for a manifest that `verify` would refuse."""
    directory = path if path.is_dir() else path.parent
    try:
        said = json.loads((directory / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and "files" in said else {}


def _score(said: Any) -> tuple[str, float, int] | None:
    """(metric, score, rows) of what `tfdistill.export.tflite.accuracy_gate.compare` gave."""
    if not isinstance(said, dict) or not isinstance(said.get("metric"), str):
        return None
    value = said.get(said["metric"])
    return (said["metric"], float(value), int(said["rows"])) if isinstance(value, int | float) else None


def _tokens(found: dict[str, Any]) -> int:
    """Of the row that was measured; on a phone it is full."""
    return int(found.get("tokens") or found["length"])


def _having(measured: Measured, key: str) -> list[tuple[str, Any]]:
    names = names_of(list(measured))
    return [(names[path], each[key]) for path, results in measured.items() for each in results if each.get(key)]


def _notes(measured: Measured, rows: Sequence[Row]) -> list[str]:
    said = []
    for row in rows:
        if not row["minimum"]["runs"] or not row["minimum"]["warmup"]:
            said.append(
                f"{row['model']}: {row['runs']} runs, warm-up {row['warmup']}: fewer than the 50 and 1 to ask for."
            )
        if row.get("agree") is False:
            said.append(f"{row['model']}: the repeats on the phone differ by more than 5 %.")
    for name, found in _having(measured, "profile"):
        said += [f"{line}." for line in profiles.remarks(name, found)]
    metric = next((row["metric"] for row in rows if row["score"] is not None), None)
    other = [row["model"] for row in rows if row["metric"] and row["score"] is None]
    if other:
        said.append(f"{', '.join(other)}: scored by another metric than {metric}, therefore not in the picture.")
    if metric is None:
        said.append("No bundle says how good it is: export with --data, or give --data and --model here.")
    return said


# --- table ----------------------------------------------------------------------------------------------------------


def _table(rows: Sequence[Row], baseline: Row | None) -> dict[str, Any]:
    metric = next((row["metric"] for row in rows if row["score"] is not None), "score")
    on_phone = any("delegate" in row and row["delegate"] for row in rows)

    def number(value: float | None, form: str) -> str:
        return DASH if value is None else format(value, form)

    def latency(row: Row) -> str:
        high = next((row["latency_ms"][key] for key in ("p90", "p95") if key in row["latency_ms"]), None)
        return f"{row['ms']:.2f}" + (f" ({high:.2f})" if high is not None else "")

    def times(key: str) -> Any:
        return lambda row: DASH if baseline is None else f"{baseline[key] / row[key]:.2f}×" if row[key] else DASH

    def kept(row: Row) -> str:
        if row.get("mlperf_minimum"):
            return f"{row['runs']} · MLPerf ✓"
        return f"{row['runs']} {'✓' if row['minimum']['runs'] and row['minimum']['warmup'] else '✗'}"

    named = all((row["quantization"] or "") in row["model"] for row in rows)
    columns = [
        ("#", lambda row: str(rows.index(row) + 1)),
        ("Model", lambda row: row["model"]),
        ("Format", lambda row: DASH if named else row["quantization"] or DASH),
        ("Front", lambda row: "★" if row["front"] else DASH),
        (_heading(rows, metric), lambda row: number(row["score"], ".1%" if metric == "accuracy" else ".3f")),
        ("As Keras", lambda row: number(row["same_answers"], ".1%")),
        ("MB", lambda row: f"{row['bytes'] / 1e6:.1f}"),
        ("Smaller", times("bytes")),
        (f"ms ({'p95' if on_phone else 'p90'})", latency),
        ("Faster", times("ms")),
        (
            "Cold ms",
            lambda row: number(row["first_ms"] if row["first_ms"] is not None else row["init_ms"], ".0f"),
        ),
        ("Memory MB", lambda row: number(row["peak_memory_mb"] or row["memory_mb"], ".0f")),
        ("Runs", kept),
        ("Parameters", lambda row: number(row["parameters"], ",d")),
    ]
    for name, key in (("Threads", "threads"), ("Tokens", "length")):
        if len({row[key] for row in rows}) > 1:
            columns.insert(
                8, (name, lambda row, key=key: str(row["tokens"] or row[key] if key == "length" else row[key]))
            )
    columns = [(name, cell) for name, cell in columns if any(cell(row) != DASH for row in rows)]
    return {
        "headings": [name for name, _ in columns],
        "rows": [(row is baseline, _colour(row), [cell(row) for _, cell in columns]) for row in rows],
        "compared": baseline is not None,
        "starred": any(row["front"] for row in rows),
        "on_phone": on_phone,
        "alike": _alike(rows),
    }


def _alike(rows: Sequence[Row]) -> str:
    """What all rows have in common and no column says."""
    said = []
    tokens = {row["tokens"] or row["length"] for row in rows}
    if len(tokens) == 1:
        said.append(f"{tokens.pop()} word pieces")
    threads = {row["threads"] for row in rows}
    if len(threads) == 1:
        number = threads.pop()
        said.append(f"{number} thread{'' if number == 1 else 's'}")
    return "".join(f", {each}" for each in said)


def _heading(rows: Sequence[Row], metric: str) -> str:
    row = next((row for row in rows if row["score"] is not None), None)
    return "Score" if row is None else f"{row['split'].capitalize()} {metric}"


def _colour(row: Row) -> str:
    return COLOURS[row["file_number"] % len(COLOURS)]


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_flat(item)}" for key, item in value.items() if item is not None)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# --- pictures -------------------------------------------------------------------------------------------------------


def _pictures(rows: Sequence[Row], measured: Measured) -> dict[str, Any]:
    scored = [row for row in rows if row["score"] is not None]
    figures, colours = [], [_colour(row) for row in rows]
    if scored:
        metric = scored[0]["metric"]
        figures = [
            (
                f"{metric.capitalize()} against latency: up and left is better; the larger, the more megabytes",
                front(rows, metric, colours, "ms", "latency (ms)"),
            ),
            (
                f"{metric.capitalize()} against size: up and left is better",
                front(rows, metric, colours, "bytes", "size (MB)"),
            ),
        ]
    series = _series(measured)
    if series:
        figures.append(("Latency of shorter and longer texts", lengths(series)))
    bars: tuple[str, list[tuple[str, str]]] | None = None
    profiled = _having(measured, "profile")
    if profiled:
        bars = operator_bars([(name, found) for name, found in profiled])
    shapes = dict.fromkeys(row["quantization"] for row in rows if row["quantization"])
    return {
        "figures": figures,
        "legend": list({row["model"]: colour for row, colour in zip(rows, colours, strict=True)}.items()),
        "markers": [(MARKERS.get(name, OTHER_MARKER)[1], name) for name in shapes] if scored else [],
        "bars": bars,
        "error": _standard_error(scored),
    }


def _standard_error(scored: Sequence[Row]) -> str:
    """How far off an accuracy may be for the texts it was measured on."""
    if not scored or scored[0]["metric"] != "accuracy" or not scored[0]["rows"]:
        return ""
    row = max(scored, key=lambda row: row["score"])
    error = (row["score"] * (1 - row["score"]) / row["rows"]) ** 0.5
    return f"measured on {row['rows']:,} texts of {row['split']}, standard error {100 * error:.1f} points"


def _series(measured: Measured) -> list[tuple[str, str, list[tuple[int, float]]]]:
    """Curves of files that were measured with several numbers of tokens, at their first number of threads."""
    names, found = names_of(list(measured)), []
    for number, (path, results) in enumerate(measured.items()):
        latencies = [(each, each["latency_ms"]) for each in results if each["threads"] == results[0]["threads"]]
        points = sorted((_tokens(each), at.get("median", at["mean"])) for each, at in latencies)
        if len(points) > 1:
            found.append((names[path], COLOURS[number % len(COLOURS)], points))
    return found


def _profile(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """A profile as the page shows it: kinds and the slowest single operators."""
    operators = sorted(enumerate(found["operators"], 1), key=lambda each: -each[1]["ms"])[:_MOST_OPERATORS]
    return {
        "name": name,
        **{key: found.get(key) for key in ("total_ms", "accounted_ms", "remainder_ms", "unprofiled_ms", "complete")},
        **{key: found.get(key) for key in ("partitions", "timed_alone", "runs", "tolerance")},
        "operators": len(found["operators"]),
        "kinds": found["kinds"][:_MOST_KINDS],
        "more": len(found["kinds"]) - _MOST_KINDS,
        "slowest": [(number, each["kind"], each["ms"]) for number, each in operators],
    }
