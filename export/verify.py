"""Compare outputs, and check that a bundle is whole and still gives the answers it was made with. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.metadata import CARD, LABELS, VOCABULARY, files_within, metadata_within
from tfdistill.export.runtime import Rows, TFLiteModel, check_operators, operators, read_file
from tfdistill.files import sha256

MANIFEST, MODEL, GOLDEN = "manifest.json", "model.tflite", "golden.json"
VERSION = 3
_MOST_JSON = 64 * 2**20  # bytes of a JSON file; a few hundred golden vectors take less than one of these megabytes
_ADVICE = "export the bundle again, or fetch it again"


# --- logits ---------------------------------------------------------------------------------------------------------


def check_logits(logits: np.ndarray, name: str = "the file") -> None:
    """Raises UserError when logits (N, C) or (N, L, C) are not finite, or the same for every row."""
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).reshape(len(logits), -1).any(axis=1).sum())
        raise UserError(
            f"{name} gives NaN or infinite logits on {bad} of {len(logits)} rows; its weights are missing or damaged"
        )
    if len(logits) > 1 and (logits == logits[0]).all():
        raise UserError(f"{name} gives the same logits for all {len(logits)} rows; its weights are missing or damaged")


def of_real_tokens(logits: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Logits (N, L, C) as (tokens, C), without those of padding; (N, C) stays what it is."""
    if logits.ndim == 2:
        return logits
    return logits[np.arange(logits.shape[1]) < np.asarray(lengths)[:, None]]


def parity(keras_logits: np.ndarray, tflite_logits: np.ndarray) -> dict[str, float]:
    """How far logits (N, C) of a file are from Keras's: `max_abs_difference`, and `argmax_agreement` within [0, 1].

    Raises UserError for different shapes, no rows, and logits that `check_logits` refuses.
    """
    expected, received = np.asarray(keras_logits, np.float64), np.asarray(tflite_logits, np.float64)
    if expected.shape != received.shape or expected.ndim != 2 or not len(expected):
        raise UserError(f"logits of shapes {expected.shape} and {received.shape}; expected (N, C) of one size, N > 0")
    check_logits(expected, "the Keras model")
    check_logits(received)
    return {
        "max_abs_difference": float(np.abs(expected - received).max()),
        "argmax_agreement": float((expected.argmax(axis=1) == received.argmax(axis=1)).mean()),
    }


# --- bundles --------------------------------------------------------------------------------------------------------


def sealed(manifest: dict[str, Any]) -> str:
    """The text of manifest.json: `manifest` and, as its `seal`, the SHA-256 of all the rest."""

    def text(value: dict[str, Any]) -> str:
        return json.dumps(value, indent=2, ensure_ascii=False)

    rest = {key: value for key, value in manifest.items() if key != "seal"}
    seal = hashlib.sha256(text(rest).encode("utf-8", "surrogatepass")).hexdigest()
    return text({**rest, "seal": seal}) + "\n"


@dataclass(frozen=True)
class Check:
    """Something that was checked and is right."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"

    def __rich__(self) -> str:
        from rich.markup import escape

        return f"[green]✓[/green] [bold]{escape(self.name)}[/bold] {escape(self.detail)}"


def verify_bundle(directory: str | os.PathLike) -> list[Check]:
    """Check a bundle's manifest, checksums, operators, signature, labels and golden vectors.

    Returns:
        What was found right, in that order.

    Raises:
        UserError: the first thing that is wrong.
    """
    try:
        return _checks(Path(directory))
    except RecursionError as error:  # how deep is too deep differs between reading and writing, and between Pythons
        raise UserError(f"{directory} has JSON that is nested too deeply; {_ADVICE}") from error


def intact(directory: str | os.PathLike) -> tuple[dict[str, Any], Check]:
    """A bundle's manifest, when its seal fits it and all files are those that it lists; and that as a check.

    Raises UserError otherwise.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; expected a bundle with {MANIFEST}")
    manifest = _object(directory / MANIFEST)
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{directory / MANIFEST} has version {_short(manifest.get('version'))}; expected {VERSION}; {_ADVICE}"
        )
    try:
        whole = sealed(manifest).encode("utf-8", "surrogatepass")
    except RecursionError as error:  # how deep is too deep differs between reading and writing, and between Pythons
        raise UserError(f"{directory / MANIFEST} has JSON that is nested too deeply; {_ADVICE}") from error
    # Byte for byte, so that there is nothing in it that could change unseen.
    if (directory / MANIFEST).read_bytes() != whole:
        raise UserError(f"{directory / MANIFEST} was changed: its seal does not fit its content; {_ADVICE}")
    return manifest, _check_files(directory, manifest)


def _checks(directory: Path) -> list[Check]:
    manifest, whole = intact(directory)
    checks = [whole]
    content = read_file(directory / MODEL)
    counts = operators(content, MODEL)
    check_operators(counts, MODEL)
    if counts != manifest.get("operators"):
        raise UserError(f"{MODEL} has other operators than {MANIFEST} says; {_ADVICE}")
    checks.append(Check("operators", f"{sum(counts.values())} of {len(counts)} kinds, all built in"))
    model = TFLiteModel(directory / MODEL)
    if model.length != manifest.get("length"):
        raise UserError(
            f"{MODEL} takes {model.length} tokens, {MANIFEST} says {_short(manifest.get('length'))}; {_ADVICE}"
        )
    lengths = manifest.get("lengths")
    if list(model.lengths) != lengths:
        raise UserError(
            f"{MODEL} has signatures of {list(model.lengths)} tokens, {MANIFEST} says {_short(lengths)}; {_ADVICE}"
        )
    shapes = ", ".join(f"[1, {length}]" for length in model.lengths)
    if model.output != manifest.get("output"):
        raise UserError(f"{MODEL} gives {model.output}, {MANIFEST} says {_short(manifest.get('output'))}; {_ADVICE}")
    checks.append(Check("signature", f"{', '.join(model.inputs)} {shapes} → {model.output}"))
    labels = _lines(directory / LABELS)
    if labels != manifest.get("label_names"):
        raise UserError(f"{LABELS} has {labels}, {MANIFEST} says {_short(manifest.get('label_names'))}; {_ADVICE}")
    checks.append(Check("labels", ", ".join(labels)))
    checks.append(_check_metadata(directory, content, manifest))
    checks.append(_check_golden(directory / GOLDEN, model, len(labels), len(_lines(directory / VOCABULARY))))
    return checks


