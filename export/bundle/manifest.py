"""Seal a bundle's manifest, and check the files of a bundle against it. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from tfdistill.errors import UserError, with_advice
from tfdistill.export.tflite.metadata import LABELS, VOCABULARY
from tfdistill.system.files import parse_json, sha256

MANIFEST, MODEL, GOLDEN, README = "manifest.json", "model.tflite", "golden.json", "README.md"
TOKENIZER, TOKENIZER_JSON = "tokenizer_config.json", "tokenizer.json"
VERSION = 4
ADVICE = "export the bundle again, or fetch it again"
_MOST_TEXT = 64 * 2**20  # bytes of a text or JSON file; golden vectors take less than one megabyte


def damaged(problem: str) -> UserError:
    """Return the error for a bundle with a problem that the user cannot repair."""
    return UserError(with_advice(problem, ADVICE))


class Check(NamedTuple):
    """A check that passed."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def sealed(manifest: dict[str, Any]) -> str:
    """Return the text of manifest.json: `manifest` and its `seal`, the SHA-256 of all other entries."""

    def text(value: dict[str, Any]) -> str:
        return json.dumps(value, indent=2, ensure_ascii=False)

    rest = {key: value for key, value in manifest.items() if key != "seal"}
    seal = hashlib.sha256(text(rest).encode("utf-8", "surrogatepass")).hexdigest()
    return text({**rest, "seal": seal}) + "\n"


def intact(directory: str | os.PathLike) -> tuple[dict[str, Any], Check]:
    """Check a manifest's seal, and the names, sizes and checksums of the files that it lists.

    Entries of the manifest that are not needed for that are ignored, so that bundles of older
    versions pass.

    Args:
        directory: the bundle.

    Returns:
        The manifest, and a description of the check.

    Raises:
        UserError: the bundle is damaged, or a newer version wrote it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; expected a bundle with {MANIFEST}")
    path = directory / MANIFEST
    try:
        manifest = read_object(path)
        version = manifest.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise damaged(f"{path} has version {short(version)}; expected 1 to {VERSION}")
        # Compared byte by byte, so that nothing in the file can change unnoticed.
        if path.read_bytes() != sealed(manifest).encode("utf-8", "surrogatepass"):
            raise damaged(f"{path} was changed: its seal does not fit its content")
    except (
        RecursionError
    ) as error:  # the limits of reading and writing differ, and they depend on the version of Python
        raise damaged(f"{path} has JSON that is nested too deeply") from error
    return manifest, _check_files(directory, manifest.get("files"))


def _check_files(directory: Path, files: Any) -> Check:
    listing = directory / MANIFEST
    if not isinstance(files, dict):
        raise damaged(f"{listing} lists no files")
    for name in files:
        # No file outside the bundle is ever opened.
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) or name == MANIFEST:
            raise damaged(f"{listing} names the file {short(name)}; expected plain names within the bundle")
    missing = [name for name in (MODEL, GOLDEN, LABELS, VOCABULARY, TOKENIZER) if name not in files]
    if missing:
        raise damaged(f"{listing} does not list {', '.join(missing)}")
    total = 0
    for name, entry in files.items():
        path = directory / name
        size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if type(size) is not int or not isinstance(digest, str):
            raise damaged(f"{listing} has {short(entry)} for {name}; expected its sha256 and bytes")
        if path.is_symlink() or not path.is_file():
            raise damaged(f"{path} is missing, or not a plain file")
        if size > _MOST_TEXT and path.suffix != ".tflite":
            raise damaged(f"{path} has {size} bytes; expected at most {_MOST_TEXT}")
        if path.stat().st_size != size:
            raise damaged(f"{path} has {path.stat().st_size} bytes, {MANIFEST} lists {size}")
        if sha256(path) != digest:
            raise damaged(f"{path} was changed: its SHA-256 differs from {MANIFEST}")
        total += size
    # The tokenizer would read it, too.
    if os.path.lexists(directory / TOKENIZER_JSON) and TOKENIZER_JSON not in files:
        raise damaged(f"{directory / TOKENIZER_JSON} is not a file of the bundle")
    return Check("files", f"{len(files)} files, {total / 1e6:.2f} MB, sizes and SHA-256 as in {MANIFEST}")


def check_size(path: Path) -> None:
    """Raise UserError for a new text or JSON file that is larger than `verify` reads."""
    size = path.stat().st_size
    if size > _MOST_TEXT and path.suffix != ".tflite":
        raise UserError(f"{path.name} has {size} bytes; a bundle takes at most {_MOST_TEXT}. Use shorter label names")


def short(value: Any) -> str:
    """Return a short ASCII form of any value, for a message of one line."""
    try:
        text = ascii(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}…"


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a plain file of at most 64 MiB.

    Raises:
        UserError: the file is missing or too large, or holds something else.
    """
    return parse_json(_content(path), path, ADVICE)


def _content(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise damaged(f"{path} is missing, or not a plain file")
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise damaged(f"{path} has {path.stat().st_size} bytes; expected at most {_MOST_TEXT}")
        return path.read_bytes()
    except OSError as error:
        raise damaged(f"cannot read {path}: {error.strerror}") from error
