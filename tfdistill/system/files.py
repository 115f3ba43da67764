"""Read and write files safely: atomic writes, JSON with readable errors, and checks of an output directory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, with_advice
from tfdistill.system.leftovers import REPLACED, hidden, new_directory, new_file, sweep_once

LOCK = ".lock"  # name of the lock inside a directory that one process at a time writes
CHOOSE_OUT = "choose another `--out`"
LARGEST_JSON = 1 << 28  # bytes; larger ones would not fit in memory when they are parsed
_DEEPEST = 100  # brackets inside each other, so that nothing that walks through the values recurses too deep
_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def student_directory(source: str | os.PathLike) -> Path:
    """Return the directory of a model, given as `DIR` or `hf:DIR`; for a run directory, that of its student."""
    directory = Path(os.fspath(source).removeprefix("hf:"))
    is_run = not (directory / "config.json").is_file() and (directory / "student").is_dir()
    return directory / "student" if is_run else directory


def require_writable(directory: Path, advice: str = CHOOSE_OUT) -> None:
    """Make `directory` if it does not exist, and check that it can be written.

    Raises:
        UserError: the directory cannot be made or written; the message ends with `advice`.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(with_advice(f"cannot create {directory}: {error.strerror}", advice)) from error
    if not os.access(directory, os.W_OK):
        raise UserError(with_advice(f"cannot write in {directory}: it is not writable", advice))


def require_place(path: str | os.PathLike, advice: str = CHOOSE_OUT) -> None:
    """Check before the work that something can be written at `path`. Makes nothing.

    Raises:
        UserError: the nearest directory above `path` is not one, or is not writable; the message ends with `advice`.
    """
    above = next(each for each in Path(path).absolute().parents if os.path.lexists(each))
    if not above.is_dir():
        raise UserError(with_advice(f"cannot write {path}: {above} is not a directory", advice))
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(with_advice(f"cannot write {path}: {above} is not writable", advice))


def require_file_place(path: str | os.PathLike, advice: str = CHOOSE_OUT) -> None:
    """Check before the work that a file can be written at `path`; raises like `require_place`."""
    if Path(path).is_dir():
        raise UserError(with_advice(f"{path} is a directory; expected the name of a file", advice))
    require_place(path, advice)


def is_free(out: Path, is_left_over: Callable[[str], bool] | None = None) -> bool:
    """Return whether `out` does not exist, or is a directory with nothing in it but a lock and left-over files.

    Args:
        out: path of the directory to write.
        is_left_over: returns whether a file of this name was left by a killed process, so that it may be removed.
    """
    if not out.is_dir():
        return not out.exists()
    return all(path.name == LOCK or (is_left_over is not None and is_left_over(path.name)) for path in out.iterdir())


def require_new(out: Path, former: str | None = None, advice: str = CHOOSE_OUT) -> None:
    """Check before hours of work that `out` is free, or holds something that may be replaced.

    Args:
        out: path of the directory to write.
        former: file that marks a directory which may be replaced, such as `run.json`; `None` replaces nothing.
        advice: what to do otherwise, the last sentence of the message.

    Raises:
        UserError: something else is at `out`.
    """
    if not is_free(out) and not (former is not None and (out / former).is_file()):
        raise UserError(with_advice(f"{out} exists and is not empty", advice))
    require_place(out)


