"""Run `tfdistill compare`: compression factor → score of runs and bundles, as in the papers. Imports no TensorFlow.

The compression factor is the number of teacher parameters ÷ that of student parameters, embeddings included.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfdistill.commands.options import JsonOption
from tfdistill.errors import UserError, optional
from tfdistill.system.files import atomic_file, read_json

# Compression factor against BERT-base and F1 on MRPC, stated or implied by Devlin et al. 2019; Zhao et al. 2019 (first version,
# shared up-projection; hidden sizes 192, 96, 48); Sanh et al. 2019; Sun et al. 2019; Jiao et al. 2020; Sun et al. 2020.
# Each paper chose dev or test, so these numbers give an orientation only.
PUBLISHED = (
    ("BERT-base", 1.0, 88.9),
    ("DualTrain + SharedProj, 192 wide", 5.74, 84.9),
    ("DualTrain + SharedProj, 96 wide", 19.41, 84.9),
    ("DualTrain + SharedProj, 48 wide", 61.94, 79.3),
    ("DistilBERT", 1.67, 87.5),
    ("Patient KD, 6 layers", 1.64, 85.0),
    ("Patient KD, 3 layers", 2.40, 80.7),
    ("TinyBERT, 4 layers", 7.50, 86.4),
    ("MobileBERT", 4.30, 88.8),
)

_ADVICE = "Run the command that wrote it again"


@dataclass(frozen=True)
class Row:
    """Describe one run, bundle or published result. None means unknown.

    Args:
        kind: "teacher", "run", "cut" (a further student that a run cut from its own), "bundle" or "published".
        of: the run that a cut or a bundle belongs to.
        factor: compression factor.
        metric: name of the score in run.json.
        score: higher is better.
        kept: score ÷ the teacher's score on the same split and data.
    """

    name: str
    kind: str
    method: str = ""
    of: str | None = None
    data: str | None = None
    fingerprint: str | None = None
    seed: int | None = None
    state: str = "done"
    parameters: int | None = None
    factor: float | None = None
    split: str | None = None
    metric: str | None = None
    score: float | None = None
    kept: float | None = None
    quantization: str | None = None
    bytes: int | None = None
    latency_ms: float | None = None


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
    rows = rows_of(sources or [], teacher=teacher, split=split, metric=metric, bench=bench, published=published)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(as_table(rows))
    if plot is not None:
        write_plot(rows, plot)


def rows_of(
    sources: Sequence[str | os.PathLike],
    *,
    teacher: str | os.PathLike | None = None,
    split: str | None = None,
    metric: str | None = None,
    bench: str | os.PathLike | None = None,
    published: bool = False,
) -> list[Row]:
    """Return one row for each run and bundle; bundles in a run's directory follow it.

    Args:
        sources: run directories (with run.json) and bundles (with manifest.json).
        teacher: the run that made the teacher. By default the run of `finetune` among `sources`, if there is just one.
        split: "test" or "dev"; by default test if every finished run has scores there, else dev.
        metric: the score to compare; by default the first of each run.
        bench: a file with the output of `tfdistill bench BUNDLE… --json`, for latencies.
        published: also return the papers' results on MRPC.

    Raises:
        UserError: a source is not a run or bundle, is damaged, or lacks the split or the score.
    """
    if not sources and not published:
        raise UserError("nothing to compare. Give run directories or bundles")
    paths = list(dict.fromkeys(Path(source) for source in sources))
    teacher_path = None if teacher is None else Path(teacher)
    if teacher_path is not None and not any(path.resolve() == teacher_path.resolve() for path in paths):
        paths.insert(0, teacher_path)
    runs = {path: read_json(path / "run.json", _ADVICE) for path in paths if (path / "run.json").is_file()}
    if teacher_path is not None and not any(path.resolve() == teacher_path.resolve() for path in runs):
        raise UserError(f"--teacher {teacher_path} has no run.json. Give the run of tfdistill finetune")
    if split is None:
        scored = [_scores(path, run) for path, run in runs.items()]
        split = "test" if all("test" in scores for scores in scored if scores) else "dev"
    latencies = {} if bench is None else _latencies(Path(bench))
    within = {path: sorted(file.parent for file in path.glob("*/manifest.json")) for path in runs}
    listed = {bundle.resolve() for bundles in within.values() for bundle in bundles}
    rows = []
    for path in paths:
        if path in runs:
            run = _run(path, runs[path], split, metric)
            rows.append(run)
            rows += _cuts(path, runs[path], run)
            rows += [_bundle(bundle, latencies, split, of=run) for bundle in within[path]]
        elif (path / "manifest.json").is_file():
            rows += [] if path.resolve() in listed else [_bundle(path, latencies, split)]
        else:
            raise UserError(f"{path} has neither run.json nor manifest.json. Give a run or a bundle")
    rows = _against_teacher(rows, _teacher(rows, teacher_path), runs)
    if published:
        rows += [
            Row(name, "published", method="paper", data="MRPC", factor=factor, metric="f1", score=score / 100)
            for name, factor, score in PUBLISHED
        ]
    return rows


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scores(path: Path, run: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the scores of each split; empty for an unfinished run."""
    if run.get("state") != "done":
        return {}
    scores = _mapping(run.get("scores"))
    if not scores or not all(isinstance(values, dict) and values for values in scores.values()):
        raise UserError(f"{path / 'run.json'} has no scores. Run it again")
    return scores


