"""Runs and bundles side by side: compression factor, score, share of the teacher's score kept, files, latency.

The form is that of the tables in the papers: compression factor (teacher parameters ÷ student parameters, embeddings
included) → score. Imports no TensorFlow.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from tfdistill.errors import UserError, optional
from tfdistill.system.files import atomic_write

# MRPC F1 beside the compression factor against BERT-base, as the papers say or imply: Devlin et al. 2019; Zhao et al. 2019
# (first version, shared up-projection; widths 192, 96, 48); Sanh et al. 2019; Sun et al. 2019; Jiao et al. 2020; Sun et al. 2020.
# On dev or test as each paper chose, so they stand beside one's own numbers, not on one scale with them.
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


@dataclass(frozen=True)
class Row:
    """One run, bundle or published result. What is not known is None.

    kind: "teacher", "run", "cut" (another student that a run cut from its own), "bundle" or "published". of: the run that a
    cut or a bundle belongs to. factor: compression factor. metric,
    score: as in run.json, where higher is better. kept: score ÷ the teacher's score on the same split and data.
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
    sources: Sequence[str | os.PathLike],
    *,
    teacher: str | os.PathLike | None = None,
    split: str | None = None,
    metric: str | None = None,
    bench: str | os.PathLike | None = None,
    published: bool = False,
) -> list[Row]:
    """One row for each run and bundle, bundles that lie in a run's directory behind it.

    Args:
        sources: run directories (with run.json) and bundles (with manifest.json).
        teacher: the run that made the teacher. By default the run of `finetune` among `sources`, if there is just one.
        split: "test" or "dev"; by default test if every finished run has scores there, else dev.
        metric: the score to compare; by default the first of each run.
        bench: a file with what `tfdistill bench BUNDLE… --json` printed, for latencies.
        published: also the papers' rows for MRPC.

    Raises:
        UserError: something that is no run or bundle, is damaged, or has no such split or score.
    """
    if not sources and not published:
        raise UserError("nothing to compare; give run directories or bundles")
    paths = list(dict.fromkeys(Path(source) for source in sources))
    teacher_path = None if teacher is None else Path(teacher)
    if teacher_path is not None and not any(path.resolve() == teacher_path.resolve() for path in paths):
        paths.insert(0, teacher_path)
    runs = {path: _json(path / "run.json") for path in paths if (path / "run.json").is_file()}
    if teacher_path is not None and not any(path.resolve() == teacher_path.resolve() for path in runs):
        raise UserError(f"{teacher_path} has no run.json; expected the run of tfdistill finetune that made the teacher")
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
            raise UserError(
                f"{path} has neither run.json nor manifest.json; expected a directory made by tfdistill train, finetune "
                "or export"
            )
    rows = _against_teacher(rows, _teacher(rows, teacher_path), runs)
    if published:
        rows += [
            Row(name, "published", method="paper", data="MRPC", factor=factor, metric="f1", score=score / 100)
            for name, factor, score in PUBLISHED
        ]
    return rows


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected the JSON that tfdistill wrote, run it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; expected the JSON object that tfdistill wrote")
    return content


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scores(path: Path, run: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Scores by split; empty for a run that is not done."""
    if run.get("state") != "done":
        return {}
    scores = _mapping(run.get("scores"))
    if not scores or not all(isinstance(values, dict) and values for values in scores.values()):
        raise UserError(f"{path / 'run.json'} has no scores; expected those of a run that is done: run it again")
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
        raise UserError(f"{path} has no scores on {split}; found {', '.join(scores)}: choose another --split")
    found = scores[split]
    name = metric or next(iter(found))
    if name not in found:
        raise UserError(f"{path} has no score '{name}' on {split}; found {', '.join(found)}: choose another --metric")
    return replace(row, split=split, metric=name, score=_number(found[name]))


def _cuts(path: Path, run: dict[str, Any], of: Row) -> list[Row]:
    """Students that the run cut from its own, except the first, which is the run's student."""
    rows = []
    for name, cut in list(_mapping(run.get("cut")).items())[1:]:
        found = _mapping(_mapping(_mapping(cut).get("scores")).get(of.split or ""))
        rows.append(
            replace(
                of,
                name=name,
                kind="cut",
                of=of.name,
                parameters=_number(_mapping(cut).get("parameters")),
                score=_number(found.get(of.metric or "")),
                **_weights(path / f"student-{name}"),
            )
        )
    return rows


def _weights(directory: Path) -> dict[str, Any]:
    file = directory / "model.safetensors"
    return (
        {"quantization": "weights", "bytes": file.stat().st_size}
        if file.is_file()
        else {"quantization": None, "bytes": None}
    )


def _bundle(path: Path, latencies: Mapping[Path, float], split: str, of: Row | None = None) -> Row:
    manifest = _json(path / "manifest.json")
    files = _mapping(manifest.get("files"))
    measured = _mapping(manifest.get("parity" if split == "dev" else split))  # what export measured on dev and on test
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
    """Median milliseconds by bundle or file; of several lengths and threads those of the longest with the fewest."""
    found: dict[Path, float] = {}
    for name, result in _json(path).items():
        if isinstance(result, list) and all(isinstance(case, Mapping) for case in result):
            result = max(result, key=lambda case: (case.get("tokens") or 0, -(case.get("threads") or 0)), default=None)
        median = _number(_mapping(_mapping(result).get("latency_ms")).get("median"))
        if median is None:
            raise UserError(f"{path} has no latency_ms of '{name}'; expected what tfdistill bench --json printed")
        found[Path(name).resolve()] = median
    return found


def _teacher(rows: Sequence[Row], given: Path | None) -> Row | None:
    if given is not None:
        return next(row for row in rows if row.kind == "run" and Path(row.name).resolve() == given.resolve())
    candidates = [row for row in rows if row.kind == "run" and row.method.startswith("finetune")]
    return candidates[0] if len(candidates) == 1 else None


def _against_teacher(rows: list[Row], teacher: Row | None, runs: Mapping[Path, dict[str, Any]]) -> list[Row]:
    """The rows with compression factors and shares of the teacher's score. A run may say itself how large its teacher was."""
    sizes = {str(path): _number(_mapping(run.get("teacher")).get("parameters")) for path, run in runs.items()}
    done = []
    for row in rows:
        if row is teacher:
            done.append(
                replace(row, kind="teacher", factor=1.0 if row.parameters else None, kept=1.0 if row.score else None)
            )
            continue
        size = sizes.get(row.of or row.name) or (teacher.parameters if teacher is not None else None)
        factor = size / row.parameters if size and row.parameters else None
        comparable = (
            teacher is not None
            and bool(teacher.score)
            and row.score is not None
            and (row.metric, row.split) == (teacher.metric, teacher.split)
            and ((row.of is None and row.kind == "bundle") or row.fingerprint == teacher.fingerprint)
        )
        kept = row.score / teacher.score if comparable and teacher and teacher.score and row.score is not None else None
        done.append(replace(row, factor=factor, kept=kept))
    return done


# --- showing --------------------------------------------------------------------------------------------------------


def as_json(rows: Iterable[Row]) -> str:
    """A JSON list with one object a row."""
    return json.dumps([asdict(row) for row in rows], indent=2)


def as_table(rows: Sequence[Row]) -> Table:
    """For a terminal. Columns that no row fills are left out."""

    def show(pattern: str, value: Any, scale: float = 1.0) -> str:
        return "" if value is None else pattern.format(value * scale)

    columns: dict[str, list[str]] = {
        "": [("  " if row.of else "") + row.name for row in rows],
        "method": [row.method if row.state == "done" else f"{row.method}, {row.state}" for row in rows],
        "seed": [show("{}", row.seed) for row in rows],
        "parameters": [show("{:,}", row.parameters) for row in rows],
        "factor": [show("{:.2f}×", row.factor) for row in rows],
        "score": [show("{:.2f}", row.score, 100) for row in rows],
        "metric": [
            " ".join(filter(None, [row.split, (row.metric or "").replace("_", " ")])) + _other_data(row, rows)
            for row in rows
        ],
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
    """The name of a row's data, where the rows are not all of the same."""
    return f" ({row.data})" if row.data and len({other.data for other in rows if other.data}) > 1 else ""


def plot(rows: Sequence[Row], path: str | os.PathLike) -> Path:
    """A picture: score over compression factor, one colour for each method.

    Raises MissingExtra without matplotlib; UserError when no row has both.
    """
    matplotlib = optional("matplotlib", "quickstart")
    shown = [row for row in rows if row.factor is not None and row.score is not None]
    if not shown:
        raise UserError(
            "no row has both a compression factor and a score, so there is nothing to plot; give --teacher RUN"
        )
    figure = optional("matplotlib.figure", "quickstart").Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    methods = list(dict.fromkeys(row.method for row in shown))
    colors = matplotlib.colormaps["tab10"].colors
    for number, method in enumerate(methods):
        own = [row for row in shown if row.method == method]
        axes.scatter(
            [row.factor for row in own],
            [100 * (row.score or 0) for row in own],
            color=[colors[number % len(colors)]],
            marker="x" if own[0].kind == "published" else "o",
            label=method or "run",
        )
        for row in own:
            axes.annotate(
                Path(row.name).name if row.kind != "published" else row.name,
                (row.factor, 100 * (row.score or 0)),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
            )
    axes.set_xscale("log")
    axes.set_xlabel("compression factor (teacher parameters ÷ student parameters)")
    axes.set_ylabel(", ".join(dict.fromkeys((row.metric or "").replace("_", " ") for row in shown)) + ", %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    form = Path(path).suffix.lstrip(".").lower() or "png"
    if form not in ("png", "svg", "pdf"):
        raise UserError(f"--plot {path}: expected a name that ends in .png, .svg or .pdf")
    figure.savefig(buffer, format=form, dpi=150)
    return atomic_write(path, buffer.getvalue())