def require_regular(path: str | os.PathLike, advice: str, limit: int | None = None) -> int:
    """Check that `path` is a regular file, which a reader cannot wait for without end.

    Args:
        path: the file, or a link to it.
        advice: what to do otherwise, the last sentence of the message.
        limit: the largest number of bytes; `None` allows any size.

    Returns:
        The number of bytes.

    Raises:
        UserError: the file is missing, cannot be looked at, is a directory, a device, a pipe or a
            socket, or is too large.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(with_advice(f"{path} is missing", advice)) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(with_advice(f"cannot read {path}: {why}", advice)) from error
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "special file")
        raise UserError(with_advice(f"{path} is a {kind}, not a file", advice))
    if limit is not None and status.st_size > limit:
        size = f"{status.st_size} bytes; expected at most {limit}"
        raise UserError(with_advice(f"{path} has {size}", advice))
    return status.st_size


def read_regular(path: str | os.PathLike, advice: str, limit: int | None = None) -> bytes:
    """Return the content of a regular file; arguments and errors as in `require_regular`."""
    require_regular(path, advice, limit)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(with_advice(f"cannot read {path}: {error.strerror}", advice)) from error


def read_utf8(path: str | os.PathLike, advice: str, limit: int | None = None) -> str:
    """Return the text of a regular file in UTF-8, with `\\n` at the end of lines.

    Only `\\n`, `\\r\\n` and `\\r` are line ends: split the text with `split("\\n")`, since
    `str.splitlines` also splits at characters that may be part of a name.

    Raises:
        UserError: as in `require_regular`, or the file is not UTF-8.
    """
    content = read_regular(path, advice, limit)
    try:
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(with_advice(f"{path} is not UTF-8 (line {line}, byte {error.start})", advice)) from error


def read_json(
    path: str | os.PathLike, advice: str, *, strict: bool = False, limit: int = LARGEST_JSON
) -> dict[str, Any]:
    """Read a JSON object from a file in UTF-8.

    Args:
        path: the file.
        advice: what to do about a file that cannot be read, the last sentence of the message.
        strict: refuse NaN and Infinity, which JSON does not have, and keys that occur twice.
        limit: the largest number of bytes.

    Raises:
        UserError: the file is missing, cannot be read, or does not hold a JSON object.
    """
    return parse_json(read_regular(path, advice, limit), path, advice, strict=strict)


def parse_json(content: bytes | str, name: object, advice: str, *, strict: bool = False) -> dict[str, Any]:
    """Parse a JSON object that was read from `name`; arguments and errors as in `read_json`."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        hooks: dict[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _no_constant} if strict else {}
        value = json.loads(text, **hooks)
        if not _is_within(value, _DEEPEST):
            raise ValueError(f"more than {_DEEPEST} brackets inside each other")
    except (ValueError, RecursionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(with_advice(f"{name} is not valid JSON ({why})", advice)) from error
    if not isinstance(value, dict):
        raise UserError(with_advice(f"{name} holds a JSON {type(value).__name__}; expected a JSON object", advice))
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {key[:40]!r} occurs twice")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _is_within(value: Any, depth: int) -> bool:
    """Return whether lists and objects are inside each other at most `depth` times."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return not any(isinstance(each, dict | list) for each in level)


@contextmanager
def atomic_file(path: str | os.PathLike, advice: str = CHOOSE_OUT) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends without an error.

    The temporary file is next to `path` and empty. Its content is flushed to disk before it is renamed.

    Raises:
        UserError: the directory cannot be written, or the disk is full; the message ends with `advice`.
    """
    path = Path(path)
    require_writable(path.parent, advice)
    temporary = None
    try:
        sweep_once(path.parent)
        temporary = new_file(path.parent, hidden(path))
        yield temporary
        _flush(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _flush_names(path.parent)
    except OSError as error:
        raise UserError(
            with_advice(f"cannot write {path}: {error.strerror or error}", f"free some room, or {advice}")
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def atomic_write(path: str | os.PathLike, content: bytes | str, advice: str = CHOOSE_OUT) -> Path:
    """Write `content` to `path` as a whole or not at all, and return the path. Raises like `atomic_file`."""
    with atomic_file(path, advice) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _flush_names(directory: Path) -> None:
    """Flush a directory, so that a renamed file keeps its new name after a power cut, if the file system can do that."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary directory that replaces `path` as a whole when the block ends without an error.

    Raises:
        UserError: the parent directory cannot be written, or `path` is a file.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(with_advice(f"{path} is a file; expected a directory or a new name", CHOOSE_OUT))
    require_writable(path.parent)
    temporary = None
    try:
        sweep_once(path.parent)
        temporary = new_directory(path.parent, hidden(path))
        os.chmod(temporary, 0o755)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _flush(file)
        if path.exists():
            old = new_directory(path.parent, hidden(path) + REPLACED)
            try:
                os.replace(path, old / path.name)
                os.replace(temporary, path)
            except BaseException:
                if not path.exists():
                    os.replace(old / path.name, path)
                old.rmdir()
                raise
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
        _flush_names(path.parent)
    except OSError as error:
        raise UserError(
            with_advice(f"cannot write {path}: {error.strerror or error}", f"free some room, or {CHOOSE_OUT}")
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
