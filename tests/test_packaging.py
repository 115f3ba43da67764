"""Test the wheel and the sdist, the wheel outside the repository, and the lock files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = {"tfdistill": "tfdistill", "export": "tfdistill/export", "recipes": "tfdistill/recipes"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCKS = ("requirements.lock", "docs/requirements.txt")
# Wants older packages; large libraries for machines with a GPU.
NOT_LOCKED = {"beam", "gpu"}


def run(*command: str | Path, cwd: Path) -> str:
    """Return the standard output of a command that must succeed and does not see the repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist and the wheel built from it; both are built from a copy of the sources."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new venv with the wheel, which sees the libraries of this environment but not its tfdistill."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv)
    (wheel,) = dist.glob("*.whl")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        venv / "bin" / "python",
        "install",
        "--no-index",
        "--no-deps",
        wheel,
        cwd=venv,
    )
    (site_packages,) = venv.glob("lib/python*/site-packages")
    # Folders named in a .pth file have their own .pth files left unread, so an editable tfdistill there stays unseen.
    libraries = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site_packages / "libraries.pth").write_text("\n".join(libraries), encoding="utf-8")
    return venv


def test_every_room_is_a_package() -> None:
    rooms = {
        ".".join((target.replace("/", "."), *path.parent.relative_to(ROOT / folder).parts))
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == rooms


@pytest.mark.heavy
def test_wheel_holds_tfdistill_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    version = PROJECT["version"]
    assert {name.split("/")[0] for name in files} == {"tfdistill", f"tfdistill-{version}.dist-info"}
    assert f"tfdistill-{version}.dist-info/licenses/LICENSE" in files
    here = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }
    assert {name for name in files if name.startswith("tfdistill/")} == here


@pytest.mark.heavy
def test_sdist_holds_the_sources(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    needed = {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "export/__init__.py",
        "recipes/__init__.py",
        "tfdistill/__init__.py",
    }
    assert needed <= names


@pytest.mark.heavy
def test_wheel_works_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    script = (
        "import sys, tfdistill, tfdistill.export, tfdistill.export.bench, tfdistill.recipes\n"
        "for module in (tfdistill, tfdistill.export, tfdistill.export.bench, tfdistill.recipes): print(module.__file__)"
    )
    files = run(installed / "bin" / "python", "-c", script, cwd=tmp_path).split()
    (site_packages,) = installed.glob("lib/python*/site-packages")
    assert files == [
        str(site_packages / "tfdistill" / folder / "__init__.py")
        for folder in ("", "export", "export/bench", "recipes")
    ]


@pytest.mark.heavy
def test_command_line_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "quickstart" in run(installed / "bin" / "tfdistill", "--help", cwd=tmp_path)


@pytest.mark.heavy
def test_public_names(installed: Path, tmp_path: Path) -> None:
    script = "import tfdistill; print([name for name in tfdistill.__all__ if not hasattr(tfdistill, name)])"
    assert run(installed / "bin" / "python", "-c", script, cwd=tmp_path) == "[]\n"


@pytest.mark.heavy
def test_import_is_lazy(installed: Path, tmp_path: Path) -> None:
    script = "import sys, tfdistill; print(sorted({'tensorflow', 'keras', 'tf_keras', 'numpy'} & set(sys.modules)))"
    assert run(installed / "bin" / "python", "-c", script, cwd=tmp_path) == "[]\n"


def locked(name: str = "requirements.lock") -> dict[str, str]:
    """Return the version of each distribution in a lock file, all of which must be pinned and hashed."""
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    versions = {}
    for line in (line for line in lines if line.strip() and not line.startswith("#")):
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+) (?:; [^-]+?)?((?: *--hash=sha256:[0-9a-f]{64})+)", line)
        assert match, f"not a pinned and hashed requirement: {line[:80]}"
        versions[match[1]] = match[2]
    return versions


def test_lock_has_every_dependency_in_its_range() -> None:
    pins = locked()
    # Beam wants older packages than the others and has an environment of its own; the Makefile names all other extras.
    extras = [lines for name, lines in PROJECT["optional-dependencies"].items() if name not in NOT_LOCKED]
    named = re.search(r"^LOCKED := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert named and sorted(named[1].split()) == sorted(set(PROJECT["optional-dependencies"]) - NOT_LOCKED)
    for requirement in map(Requirement, [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]):
        assert requirement.name in pins, f"{requirement} is not in requirements.lock: run 'make lock'"
        assert requirement.specifier.contains(pins[requirement.name]), f"{requirement}: run 'make lock'"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_pinned_hashed_and_for_any_registry(name: str) -> None:
    assert locked(name)
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


def test_docs_are_built_with_what_is_asked_for() -> None:
    pins = locked("docs/requirements.txt")
    for line in (ROOT / "docs" / "requirements.in").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[requirement.name]), f"{requirement}: run 'make lock'"


def test_lock_is_for_cpus() -> None:
    assert [name for name in locked() if name.startswith(("nvidia-", "torch", "triton", "transformers"))] == []
