"""Checkpoints: all that a run needs to go on exactly where it was, in directories that are whole or skipped.

`RUN/resume/000012` holds arrays.safetensors and state.json, which has its own checksum and that of the arrays. A checkpoint
is written to a temporary name, flushed and renamed, under a new number each time, so that no clock matters and the one before stays
whole until the new one is. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tfdistill.errors import UserError
from tfdistill.files import atomic_directory, atomic_write, require_writable, sha256
from tfdistill.progress import say

FORMAT = 1
LOCK = ".lock"
_STATE, _ARRAYS = "state.json", "arrays.safetensors"
# What atomic writing leaves in a run directory when the process is killed in the middle of it.
_LEFT_OVER = re.compile(r"\.(run\.json|log\.jsonl|checkpoint|student[^.]*|\d{6})\..+")

Arrays = dict[str, np.ndarray]


class _Damaged(Exception):
    """A checkpoint that cannot be read; says why."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they are; made by the first `write`.
        identity: of the recipe; a checkpoint of another one is not read.
        seconds: `due` after so many seconds without one; 0 after every step.
        keep: how many stay.
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
                if len(self._numbers()) < 2:
                    raise
                self._remove(self._numbers()[:-1])
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
        self._remove(self._numbers()[: -self.keep])
        return True

    def read(self) -> tuple[dict[str, Any], Arrays] | None:
        """State and arrays of the newest whole one, or None. One line for each damaged one, which is removed."""
        for number in reversed(self._numbers()):
            path = self._path(number)
            try:
                state, arrays = self._read(path)
            except _Damaged as why:
                say(f"{path} is damaged ({why}); going on from the checkpoint before it")
                self._remove([number])
                continue
            self.last, self.taken_up = state["said"], [*state["taken_up"], state["said"]]
            return state, arrays
        return None

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"

    def _numbers(self) -> list[int]:
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def _write(self, state: Mapping[str, Any], arrays: Arrays, said: str) -> None:
        path = self._path(max(self._numbers(), default=0) + 1)
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
                raise _Damaged(f"{_STATE} has another checksum")
            state = json.loads(content)
            if state["format"] != FORMAT or state["identity"] != self.identity:
                raise _Damaged("it is of another run or version")
            if sha256(path / _ARRAYS) != state["arrays"]:
                raise _Damaged(f"{_ARRAYS} has another checksum")
            return state, load_file(path / _ARRAYS)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise _Damaged(str(error)) from error

    def _remove(self, numbers: Sequence[int]) -> None:
        for number in () if self.read_only else numbers:
            gone = self.directory / f".{number:06d}.gone"
            try:
                # Renamed first: killed in between, half a checkpoint would look like a damaged one.
                os.replace(self._path(number), gone)
            except OSError:
                continue  # what cannot be removed does no harm
            shutil.rmtree(gone, ignore_errors=True)


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


def fingerprint(model: Any) -> str:
    """SHA-256 over the weights of a model, their names and shapes, and its vocabulary."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.asarray(weight.numpy())
        digest.update(f"{weight.name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    digest.update(getattr(getattr(model, "tokenizer", None), "fingerprint", "").encode())
    return digest.hexdigest()


# --- a run directory for one process --------------------------------------------------------------------------------


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a run directory, which is made if need be. The lock goes with the process that held it.

    Raises UserError when another process has it, or the directory cannot be written.
    """
    require_writable(directory)
    lock = FileLock(directory / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another process trains into {directory}; wait until it ends, or choose another --out"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write in {directory}: {error.strerror}; expected a writable directory, choose another --out"
        ) from error
    try:
        yield
    finally:
        (directory / LOCK).unlink(missing_ok=True)
        lock.release()


def clear(directory: Path) -> None:
    """Empty a run directory, all but its lock."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def sweep(directory: Path) -> None:
    """Remove what a killed process was writing."""
    for folder in (directory, directory / "resume"):
        for path in folder.iterdir() if folder.is_dir() else ():
            if _LEFT_OVER.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
