"""Turn what `tfdistill bench` measured into one row for each file and number of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bench.host import typical_ms
from tfdistill.system.files import read_json

# The results of each bundle or .tflite file, from `bench_cases`, `bench_on_phone` or `ios.read_result`. One result of a file
# may have a `profile`, and one `disagreements` (see `worst_disagreements`).
Measured = Mapping[Path, Sequence[dict[str, Any]]]
Row = dict[str, Any]

_LARGEST = 1e15  # of a number in a manifest
_COPIED = (
    "bytes", "threads", "length", "tokens", "latency_ms", "load_ms", "first_ms", "init_ms", "peak_memory_mb", "memory_mb",
    "memory_delta_mb", "runs", "warmup", "seconds", "repeats", "minimum", "mlperf_minimum", "agree", "delegate",
)  # fmt: skip


def rows_of(measured: Measured) -> list[Row]:
    """Return one row for each file and number of threads.

    A row has the longest example that all files were measured with, or else the file's own longest.

    Returns:
        Rows with `score` (on test, from the bundle's manifest; on dev unless all files with a score have one on test;
        otherwise from `disagreements`; None for a metric unlike the first file's), `metric`, `split`, `examples`, `ms`
        (see `typical_ms`), `front` (see `on_front`), what the manifest states, and the measurement.
    """
    names = names_of(list(measured))
    rows: list[Row] = []
    common = set.intersection(*({tokens_of(each) for each in results} for results in measured.values()))
    for number, (path, results) in enumerate(measured.items()):
        manifest = _manifest(path)
        measured_dev = [each["disagreements"] for each in results if "disagreements" in each]
        dev: dict[str, Any] = _mapping(manifest.get("parity")) or next(iter(measured_dev), {})
        for threads in dict.fromkeys(each["threads"] for each in results):
            alike = [each for each in results if each["threads"] == threads]
            longest = max((each for each in alike if not common or tokens_of(each) in common), key=tokens_of)
            rows.append(
                {
                    "model": names[path],
                    "path": str(path),
                    "file_number": number,
                    **_stated(manifest),
                    "scores": {"test": _score(manifest.get("test")), "dev": _score(dev)},
                    "same_answers": _number(dev.get("argmax_agreement")),
                    "ms": typical_ms(longest),
                    **{key: longest.get(key) for key in _COPIED},
                }
            )
    split = "test" if all(row["scores"]["test"] for row in rows if any(row["scores"].values())) else "dev"
    chosen = [row["scores"][split] or row["scores"]["test"] or (None, None, None) for row in rows]
    metric = next((name for name, _, _ in chosen if name), None)
    for row, (name, value, count) in zip(rows, chosen, strict=True):
        row |= {"metric": name, "split": split, "score": value if name == metric else None, "examples": count}
    for row, best in zip(rows, on_front(rows), strict=True):
        row["front"] = best
    return rows


def on_front(rows: Sequence[Row]) -> list[bool]:
    """Tell for each row whether no other is at least as good in `score`, `ms` and `bytes` and better in one of them."""
    known = {
        number: (-row["score"], row["ms"], row["bytes"])
        for number, row in enumerate(rows)
        if row.get("score") is not None and row.get("ms") is not None
    }

    def beaten(own: tuple[float, ...]) -> bool:
        return any(each != own and all(x <= y for x, y in zip(each, own, strict=True)) for each in known.values())

    return [number in known and not beaten(known[number]) for number in range(len(rows))]


def names_of(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the shortest ends of paths that tell them apart."""
    plain = {path: path.parent if path.name == "model.tflite" and path.parent.name else path for path in paths}
    for depth in range(1, max((len(path.parts) for path in plain.values()), default=1) + 1):
        names = {path: "/".join(short.parts[-depth:]) or str(path) for path, short in plain.items()}
        if len(set(names.values())) == len(names):
            return names
    return {path: str(path) for path in paths}


def tokens_of(result: dict[str, Any]) -> int:
    """Return the tokens of the measured example, which is a full one on a phone."""
    return int(result.get("tokens") or result["length"])


def having(measured: Measured, key: str) -> list[tuple[str, Any]]:
    """Return (name of the file, value) of each result that has a value for the key."""
    names = names_of(list(measured))
    return [(names[path], each[key]) for path, results in measured.items() for each in results if each.get(key)]


def _manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a bundle; empty for a single file and for damage, which `verify` reports."""
    directory = path if path.is_dir() else path.parent
    try:
        manifest = read_json(directory / "manifest.json", "")
    except UserError:
        return {}
    return manifest if "files" in manifest else {}


def _stated(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest states about the model; None for an entry of another type, as in a hand-made bundle."""
    texts = {key: manifest.get(key) for key in ("quantization", "family")}
    known = {key: value if isinstance(value, str) else None for key, value in texts.items()}
    parameters = _number(manifest.get("parameters"))
    return {**known, "parameters": None if parameters is None else int(parameters)}


def _mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object, or an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return value if known and abs(value) < _LARGEST else None


def _score(compared: Any) -> tuple[str, float, int] | None:
    """Return (metric, score, examples) from a result of `tfdistill.export.tflite.accuracy_gate.compare`."""
    metric = _mapping(compared).get("metric")
    if not isinstance(metric, str):
        return None
    value, rows = _number(compared.get(metric)), _number(compared.get("rows"))
    return None if value is None or rows is None else (metric, float(value), int(rows))
