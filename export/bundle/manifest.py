"""The files of a bundle, the checksums that its manifest has of them, and the manifest's own. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.tflite.metadata import LABELS, VOCABULARY
from tfdistill.system.files import sha256

MANIFEST, MODEL, GOLDEN = "manifest.json", "model.tflite", "golden.json"
TOKENIZER, TEXT_MODEL = "tokenizer_config.json", "model-text.tflite"
VERSION = 4
ADVICE = "export the bundle again, or fetch it again"
_MOST_TEXT = (
    64 * 2**20
)  # bytes of a text or JSON file; a few hundred golden vectors take less than one of these megabytes


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


def sealed(manifest: dict[str, Any]) -> str:
    """The text of manifest.json: `manifest` and, as its `seal`, the SHA-256 of all the rest."""

    def text(value: dict[str, Any]) -> str:
        return json.dumps(value, indent=2, ensure_ascii=False)

    rest = {key: value for key, value in manifest.items() if key != "seal"}
    seal = hashlib.sha256(text(rest).encode("utf-8", "surrogatepass")).hexdigest()
    return text({**rest, "seal": seal}) + "\n"


def intact(directory: str | os.PathLike) -> tuple[dict[str, Any], Check]:
    """A bundle's manifest, when its seal fits it and all files are those that it lists; and that as a check.

    Raises UserError otherwise.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; expected a bundle with {MANIFEST}")
    manifest = read_object(directory / MANIFEST)
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{directory / MANIFEST} has version {short(manifest.get('version'))}; expected {VERSION}; {ADVICE}"
        )
    try:
        whole = sealed(manifest).encode("utf-8", "surrogatepass")
    except RecursionError as error:  # how deep is too deep differs between reading and writing, and between Pythons
        raise UserError(f"{directory / MANIFEST} has JSON that is nested too deeply; {ADVICE}") from error
    # Byte for byte, so that there is nothing in it that could change unseen.
    if (directory / MANIFEST).read_bytes() != whole:
        raise UserError(f"{directory / MANIFEST} was changed: its seal does not fit its content; {ADVICE}")
    return manifest, _check_files(directory, manifest)


def _check_files(directory: Path, manifest: dict[str, Any]) -> Check:
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{directory / MANIFEST} lists no files; {ADVICE}")
    for name in files:
        # Nothing outside the bundle is ever opened, whatever a manifest says.
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) or name == MANIFEST:
            raise UserError(
                f"{directory / MANIFEST} names the file {short(name)}; expected plain names within the bundle; {ADVICE}"
            )
    missing = [name for name in (MODEL, GOLDEN, LABELS, VOCABULARY, TOKENIZER) if name not in files]
    if missing:
        raise UserError(f"{directory / MANIFEST} does not list {', '.join(missing)}; {ADVICE}")
    total = 0
    for name, said in files.items():
        path = directory / name
        if not isinstance(said, dict) or type(said.get("bytes")) is not int or not isinstance(said.get("sha256"), str):
            raise UserError(
                f"{directory / MANIFEST} has {short(said)} for {name}; expected its sha256 and bytes; {ADVICE}"
            )
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{path} is missing, or no plain file; {ADVICE}")
        size = path.stat().st_size
        if size != said["bytes"]:
            raise UserError(f"{path} has {size} bytes, {MANIFEST} says {said['bytes']}; {ADVICE}")
        if sha256(path) != said["sha256"]:
            raise UserError(f"{path} was changed: its SHA-256 is not the one in {MANIFEST}; {ADVICE}")
        total += size
    return Check("files", f"{len(files)} files, {total / 1e6:.2f} MB, sizes and SHA-256 as in {MANIFEST}")


def short(value: Any) -> str:
    """For a message of one line, whatever a manifest holds."""
    said = ascii(value) if isinstance(value, str) else repr(value).encode("ascii", "backslashreplace").decode()
    return said if len(said) <= 200 else f"{said[:200]}…"


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a bundle. Raises UserError for another file, and one of over 64 MiB."""
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no valid JSON ({str(error).splitlines()[0]}); {ADVICE}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}; expected a JSON object; {ADVICE}")
    return value


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, split at \\n only: a vocabulary has pieces that other rules would split.

    Raises UserError for a file that is no UTF-8, and one of over 64 MiB.
    """
    try:
        lines = _text(path).split("\n")
    except ValueError as error:
        raise UserError(f"cannot read {path} as UTF-8 ({type(error).__name__}); {ADVICE}") from error
    return lines[:-1] if lines[-1] == "" else lines


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise UserError(f"{path} has {path.stat().st_size} bytes; expected {_MOST_TEXT} at most; {ADVICE}")
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {ADVICE}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {ADVICE}") from error
