"""Checkpoints: everything that a run needs to resume exactly where it was, in directories that are intact or skipped.

`RUN/resume/000012` holds arrays.safetensors, and state.json with its own checksum and that of the arrays. A checkpoint is
written to a temporary name, flushed and renamed, under a new number each time, so that no clock matters and the one before
stays intact until the new one is. A damaged one is removed. One that cannot be read for another reason, such as an
unreachable disk, ends the run and stays as it is. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.files import LOCK, atomic_directory, atomic_write, sha256

PROJECTIONS = "projections.safetensors"  # next to a student: the projections that were learned with it
_STATE, _ARRAYS = "state.json", "arrays.safetensors"
# The file is missing or not a file. Other errors of the system say nothing about its content.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
# What atomic writing leaves behind in a run directory when the process is killed.
_LEFT_OVER = re.compile(r"\.(run\.json|log\.jsonl|checkpoint|student[^.]*|\d{6})\..+")

Arrays = dict[str, np.ndarray]


class _Unusable(Exception):
    """A checkpoint that will never be of use to this run; the message says why."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they are; the first `write` makes it.
        identity: identity of the recipe; a checkpoint of another one is not read.
        seconds: a checkpoint is due this long after the last one; 0 after every step.
        keep: number of checkpoints to keep.
        read_only: for a worker next to the one that writes.
    """

    def __init__(
        self, directory: Path, identity: str, *, seconds: float = 300.0, keep: int = 2, read_only: bool = False
    ):
        self.read_only = read_only
        self.directory, self.identity, self.seconds, self.keep = directory, identity, seconds, max(1, keep)
        self.last = ""  # place of the newest one, in words
        self.resumed_from: list[str] = []  # places that the run resumed from, the last one included
        self._failed = False
        self._since, self._took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        """Return whether it is time for a checkpoint. Changes of the system clock do not count."""
        return time.monotonic() - self._since >= self.seconds

    @property
    def cheap(self) -> bool:
        """Return whether one more would take less than a twentieth of the time since the last one."""
        return self.due or time.monotonic() - self._since >= 20 * self._took

    def write(self, state: Mapping[str, Any], arrays: Arrays, place: str) -> bool:
        """Write a checkpoint and remove the oldest. Returns whether that was possible.

        A full disk ends no training: one line reports it, older checkpoints are removed if that helps, the newest always
        stays.

        Args:
            state: plain values.
            arrays: those of `arrays_of`.
            place: where the run is, in words, such as "step 5 of 'labels'".
        """
        if self.read_only:
            return False
        begun = time.monotonic()
        try:
            try:
                self._write(state, arrays, place)
            except UserError:
                old = self._numbers()[:-1]
                if not old:
                    raise
                self._remove(old)
                self._write(state, arrays, place)
        except UserError as error:
            if not self._failed:
                kept = f"the last one ({self.last}) stays" if self.last else "there is none yet"
                say(f"no checkpoint: {error} Training continues, {kept}, and the next one is tried when it is due.")
            self._failed, self._since = True, time.monotonic()
            return False
        if self._failed:
            say(f"checkpoints are written again ({place})")
        self._failed, self._since, self.last = False, time.monotonic(), place
        self._took = self._since - begun
        with suppress(UserError):  # what cannot be removed does no harm
            self._remove(self._numbers()[: -self.keep])
        return True

    def read(self) -> tuple[dict[str, Any], Arrays] | None:
        """Return state and arrays of the newest intact checkpoint, or None. Others are removed, with one line each.

        Raises UserError if one cannot be read for a reason that may pass, such as an unreachable disk. It stays.
        """
        for number in reversed(self._numbers()):
            try:
                state, arrays = self._read(self._path(number))
            except _Unusable as why:
                say(f"removed {self._path(number)}, which {why}")
                self._remove([number])
                continue
            self.last, self.resumed_from = state["place"], [*state["resumed_from"], state["place"]]
            return state, arrays
        return None

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"

    def _numbers(self) -> list[int]:
        """Return the numbers of all checkpoints in order. Raises UserError if the directory cannot be read."""
        try:
            names = [path.name for path in self.directory.iterdir()] if self.directory.is_dir() else []
        except OSError as error:
            raise _unreadable(self.directory, error) from error
        return sorted(int(name) for name in names if name.isdecimal())

    def _write(self, state: Mapping[str, Any], arrays: Arrays, place: str) -> None:
        path = self._path(max(self._numbers(), default=0) + 1)
        with atomic_directory(path) as temporary:
            try:
                save_file(arrays, temporary / _ARRAYS)
            except SafetensorError as error:
                raise UserError(f"cannot write {path}: {error}. Free some room.") from error
            os.chmod(temporary / _ARRAYS, 0o644)
            about = {"identity": self.identity, "place": place, "resumed_from": self.resumed_from}
            content = json.dumps({**about, **state, "arrays": sha256(temporary / _ARRAYS)}, indent=1)
            atomic_write(temporary / _STATE, f"{_digest(content)}\n{content}\n")

    def _read(self, path: Path) -> tuple[dict[str, Any], Arrays]:
        try:
            checksum, _, content = (path / _STATE).read_text("utf-8").partition("\n")
            if checksum != _digest(content.removesuffix("\n")):
                raise _Unusable(f"is damaged ({_STATE} has another checksum)")
            state = json.loads(content)
            if state["identity"] != self.identity:
                raise _Unusable("belongs to another run or version")
            if sha256(path / _ARRAYS) != state["arrays"]:
                raise _Unusable(f"is damaged ({_ARRAYS} has another checksum)")
        except (*_MISSING, ValueError, KeyError, TypeError) as error:
            raise _Unusable(f"is damaged ({error})") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            return state, load_file(path / _ARRAYS)
        except (OSError, SafetensorError) as error:  # the bytes are the right ones
            raise _unreadable(path, error) from error

    def _remove(self, numbers: Iterable[int]) -> None:
        for path in () if self.read_only else map(self._path, numbers):
            renamed = self.directory / f".{path.name}.gone"
            try:
                # A process that is killed while it deletes must not leave half a checkpoint.
                os.replace(path, renamed)
                shutil.rmtree(renamed) if renamed.is_dir() else renamed.unlink()
            except OSError:
                continue  # what cannot be removed does no harm


def _unreadable(path: Path, error: Exception) -> UserError:
    why = getattr(error, "strerror", None) or error
    return UserError(
        f"cannot read {path}: {why}. Nothing was deleted. Run the same command again when it can be read, or use `--force`."
    )


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


# --- variables ------------------------------------------------------------------------------------------------------


def arrays_of(groups: Mapping[str, Sequence[Any]]) -> Arrays:
    """Return the values of variables or arrays, named "group/number"."""
    return {
        f"{name}/{number}": np.asarray(value.numpy() if hasattr(value, "numpy") else value, order="C")
        for name, values in groups.items()
        for number, value in enumerate(values)
    }


def groups_of(arrays: Arrays) -> dict[str, list[np.ndarray]]:
    """Return the values by group, each in its order. Empty groups are missing."""
    groups: dict[str, dict[int, np.ndarray]] = {}
    for key, value in arrays.items():
        name, _, number = key.rpartition("/")
        groups.setdefault(name, {})[int(number)] = value
    return {name: [values[number] for number in sorted(values)] for name, values in groups.items()}


# --- run directories ------------------------------------------------------------------------------------------------


def is_left_over(name: str) -> bool:
    """Return whether a killed process was writing the file or directory of this name."""
    return _LEFT_OVER.fullmatch(name) is not None


def clear(directory: Path) -> None:
    """Empty a run directory, except its lock. run.json, which marks it, goes last."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == "run.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def sweep(directory: Path) -> None:
    """Remove what a killed process was writing."""
    for folder in (directory, directory / "resume"):
        for path in folder.iterdir() if folder.is_dir() else ():
            if is_left_over(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