def _run(path: Path, run: dict[str, Any], split: str, metric: str | None) -> Row:
    scores = _scores(path, run)
    row = Row(
        name=str(path),
        kind="run",
        method=str(run.get("recipe", "")) + (" (debug)" if run.get("debug") else ""),
        data=_mapping(run.get("data")).get("name"),
        fingerprint=_mapping(run.get("data")).get("fingerprint"),
        seed=_number(run.get("seed")),
        state=str(run.get("state", "unknown")),
        parameters=_number(run.get("parameters")),
        **_weights(path / "student"),
    )
    if not scores:
        return row
    if split not in scores:
        raise UserError(f"{path} has no scores on --split {split}. Choose from {', '.join(scores)}")
    values = scores[split]
    name = metric or next(iter(values))
    if name not in values:
        raise UserError(f"{path} has no --metric {name} on {split}. Choose from {', '.join(values)}")
    return replace(row, split=split, metric=name, score=_number(values[name]))


def _cuts(path: Path, run: dict[str, Any], of: Row) -> list[Row]:
    """Return the students that the run cut from its own; the first of them is the run's student."""
    rows = []
    for name, cut in list(_mapping(run.get("cut")).items())[1:]:
        scores, weights = _mapping(_mapping(cut).get("scores")), _weights(path / f"student-{name}")
        score, parameters = _mapping(scores.get(of.split or "")).get(of.metric or ""), _mapping(cut).get("parameters")
        known = {"parameters": _number(parameters), "score": _number(score), **weights}
        rows.append(replace(of, name=name, kind="cut", of=of.name, **known))
    return rows


def _weights(directory: Path) -> dict[str, Any]:
    file = directory / "model.safetensors"
    known = file.is_file()
    return {"quantization": "weights" if known else None, "bytes": file.stat().st_size if known else None}


def _bundle(path: Path, latencies: Mapping[Path, float], split: str, of: Row | None = None) -> Row:
    manifest = read_json(path / "manifest.json", _ADVICE)
    files = _mapping(manifest.get("files"))
    measured = _mapping(manifest.get("parity" if split == "dev" else split))
    metric = measured.get("metric")
    score = _number(measured.get(metric)) if metric else None
    own = _mapping(_mapping(manifest.get("latency")).get("latency_ms")).get("median")
    latency = latencies.get(path.resolve(), own)
    return Row(
        name=str(path),
        kind="bundle",
        method=str(manifest.get("family", "")),
        of=None if of is None else of.name,
        data=None if of is None else of.data,
        fingerprint=None if of is None else of.fingerprint,
        parameters=_number(manifest.get("parameters")),
        split=None if score is None else split,
        metric=None if score is None else str(metric),
        score=score,
        quantization=manifest.get("quantization"),
        bytes=_number(_mapping(files.get("model.tflite")).get("bytes")),
        latency_ms=_number(latency),
    )


def _latencies(path: Path) -> dict[Path, float]:
    """Return the median latency of each bundle or file: of the most tokens, and with them of the fewest threads."""
    latencies: dict[Path, float] = {}
    for name, result in read_json(path, "Give the output of `tfdistill bench --json`").items():
        if isinstance(result, list) and all(isinstance(case, Mapping) for case in result):
            result = max(result, key=lambda case: (case.get("tokens") or 0, -(case.get("threads") or 0)), default=None)
        median = _number(_mapping(_mapping(result).get("latency_ms")).get("median"))
        if median is None:
            raise UserError(f"{path} has no latency_ms for {name}. Give the output of `tfdistill bench --json`")
        latencies[Path(name).resolve()] = median
    return latencies


