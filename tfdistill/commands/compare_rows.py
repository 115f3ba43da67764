"""Read runs and bundles for `tfdistill compare`. Imports no TensorFlow."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, listing
from tfdistill.system.files import read_json

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
    if bench is not None and not latencies.keys() & {Path(row.name).resolve() for row in rows if row.kind == "bundle"}:
        raise UserError(
            f"{bench} has none of these bundles, but {listing(map(str, latencies))}. Give the bundles it has"
        )
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
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _data(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return name and fingerprint of the data in run.json, or of those that a bundle was judged on."""
    data = _mapping(source.get("data"))
    return {"data": _text(data.get("name")), "fingerprint": _text(data.get("fingerprint"))}


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
        **_data(run),
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
    metric = _text(measured.get("metric"))
    score = _number(measured.get(metric)) if metric else None
    own = _mapping(_mapping(manifest.get("latency")).get("latency_ms")).get("median")
    data: dict[str, Any] = _data(manifest)
    if of is not None and not _mapping(manifest.get("data")) and _same_score(measured, metric, of, split):
        data = {"data": of.data, "fingerprint": of.fingerprint}  # bundles of older versions do not name their data
    return Row(
        name=str(path),
        kind="bundle",
        method=_recipe(path) or _text(manifest.get("family")) or "",
        of=None if of is None else of.name,
        **data,
        parameters=_number(manifest.get("parameters")),
        split=None if score is None else split,
        metric=None if score is None else metric,
        score=score,
        quantization=_text(manifest.get("quantization")),
        bytes=_number(_mapping(files.get("model.tflite")).get("bytes")),
        latency_ms=_number(latencies.get(path.resolve(), own)),
    )


def _same_score(measured: Mapping[str, Any], metric: str | None, of: Row, split: str) -> bool:
    """Return whether the Keras model had the score of its run, so that both were measured on the same data."""
    keras = _number(measured.get(f"keras_{metric}"))
    return None not in (keras, of.score) and (of.metric, of.split) == (metric, split) and abs(keras - of.score) < 1e-6


def _recipe(bundle: Path) -> str | None:
    """Return the recipe that a bundle's model was trained with, if the bundle knows it."""
    if not (bundle / "recipe.json").is_file():
        return None
    recipe = read_json(bundle / "recipe.json", _ADVICE)
    name = _text(recipe.get("recipe"))
    return name and name + (" (debug)" if recipe.get("debug") else "")


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
            same_data = row is teacher or row.kind == "teacher" or None is not row.fingerprint == teacher.fingerprint
            if same_data and (row.metric, row.split) == (teacher.metric, teacher.split):
                kept = row.score / teacher.score
        done.append(replace(row, factor=size / row.parameters if size and row.parameters else None, kept=kept))
    return done
