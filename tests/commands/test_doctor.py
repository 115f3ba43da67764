"""Test `tfdistill doctor`: versions, devices and the extras that are missing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tfdistill.commands import doctor
from tfdistill.commands.doctor import missing_by_extra

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


def test_doctor(tfdistill, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, printed, _ = tfdistill("doctor")
    assert code == 0 and "tensorflow" in printed and "CPU" in printed and "int8 dot products" in printed
    assert all(f"[{extra}]" in printed for extra in EXTRAS)


def test_the_extras_are_those_of_the_package():
    assert list(missing_by_extra()) == list(EXTRAS)


class Answer:
    """What a process printed, and its exit code."""

    def __init__(self, stdout: str, returncode: int = 0):
        self.stdout, self.returncode = stdout, returncode


def test_without_a_gpu_tensorflow_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: 1 / 0)
    assert "no NVIDIA GPU" in doctor.gpu(tmp_path)


@pytest.mark.parametrize(
    ("answer", "missing", "part"),
    [
        (Answer("2\n"), [], "sees 2"),
        (Answer("0\n"), ["nvidia-cudnn-cu12"], "tfdistill[gpu]"),
        (Answer("0\n"), [], "driver"),
        (Answer("", 1), [], "does not start"),
    ],
    ids=["seen", "libraries", "driver", "broken"],
)
def test_a_gpu_that_tensorflow_sees_or_not(tmp_path, monkeypatch, answer, missing, part):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr(doctor, "missing_by_extra", lambda: {"gpu": missing})
    assert part in doctor.gpu(tmp_path)


class Metadata:
    """The metadata of a package with one core requirement and three extras."""

    requires = (
        "absent-core>=1",
        "pytest>=1; extra == 'met'",
        "pytest>=1000; extra == 'old'",
        "absent-one>=2; extra == 'missing'",
        "absent-two; sys_platform == 'nowhere' and extra == 'missing'",
    )

    def get_all(self, key: str) -> list[str]:
        return {"Provides-Extra": ["met", "old", "missing"]}[key]


def test_missing_requirements(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: list(Metadata.requires))
    monkeypatch.setattr(doctor.metadata, "metadata", lambda _: Metadata())
    assert missing_by_extra("some") == {"met": [], "old": ["pytest>=1000"], "missing": ["absent-one>=2"]}