def _teacher(rows: Sequence[Row], path: Path | None) -> Row | None:
    if path is not None:
        return next(row for row in rows if row.kind == "run" and Path(row.name).resolve() == path.resolve())
    candidates = [row for row in rows if row.kind == "run" and row.method.startswith("finetune")]
    return candidates[0] if len(candidates) == 1 else None


def _against_teacher(rows: list[Row], teacher: Row | None, runs: Mapping[Path, dict[str, Any]]) -> list[Row]:
    """Add compression factors and shares of the teacher's score. A run may state the size of its teacher."""
    sizes = {str(path): _number(_mapping(run.get("teacher")).get("parameters")) for path, run in runs.items()}
    done = []
    for row in rows:
        if row is teacher:
            row = replace(row, kind="teacher")
        size = sizes.get(row.of or row.name) or (None if teacher is None else teacher.parameters)
        if row.kind == "teacher":
            size = row.parameters
        kept = None
        if teacher is not None and teacher.score and row.score is not None:
            same_data = row.fingerprint == teacher.fingerprint or (row.of is None and row.kind == "bundle")
            if same_data and (row.metric, row.split) == (teacher.metric, teacher.split):
                kept = row.score / teacher.score
        done.append(replace(row, factor=size / row.parameters if size and row.parameters else None, kept=kept))
    return done


# --- showing --------------------------------------------------------------------------------------------------------


def as_table(rows: Sequence[Row]) -> Table:
    """Return a table for the terminal, without empty columns."""

    def show(pattern: str, value: Any, scale: float = 1.0) -> str:
        return "" if value is None else pattern.format(value * scale)

    columns: dict[str, list[str]] = {
        "": [("  " if row.of else "") + row.name for row in rows],
        "method": [row.method if row.state == "done" else f"{row.method}, {row.state}" for row in rows],
        "seed": [show("{}", row.seed) for row in rows],
        "parameters": [show("{:,}", row.parameters) for row in rows],
        "factor": [show("{:.2f}×", row.factor) for row in rows],
        "score": [show("{:.2f}", row.score, 100) for row in rows],
        "metric": [" ".join(filter(None, [row.split, _words(row.metric)])) + _other_data(row, rows) for row in rows],
        "kept": [show("{:.1f} %", row.kept, 100) for row in rows],
        "file": [row.quantization or "" for row in rows],
        "MB": [show("{:.1f}", row.bytes, 1e-6) for row in rows],
        "ms": [show("{:.2f}", row.latency_ms) for row in rows],
    }
    table = Table(title="compression factor → score")
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    for name in shown:
        table.add_column(name, justify="left" if name in ("", "method", "metric", "file") else "right", overflow="fold")
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*map(escape, cells))
    return table


def _other_data(row: Row, rows: Sequence[Row]) -> str:
    """Name a row's data where the rows have different data."""
    return f" ({row.data})" if row.data and len({other.data for other in rows if other.data}) > 1 else ""


def _words(metric: str | None) -> str:
    return (metric or "").replace("_", " ")


def write_plot(rows: Sequence[Row], path: str | os.PathLike) -> Path:
    """Plot score over compression factor, one colour for each method.

    Args:
        rows: as `rows_of` returns them.
        path: ends in .png, .svg or .pdf.

    Returns:
        The path.

    Raises:
        UserError: no row has both numbers, the path has another ending, or matplotlib is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"received --plot {path}. Give a name that ends in .png, .svg or .pdf")
    matplotlib = optional("matplotlib", "quickstart")
    shown = [row for row in rows if row.factor is not None and row.score is not None]
    if not shown:
        raise UserError(
            "no row has both a compression factor and a score to plot. Give the teacher's run with `--teacher`"
        )
    figure = optional("matplotlib.figure", "quickstart").Figure(figsize=(8, 5), layout="constrained")
    axes, colors = figure.subplots(), matplotlib.colormaps["tab10"].colors
    for number, method in enumerate(dict.fromkeys(row.method for row in shown)):
        own = [row for row in shown if row.method == method]
        points = [(row.factor, 100 * (row.score or 0)) for row in own]
        marker = "x" if own[0].kind == "published" else "o"
        axes.scatter(*zip(*points, strict=True), color=[colors[number % 10]], marker=marker, label=method or "run")
        for row, point in zip(own, points, strict=True):
            name = row.name if row.kind == "published" else Path(row.name).name
            axes.annotate(name, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("compression factor (teacher parameters ÷ student parameters)")
    axes.set_ylabel(", ".join(dict.fromkeys(_words(row.metric) for row in shown)) + ", %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
    return path