def _check_files(directory: Path, manifest: dict[str, Any]) -> Check:
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{directory / MANIFEST} lists no files; {_ADVICE}")
    for name in files:
        # Nothing outside the bundle is ever opened, whatever a manifest says.
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) or name == MANIFEST:
            raise UserError(
                f"{directory / MANIFEST} names the file {_short(name)}; expected plain names within the bundle; {_ADVICE}"
            )
    missing = [name for name in (MODEL, GOLDEN, LABELS, VOCABULARY) if name not in files]
    if missing:
        raise UserError(f"{directory / MANIFEST} does not list {', '.join(missing)}; {_ADVICE}")
    total = 0
    for name, said in files.items():
        path = directory / name
        if not isinstance(said, dict) or type(said.get("bytes")) is not int or not isinstance(said.get("sha256"), str):
            raise UserError(
                f"{directory / MANIFEST} has {_short(said)} for {name}; expected its sha256 and bytes; {_ADVICE}"
            )
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{path} is missing, or no plain file; {_ADVICE}")
        size = path.stat().st_size
        if size != said["bytes"]:
            raise UserError(f"{path} has {size} bytes, {MANIFEST} says {said['bytes']}; {_ADVICE}")
        if sha256(path) != said["sha256"]:
            raise UserError(f"{path} was changed: its SHA-256 is not the one in {MANIFEST}; {_ADVICE}")
        total += size
    return Check("files", f"{len(files)} files, {total / 1e6:.2f} MB, sizes and SHA-256 as in {MANIFEST}")


def _check_metadata(directory: Path, content: bytes, manifest: dict[str, Any]) -> Check:
    said = metadata_within(content, MODEL)
    for name, within in files_within(directory / MODEL).items():
        if within != (directory / name).read_bytes():
            raise UserError(f"{MODEL} holds another {name} than the bundle; {_ADVICE}")
    for key, value in (("model_card", {key: said[key] for key in CARD}), ("mediapipe", said["mediapipe"])):
        if manifest.get(key) != value:
            raise UserError(
                f"{MODEL} has {key} {_short(value)}, {MANIFEST} says {_short(manifest.get(key))}; {_ADVICE}"
            )
    tokenizer = ", and a tokenizer for MediaPipe" if said["mediapipe"] else ""
    detail = f"{_short(said['name'])}, {VOCABULARY} and {LABELS} inside as they are beside it{tokenizer}"
    return Check("metadata", detail)


def _check_golden(path: Path, model: TFLiteModel, outputs: int, pieces: int) -> Check:
    golden = _object(path)
    try:
        vectors, tolerance = list(golden["vectors"]), float(golden["tolerance"])
        ids = [[int(value) for value in vector["token_ids"]] for vector in vectors]
        segments = [[int(value) for value in vector["segment_ids"]] for vector in vectors]
        logits = [np.array(vector["logits"], np.float64).reshape(-1, outputs) for vector in vectors]
        expected = np.concatenate([np.zeros((0, outputs)), *logits])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is malformed ({type(error).__name__}: {error}); {_ADVICE}") from error
    if not 0 <= tolerance < float("inf"):
        raise UserError(f"{path} allows a difference of {tolerance}; expected a number from 0 up; {_ADVICE}")
    outside = [value for row in ids for value in row if not 0 <= value < pieces]
    if outside or not ids or any(len(a) != len(b) or {*b} - {0, 1} for a, b in zip(ids, segments, strict=True)):
        raise UserError(f"{path} has no vectors, ids outside the vocabulary, or segment ids that do not fit; {_ADVICE}")
    found = of_real_tokens(model.predict(Rows(ids, segments), workers=1), np.array([len(row) for row in ids]))
    if found.shape != expected.shape:
        raise UserError(f"{path} has logits of shape {expected.shape}, {MODEL} gives {found.shape}; {_ADVICE}")
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise UserError(
            f"{MODEL} differs from {path.name} by {difference:.3g}; expected at most {tolerance:.3g}; {_ADVICE}"
        )
    return Check("golden vectors", f"{len(ids)} texts, largest difference {difference:.2g} of {tolerance:.2g} allowed")


def _short(value: Any) -> str:
    """For a message of one line, whatever a manifest holds."""
    said = ascii(value) if isinstance(value, str) else repr(value).encode("ascii", "backslashreplace").decode()
    return said if len(said) <= 200 else f"{said[:200]}…"


def _object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_JSON:
            raise UserError(f"{path} has {path.stat().st_size} bytes; expected {_MOST_JSON} at most; {_ADVICE}")
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {_ADVICE}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {_ADVICE}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no valid JSON ({str(error).splitlines()[0]}); {_ADVICE}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}; expected a JSON object; {_ADVICE}")
    return value


def _lines(path: Path) -> list[str]:
    """Lines of a text file, split at \\n only: a vocabulary has pieces that other rules would split."""
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as UTF-8 ({type(error).__name__}); {_ADVICE}") from error
    return lines[:-1] if lines[-1] == "" else lines
