from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from tfdistill.cache import packages
from tfdistill.errors import MissingExtra, UserError

CONTENT = b"the package"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class FakePip:
    """Stands in for subprocess.run: writes `content` where pip would, or fails with `code` and `error`."""

    def __init__(self, content: bytes | None = CONTENT, code: int = 0, error: str = ""):
        self.content, self.code, self.error, self.commands, self.requirements = content, code, error, [], []

    def __call__(self, command, **options):
        self.commands.append(command)
        self.requirements.append(Path(command[command.index("--requirement") + 1]).read_text())
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        if self.content is not None:
            suffix = ".whl" if "--only-binary" in command else ".tar.gz"
            (folder / f"Some_Name-1.0{suffix}").write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.code, "", self.error)


def use(monkeypatch, run) -> None:
    monkeypatch.setattr(packages.subprocess, "run", run)


def fail(*_, **__):
    raise AssertionError("no network call expected")


def left_over(cache: Path) -> list[str]:
    """What stands in the cache beside the package and its lock file."""
    return [
        path.name for path in (cache / "packages").iterdir() if not path.name.endswith((".lock", ".tar.gz", ".whl"))
    ]


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    assert packages.cache_directory() == tmp_path
    monkeypatch.setenv("TFDISTILL_CACHE", "")
    assert packages.cache_directory().name == "tfdistill"


@pytest.mark.parametrize(("kind", "suffix"), [("sdist", ".tar.gz"), ("wheel", ".whl")])
def test_fetches_once(cache, monkeypatch, kind, suffix):
    pip = FakePip()
    use(monkeypatch, pip)
    path = packages.fetch_package("some-name", "1.0", SHA256, kind)
    assert path == cache / "packages" / f"some-name-1.0-{SHA256[:12]}{suffix}"
    assert path.read_bytes() == CONTENT
    command = pip.commands[0]
    assert command[:5] == [sys.executable, "-m", "pip", "download", "--no-deps"]
    assert "--require-hashes" in command
    assert ("--no-build-isolation" in command) == (kind == "sdist")
    assert ("--only-binary" in command) == (kind == "wheel")
    assert pip.requirements == [f"some-name==1.0 --hash=sha256:{SHA256}\n"]
    assert left_over(cache) == []
    use(monkeypatch, fail)
    assert packages.fetch_package("some-name", "1.0", SHA256, kind) == path


def test_damaged_file_is_fetched_again(cache, monkeypatch):
    use(monkeypatch, FakePip())
    path = packages.fetch_package("some-name", "1.0", SHA256, "wheel")
    path.write_bytes(CONTENT[:-1])
    pip = FakePip()
    use(monkeypatch, pip)
    assert packages.fetch_package("some-name", "1.0", SHA256, "wheel").read_bytes() == CONTENT
    assert len(pip.commands) == 1


def test_damaged_file_offline_stays_an_error(cache, monkeypatch):
    use(monkeypatch, FakePip())
    path = packages.fetch_package("some-name", "1.0", SHA256, "wheel")
    path.write_bytes(b"damaged")
    use(monkeypatch, FakePip(None, 1, "ERROR: No matching distribution found for some-name==1.0"))
    with pytest.raises(UserError, match="No matching distribution"):
        packages.fetch_package("some-name", "1.0", SHA256, "wheel")


