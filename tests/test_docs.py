"""Test that the commands and settings in README.md and docs/ exist, and that the README's lines run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tfdistill.commands.app import app
from tfdistill.recipes import docstring, find, names
from tfdistill.training.settings import parse_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text("utf-8")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every `tfdistill` command in a page, without those that only hint at one ("…")."""
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in [*lines, *re.findall(r"`([^`\n]+)`", outside)]:
        if line.startswith("tfdistill ") and "…" not in line:
            yield shlex.split(line)[1:]


def blocks_of(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_parse(page):
    group = typer.main.get_command(app)
    for words in commands(page.read_text("utf-8")):
        verb = group.commands[words[0]]
        if len(words) == 1:
            continue
        complete = any(word.startswith("--") for word in words) and "--out" in words
        context = verb.make_context(words[0], words[1:], resilient_parsing=not complete)
        assert not context.args, words
        if words[0] == "train" and "RECIPE" not in words:
            settings = context.params["settings"] or []
            parse_settings(find(context.params["recipe"]).Settings, settings)


@pytest.mark.parametrize("name", names())
def test_the_commands_of_a_recipe_parse(name):
    """A command in a docstring continues on lines that begin with `--`."""
    lines = re.sub(r"\n +--", " --", docstring(name)).splitlines()
    found = [line.partition("tfdistill ")[2] for line in lines if "tfdistill train " in line]
    assert found
    for command in found:
        words = shlex.split(command)
        context = typer.main.get_command(app).commands[words[0]].make_context(words[0], words[1:])
        parse_settings(find(context.params["recipe"]).Settings, context.params["settings"] or [])


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.slow
@pytest.mark.network
def test_the_readme_runs(tmp_path):
    """The four commands with --debug, and the Python example on the student they made."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (own_data,) = [block for block in blocks_of("") if "finetune" in block]
    for line in own_data.splitlines():
        words = shlex.split(line) + (["--debug"] if line.split()[1] in ("finetune", "train") else [])
        words += ["--max-drop", "100"] if line.split()[1] == "export" else []
        subprocess.run(words, cwd=tmp_path, env=environment, check=True, timeout=600)
    (example,) = blocks_of("python")
    example = example.replace("512", "64")  # two steps are enough
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environment, check=True, timeout=600)
    assert (tmp_path / "STUDENT" / "model.safetensors").is_file()
