"""Files and directories that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tfdistill.errors import UserError


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def student_directory(source: str | os.PathLike) -> Path:
    """The directory of a model, also given as "hf:DIR"; a run directory stands for its student."""
    directory = Path(os.fspath(source).removeprefix("hf:"))
    return directory / "student" if (directory / "student").is_dir() else directory


def require_writable(parent: Path, advice: str = "choose another --out") -> None:
    """Make a directory if need be. Raises UserError, which ends with the `advice`, where it cannot be made or written."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {parent}: {error.strerror}; expected a writable place, {advice}") from error
    if not os.access(parent, os.W_OK):
        raise UserError(f"cannot write in {parent}; expected a writable directory, {advice}")


def require_new(out: Path, former: str | None, advice: str) -> None:
    """Check before hours of work that `out` is a new name or an empty directory, or one that may be replaced.

    Args:
        former: a file that marks what may be replaced, such as run.json; None replaces nothing.
        advice: what else the user may do, the end of the error's line.

    Raises UserError otherwise.
    """
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (former is not None and (out / former).is_file()):
        raise UserError(f"{out} exists and is not empty; expected a new name{advice}")


def atomic_write(path: str | os.PathLike, content: bytes | str, advice: str = "choose another --out") -> Path:
    """Write `content` to a temporary name beside `path`, flush it to disk and rename it.

    Raises UserError, which ends with the `advice`, when the directory cannot be written.
    """
    path = Path(path)
    require_writable(path.parent, advice)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _flush_names(path.parent)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror}; free some room or {advice}") from error
        raise
    return path


def _flush_names(directory: Path) -> None:
    """Let a renamed file have its new name after a power cut too. File systems that cannot do that for a directory are left alone."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary directory that takes the place of `path` when the block ends without an error.

    Raises UserError when the parent cannot be written or `path` is a file. What stood at `path` before is replaced as a whole.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; expected a directory or a new name, choose another --out")
    require_writable(path.parent)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        os.chmod(temporary, 0o755)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            try:
                os.replace(path, old / "previous")
                os.replace(temporary, path)
            except BaseException:
                if not path.exists():
                    os.replace(old / "previous", path)
                old.rmdir()
                raise
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
        _flush_names(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some room or choose another --out") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
