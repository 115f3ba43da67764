"""Checkpoints: all that a run needs to go on exactly where it was, in directories that are whole or skipped.

`RUN/resume/000012` holds arrays.safetensors and state.json, which has its own checksum and that of the arrays. A checkpoint
is written to a temporary name, flushed and renamed, under a new number each time, so that no clock matters and the one before stays
whole until the new one is. A damaged one is renamed to `000012.aside`, where it stays until the run is done; one that cannot be read
just now, as of a file server that is away, ends the run and stays as it is. Nothing is unpickled.
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

FORMAT = 1
PROJECTIONS = "projections.safetensors"  # beside a student: the maps between widths that were learned with it
_STATE, _ARRAYS, _ASIDE = "state.json", "arrays.safetensors", ".aside"
# Of a file that is not there or is none; all other errors of the system say nothing about what is in the file.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
# What atomic writing leaves in a run directory when the process is killed in the middle of it.
_LEFT_OVER = re.compile(r"\.(run\.json|log\.jsonl|checkpoint|student[^.]*|\d{6})\..+")

Arrays = dict[str, np.ndarray]


class _Unusable(Exception):
    """A checkpoint that will never be of use to this run; says why."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they are; made by the first `write`.
        identity: of the recipe; a checkpoint of another one is not read.
        seconds: `due` after so many seconds without one; 0 after every step.
        keep: how many stay, and of those put aside as many.
        read_only: for a worker beside the one that writes.
    """

    def __init__(
        self, directory: Path, identity: str, *, seconds: float = 300.0, keep: int = 2, read_only: bool = False
    ):
        self.read_only = read_only
        self.directory, self.identity, self.seconds, self.keep = directory, identity, seconds, max(1, keep)
        self.last = ""  # where the newest one stands, in words
        self.taken_up: list[str] = []  # where those stand that were gone on from, the last one included
        self._failed = False
        self._since, self._took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for one. Clocks that are set do not count."""
        return time.monotonic() - self._since >= self.seconds

    @property
    def cheap(self) -> bool:
        """Whether one more costs little: less than a twentieth of the time since the last one, if writing takes as long again."""
        return self.due or time.monotonic() - self._since >= 20 * self._took

    def write(self, state: Mapping[str, Any], arrays: Arrays, said: str) -> bool:
        """Write one, `said` telling where it stands, and remove the oldest. False if it could not be written.

        A full disk ends no training: one line says so, older checkpoints go if that helps, the newest always stays.
        """
        if self.read_only:
            return False
        begun = time.monotonic()
        try:
            try:
                self._write(state, arrays, said)
            except UserError:
                old = [*map(self._aside, self._numbers(_ASIDE)), *map(self._path, self._numbers()[:-1])]
                if not old:
                    raise
                self._remove(old)
                self._write(state, arrays, said)
        except UserError as error:
            if not self._failed:
                before = f"the one before ({self.last}) stays" if self.last else "there is none yet"
                say(f"no checkpoint: {error}; the training goes on, {before}, and the next is tried when it is due")
            self._failed, self._since = True, time.monotonic()
            return False
        if self._failed:
            say(f"checkpoints are written again ({said})")
        self._failed, self._since, self.last = False, time.monotonic(), said
        self._took = self._since - begun
        with suppress(UserError):  # what cannot be removed does no harm
            self._remove(map(self._path, self._numbers()[: -self.keep]))
        return True

    def read(self) -> tuple[dict[str, Any], Arrays] | None:
        """State and arrays of the newest whole one, or None. One line for each that is damaged or of another run, which is put aside.

        Raises UserError where one cannot be read for another reason; it stays as it is.
        """
        numbers = self._numbers()
        while numbers:
            number = numbers.pop()
            path = self._path(number)
            try:
                state, arrays = self._read(path)
            except _Unusable as why:
                put = self._put_aside(number)
                kept = f", put aside as {put.name}" if put else ""
                then = "going on from the checkpoint before it" if numbers else "starting from the beginning"
                say(f"{path} {why}{kept}; {then}")
                continue
            self.last, self.taken_up = state["said"], [*state["taken_up"], state["said"]]
            return state, arrays
        return None

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"

    def _aside(self, number: int) -> Path:
        return self.directory / f"{number:06d}{_ASIDE}"

    def _numbers(self, ending: str = "") -> list[int]:
        """Those that are there, in order; with `ending` those put aside. Raises UserError where the directory cannot be read."""
        try:
            names = [path.name for path in self.directory.iterdir()] if self.directory.is_dir() else []
        except OSError as error:
            raise _unreadable(self.directory, error) from error
        stems = [name.removesuffix(ending) for name in names if name.endswith(ending)]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _write(self, state: Mapping[str, Any], arrays: Arrays, said: str) -> None:
        path = self._path(max([*self._numbers(), *self._numbers(_ASIDE)], default=0) + 1)
        with atomic_directory(path) as temporary:
            try:
                save_file(arrays, temporary / _ARRAYS)
            except SafetensorError as error:
                raise UserError(f"cannot write {path}: {error}; free some room") from error
            os.chmod(temporary / _ARRAYS, 0o644)
            whole = {
                "format": FORMAT,
                "identity": self.identity,
                "said": said,
                "taken_up": self.taken_up,
                **state,
                "arrays": sha256(temporary / _ARRAYS),
            }
            content = json.dumps(whole, indent=1)
            atomic_write(temporary / _STATE, f"{_digest(content)}\n{content}\n")

    def _read(self, path: Path) -> tuple[dict[str, Any], Arrays]:
        try:
            seal, _, content = (path / _STATE).read_text("utf-8").partition("\n")
            if seal != _digest(content.removesuffix("\n")):
                raise _Unusable(f"is damaged ({_STATE} has another checksum)")
            state = json.loads(content)
            if state["format"] != FORMAT or state["identity"] != self.identity:
                raise _Unusable("is of another run or version")
            if sha256(path / _ARRAYS) != state["arrays"]:
                raise _Unusable(f"is damaged ({_ARRAYS} has another checksum)")
        except (*_MISSING, ValueError, KeyError, TypeError) as error:
            raise _Unusable(f"is damaged ({error})") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            return state, load_file(path / _ARRAYS)
        except (OSError, SafetensorError) as error:  # of bytes that are the right ones
            raise _unreadable(path, error) from error

    def _put_aside(self, number: int) -> Path | None:
        """Rename it, so that nothing is lost that could be mended; the oldest put aside go. None where that is not possible."""
        if self.read_only:
            return None
        try:
            os.replace(self._path(number), self._aside(number))
            self._remove(map(self._aside, self._numbers(_ASIDE)[: -self.keep]))
        except (OSError, UserError):
            return None  # it is looked at again the next time
        return self._aside(number)

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in () if self.read_only else paths:
            gone = self.directory / f".{path.name}.gone"
            try:
                # Renamed first: killed in between, half a checkpoint would look like a damaged one.
                os.replace(path, gone)
            except OSError:
                continue  # what cannot be removed does no harm
            shutil.rmtree(gone, ignore_errors=True)


