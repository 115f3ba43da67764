"""Describe a corpus that `tfdistill corpus` wrote: its settings, counts, shards and checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tfdistill.cache.checksums import damage
from tfdistill.corpora.parts import PARTS
from tfdistill.errors import UserError, short
from tfdistill.system.files import read_json

MANIFEST = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # of a shard or a file in it: never a path
_ALWAYS = ("corpus.json", "counts.npy")  # in every shard


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _are_names(value: Any) -> bool:
    is_list = isinstance(value, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in value)
    return is_list and 0 < len(value) == len(set(value))


def _are_sums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) and re.fullmatch("[0-9a-f]{64}", each) for each in value.values()
    )


def _are_totals(value: Any) -> bool:
    needed = {f"{part}_tokens" for part in PARTS}
    return isinstance(value, dict) and needed <= value.keys() and all(map(_is_count, value.values()))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "source": lambda value: isinstance(value, str),
    "settings": lambda value: isinstance(value, dict),
    "vocabulary": lambda value: isinstance(value, str),
    "versions": lambda value: isinstance(value, dict),
    "totals": _are_totals,
    "shards": _are_names,
    "sha256": _are_sums,
}


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
        """Read parsed JSON. Raises ValueError if a key is missing, or a value of another type or out of its range."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in content]:
            raise ValueError(f"{MANIFEST} has no {', '.join(missing)}")
        manifest = cls(**{name: content[name] for name in names})
        for name, is_right in _CHECKS.items():
            if not is_right(getattr(manifest, name)):
                raise ValueError(f"{MANIFEST} has `{name}` {short(json.dumps(getattr(manifest, name), default=str))}")
        for name in manifest.sha256:
            shard, _, file = name.partition("/")
            if shard not in manifest.shards or not _NAME.fullmatch(file):
                raise ValueError(f"{MANIFEST} has the checksum of {short(name)}, which is in none of its shards")
        for shard in manifest.shards:
            if unchecked := [file for file in _ALWAYS if f"{shard}/{file}" not in manifest.sha256]:
                raise ValueError(f"{MANIFEST} has no checksum of {shard}/{unchecked[0]}")
        return manifest

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


def check(directory: Path, *, again: bool = True, inspect: Callable[[Path], str] | None = None) -> None:
    """Compare all files of a corpus with their checksums.

    Args:
        directory: the corpus.
        again: compare files that were compared before and have not changed since.
        inspect: returns what is wrong with the content of a file that was compared, or "".

    Raises:
        UserError: a file is missing or was changed, or `inspect` found something.
    """
    wrong = damage(directory, Manifest.read(directory).sha256, again=again, inspect=inspect)
    if wrong:
        raise UserError(f"{directory / wrong}. Delete {directory}, then repeat the same `tfdistill corpus` command.")
