"""Test the "next:" lines, run directories as models, and `tfdistill example-data`."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
import typer

from tfdistill.commands.app import app
from tfdistill.commands.tables import new_name, show_next, show_next_of_run
from tfdistill.data.example_data import example_rows
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError
from tfdistill.models.load import open_model

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


def test_the_next_command_is_one_line_that_a_shell_takes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    words = [
        "tfdistill",
        "train",
        "pkd",
        "--teacher",
        Path("a run"),
        "--data",
        "x.csv?text=a b&label=c",
        "--out",
        "RUN",
    ]
    show_next(*words)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert shlex.split(line.removeprefix("next: ")) == list(map(str, words))


def test_after_a_debug_run_the_next_command_is_the_run_itself(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfdistill", "train", "pkd", "--data", "my data", "--debug", "--out", "RUN"])
    show_next_of_run(True, "tfdistill", "export", "RUN")
    first, second = capsys.readouterr().out.splitlines()
    assert "debug" in first
    assert second == "next: tfdistill train pkd --data 'my data' --out RUN --force"


def test_new_names_do_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert new_name("RUN") == "RUN"
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN2").write_text("")
    assert new_name("RUN") == "RUN3"


def test_example_data(tfdistill, tmp_path):
    path = tmp_path / "my intents.tsv"
    code, printed, _ = tfdistill("example-data", path)
    assert code == 0
    words = shlex.split(printed.splitlines()[-1].removeprefix("next: tfdistill "))
    group = typer.main.get_command(app)
    parsed = group.commands[words[0]].make_context(words[0], words[1:])
    assert parsed.params["data"] == str(path)
    data = load_data(str(path))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 800, "dev": 100, "test": 100}
    assert data.task == "classification" and len(data.label_names) == 8
    texts = path.read_text("utf-8").splitlines()[1:]
    assert texts == [f"{text}\t{intent}" for text, intent in example_rows()]
    assert len({line.partition("\t")[0] for line in texts}) == 1000
    assert tfdistill("example-data", path)[0] == 2
    assert tfdistill("example-data", path, "--rows", 300, "--force")[0] == 0
    assert len(path.read_text("utf-8").splitlines()) == 301
    assert tfdistill("example-data", tmp_path / "intents.csv")[0] == 2


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_run_directory_is_a_model(tmp_path, prefix):
    shutil.copytree(TINY, tmp_path / "RUN" / "student")
    for name in ("RUN", "RUN/student"):
        assert open_model(f"{prefix}{tmp_path / name}").directory == tmp_path / "RUN" / "student"
    shutil.copytree(TINY, tmp_path / "MODEL")
    (tmp_path / "MODEL" / "student").mkdir()
    assert open_model(tmp_path / "MODEL").directory == tmp_path / "MODEL"


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_model(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_a_model_is_told_from_what_was_meant(tmp_path):
    shutil.copytree(TINY, tmp_path / "runs" / "R1" / "student")
    assert f"did you mean {tmp_path / 'runs' / 'R1'}?" in refusal(tmp_path / "runs" / "R11")
    assert f"did you mean {tmp_path / 'runs' / 'R1'}?" in refusal(tmp_path / "runs" / "R1" / "model")
    assert f"did you mean {tmp_path / 'runs' / 'R1'}?" in refusal(tmp_path / "runs")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text("{}")
    assert "not finished" in refusal(tmp_path / "half")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    assert "bundle" in refusal(tmp_path / "bundle")
    (tmp_path / "file").write_text("")
    assert "not a directory" in refusal(tmp_path / "file") and "config.json" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "xyz")