def _unreadable(path: Path, error: Exception) -> UserError:
    why = getattr(error, "strerror", None) or error
    return UserError(
        f"cannot read {path}: {why}; expected a checkpoint that can be read, nothing was deleted: run the same command again when it "
        "can, or --force to start anew"
    )


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


# --- variables ------------------------------------------------------------------------------------------------------


def arrays_of(groups: Mapping[str, Sequence[Any]]) -> Arrays:
    """The values of variables or arrays, named "group/number"."""
    return {
        f"{name}/{number}": np.asarray(value.numpy() if hasattr(value, "numpy") else value, order="C")
        for name, values in groups.items()
        for number, value in enumerate(values)
    }


def groups_of(arrays: Arrays) -> dict[str, list[np.ndarray]]:
    """The values by group, each in its order. A group of nothing is not there."""
    groups: dict[str, dict[int, np.ndarray]] = {}
    for key, value in arrays.items():
        name, _, number = key.rpartition("/")
        groups.setdefault(name, {})[int(number)] = value
    return {name: [values[number] for number in sorted(values)] for name, values in groups.items()}


# --- a run directory for one process --------------------------------------------------------------------------------


def is_left_over(name: str) -> bool:
    """Whether a killed process was writing the file or directory of this name."""
    return _LEFT_OVER.fullmatch(name) is not None


def clear(directory: Path) -> None:
    """Empty a run directory, all but its lock. run.json, which says that it is one, goes last."""
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