@pytest.mark.parametrize(
    ("pip", "message"),
    [
        (FakePip(b"another file"), "has sha256 [0-9a-f]{64}; expected " + SHA256),
        (
            FakePip(None, 1, f"ERROR: NOT MATCH\n  Expected sha256 {SHA256}\n     Got        {'0' * 64}\n"),
            "has sha256 0000",
        ),
        (
            FakePip(None, 1, "WARNING: x\nERROR: Could not find a version\nERROR: No match\n"),
            r"\(No match\)",
        ),
        (FakePip(None, 2, "Traceback: connection broken"), "Traceback: connection broken"),
        (FakePip(None, 1, ""), "no output"),
        (FakePip(None, -signal.SIGTERM, ""), "signal 15"),
        (FakePip(None, 0, ""), r"nothing.*\.whl"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(cache, monkeypatch, pip, message):
    use(monkeypatch, pip)
    with pytest.raises(UserError, match=message) as caught:
        packages.fetch_package("some-name", "1.0", SHA256, "wheel")
    assert "\n" not in str(caught.value)
    assert left_over(cache) == []
    assert not list((cache / "packages").glob("some-name*"))


def test_interrupted(cache, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    use(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        packages.fetch_package("some-name", "1.0", SHA256, "wheel")
    assert left_over(cache) == []
    use(monkeypatch, FakePip())
    assert packages.fetch_package("some-name", "1.0", SHA256, "wheel").read_bytes() == CONTENT


def test_takes_too_long(cache, monkeypatch):
    def slow(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    use(monkeypatch, slow)
    with pytest.raises(UserError, match="30 minutes"):
        packages.fetch_package("some-name", "1.0", SHA256, "wheel")


@pytest.mark.parametrize(
    ("missing", "error", "message"),
    [("pip", UserError, "ensurepip"), ("setuptools", MissingExtra, r"tfdistill\[quickstart\]")],
)
def test_missing_tools(cache, monkeypatch, missing, error, message):
    find = importlib.util.find_spec
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    use(monkeypatch, fail)
    with pytest.raises(error, match=message):
        packages.fetch_package("some-name", "1.0", SHA256, "sdist")


def test_cache_folder_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="TFDISTILL_CACHE"):
        packages.fetch_package("some-name", "1.0", SHA256, "wheel")


def test_disk_full(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    use(monkeypatch, full)
    with pytest.raises(UserError, match="No space left on device"):
        packages.fetch_package("some-name", "1.0", SHA256, "wheel")


def test_two_at_once_fetch_once(cache, monkeypatch):
    pip = FakePip()
    use(monkeypatch, pip)
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(packages.fetch_package("some-name", "1.0", SHA256, "wheel")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(pip.commands) == 1


def tar_bytes(members: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            bundle.addfile(info)
    return stream.getvalue()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return stream.getvalue()


MEMBERS = {"a/b.txt": b"one", "../evil": b"two"}


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_read_member(tmp_path, make):
    content = make(MEMBERS)
    (tmp_path / "archive").write_bytes(content)
    for archive in (content, tmp_path / "archive"):
        assert packages.read_member(archive, "a/b.txt") == b"one"
        with pytest.raises(UserError, match=r"'a/c\.txt'"):
            packages.read_member(archive, "a/c.txt")


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_members_only_reach_the_folder(tmp_path, make):
    (tmp_path / "inside").mkdir()
    packages.read_members(make(MEMBERS), {"../evil": "tame", "a/b.txt": "b.txt"}, tmp_path / "inside")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.txt", "inside", "tame"]
    for name in ("../evil", "a/b", "..", ""):
        with pytest.raises(ValueError, match="plain file name"):
            packages.read_members(make(MEMBERS), {"a/b.txt": name}, tmp_path / "inside")


def test_link_is_no_file():
    with pytest.raises(UserError, match="'link'"):
        packages.read_member(tar_bytes({}, ("link", "/etc/hostname")), "link")


@pytest.mark.parametrize("content", [b"", b"no archive", tar_bytes({"a": os.urandom(5000)})[:2000]])
def test_damaged_archive(content):
    with pytest.raises(UserError, match="cannot read"):
        packages.read_member(content, "a")


def test_damaged_zip():
    content = bytearray(zip_bytes({"a": b"0123456789" * 100}))
    content[40] ^= 0xFF
    with pytest.raises(UserError, match="cannot read"):
        packages.read_member(bytes(content), "a")


@pytest.mark.heavy
@pytest.mark.network
def test_pip_for_real(cache, monkeypatch):
    sha256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    with pytest.raises(UserError, match=f"{sha256}.*0000"):
        packages.fetch_package("vaderSentiment", "3.3.2", "0" * 64, "sdist")
    path = packages.fetch_package("vaderSentiment", "3.3.2", sha256, "sdist")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert left_over(cache) == []


@pytest.mark.heavy
def test_no_pip_index(cache, monkeypatch):
    """The real pip, told to use no index: it fails without the network, in one line."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UserError, match=r"no-such-package 1\.0"):
        packages.fetch_package("no-such-package", "1.0", SHA256, "wheel")
