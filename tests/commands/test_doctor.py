"""Test `tfdistill doctor`: versions, devices and the extras that are missing."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tfdistill.commands import doctor
from tfdistill.commands.doctor import missing_by_extra

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


def test_doctor(tfdistill, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, printed, _ = tfdistill("doctor")
    assert code == 0 and "tensorflow" in printed and "CPU" in printed
    assert all(f"[{extra}]" in printed for extra in EXTRAS)


def test_the_extras_are_those_of_the_package():
    assert list(missing_by_extra()) == list(EXTRAS)


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
