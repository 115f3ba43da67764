"""Test the examples: pinned packages, a page that contacts only its own server, and golden vectors in each project."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
WEB = EXAMPLES / "web"


def test_npm_packages_are_pinned_and_from_any_registry() -> None:
    package = json.loads((WEB / "package.json").read_text("utf-8"))
    text = (WEB / "package-lock.json").read_text("utf-8")
    packages = json.loads(text)["packages"]
    assert "://" not in text
    for name, version in {**package["dependencies"], **package["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), f"{name} {version} is not an exact version"
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all(each["integrity"].startswith("sha512-") for name, each in packages.items() if name)


def test_the_page_contacts_only_its_own_server() -> None:
    page = (WEB / "index.html").read_text("utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.split(maxsplit=1) for rule in policy.split(";"))
    (packages,) = re.findall(r'<script type="importmap">(.*?)</script>', page, flags=re.DOTALL)
    known = base64.b64encode(hashlib.sha256(packages.encode()).digest()).decode()
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'self'")
    assert rules["script-src"].split() == ["'self'", "'wasm-unsafe-eval'", f"'sha256-{known}'"]
    for path in [WEB / "index.html", *WEB.glob("*.mjs"), *WEB.glob("*.css")]:
        assert not re.search(r"https?://(?!127\.0\.0\.1|localhost|\$\{)", path.read_text("utf-8")), path.name


@pytest.mark.parametrize("system", ["android", "ios"])
def test_projects_replay_the_golden_vectors(system: str) -> None:
    (test,) = (EXAMPLES / system).rglob("GoldenTest*")
    assert "golden" in test.read_text("utf-8")
