"""Describe a corpus that `tfdistill corpus` wrote: its settings, counts, shards and checksums."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tfdistill.cache.checksums import damage
from tfdistill.errors import UserError
from tfdistill.system.files import read_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Hold the content of manifest.json.

    Args:
        source: the text, as on the command line.
        settings: all that decides about the content of the corpus.
        vocabulary: fingerprint of the tokenizer.
        versions: versions of the libraries.
        totals: counts of documents, sentences, repeated sentences, bytes and tokens.
        shards: names of the shards' directories.
        sha256: SHA-256 of each file, by its name relative to the corpus.
    """

    source: str
    settings: dict[str, Any]
    vocabulary: str
    versions: dict[str, Any]
    totals: dict[str, int]
    shards: list[str]
    sha256: dict[str, str]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Manifest:
        """Read parsed JSON. Raises ValueError if a key is missing."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in content]:
            raise ValueError(f"{MANIFEST} has no {', '.join(missing)}")
        return cls(**{name: content[name] for name in names})

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read the manifest of a directory. Raises UserError if the directory is not a corpus."""
        advice = "Expected a directory that `tfdistill corpus` wrote."
        content = read_json(directory / MANIFEST, advice)
        try:
            return cls.from_json(content)
        except ValueError as error:
            raise UserError(f"{directory}: {error}. {advice}") from error

    def as_text(self) -> str:
        """Return the content of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def check(directory: Path, *, again: bool = True) -> None:
    """Compare all files of a corpus with their checksums.

    Args:
        directory: the corpus.
        again: compare files that were compared before and have not changed since.

    Raises:
        UserError: a file is missing or was changed.
    """
    wrong = damage(directory, Manifest.read(directory).sha256, again=again)
    if wrong:
        raise UserError(f"{directory / wrong}. Delete {directory}, then repeat the same `tfdistill corpus` command.")
