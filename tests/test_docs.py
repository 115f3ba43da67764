"""Test that the commands and settings in README.md and docs/ exist, and that the README's lines run."""

from __future__ import annotations

import json
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


def road() -> list[list[str]]:
    """Return the words of the README's commands from a file to a bundle."""
    (block,) = [block for block in blocks_of("") if "finetune" in block]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_every_file_of_the_road_is_made_by_a_command_before():
    """What a command writes is its `--out`, or the file of `example-data`; all other paths must exist by then."""
    group, made = typer.main.get_command(app), set()
    for words in road():
        options = group.commands[words[0]].make_context(words[0], words[1:]).params
        new = {str(options[name]) for name in ("out", "file") if options.get(name) is not None}
        read = {str(options[name]) for name in ("model", "data", "source") if options.get(name) is not None}
        read |= set(map(str, [*options.get("teachers", []), *options.get("bundles", [])]))
        assert not new & made and read <= made | {"demo:minilm"}, words
        made |= new
    assert {"intents.tsv", "TEACHER", "BUNDLE"} <= made


@pytest.mark.heavy
def test_the_road_runs_with_a_tiny_model(tfdistill, tmp_path, monkeypatch):
    """The commands in this process, with a tiny BERT and a few steps, each followed by one that its "next:" line names."""
    monkeypatch.chdir(tmp_path)
    tiny = str(ROOT / "tests" / "models" / "tiny_bert")
    more = {"finetune": ["--debug", "--set", "max_length=16"], "train": ["--debug"], "export": ["--max-drop", "100"]}
    for words in road():
        words = [tiny if word == "demo:minilm" else word for word in words] + more.get(words[0], [])
        code, printed, error = tfdistill(*words)
        assert code == 0, error
        if words[0] == "predict":
            answers = [json.loads(line) for line in printed.splitlines()]
            assert [answer["text"] for answer in answers] == ["play some jazz", "wake me up at seven"]
            assert all(len(answer["probabilities"]) == 8 for answer in answers)
        else:
            assert "next: " in printed


@pytest.mark.slow
@pytest.mark.network
def test_the_readme_runs(tmp_path):
    """The road as it stands, its predictions, and the Python examples on what it made."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    answers = ""
    for words in road():
        command = ["tfdistill", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=900, stdout=subprocess.PIPE)
        answers = done.stdout.decode() if words[0] == "predict" else answers
    assert [json.loads(line)["label"] for line in answers.splitlines()] == ["music", "alarm"]
    run = json.loads((tmp_path / "STUDENT" / "run.json").read_text("utf-8"))
    assert 0.8 < run["scores"]["test"]["accuracy"] < 1
    for example in blocks_of("python"):
        subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environment, check=True, timeout=600)
    assert (tmp_path / "OWN" / "model.safetensors").is_file()
