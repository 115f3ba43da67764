"""Test that a place where nothing can be written is refused before anything is read, and that nothing is left there."""

from __future__ import annotations

import pytest

DATA = ["--data", "none.tsv"]
VERBS = {
    "train": ["train", "soft_targets", "--teacher", "none", *DATA, "--out"],
    "finetune": ["finetune", "hf:none", *DATA, "--out"],
    "pretrain": ["pretrain", "tinybert_4l_312", "--text", "none.txt", "--out"],
    "trim": ["trim", "none", *DATA, "--out"],
    "compress": ["compress", "none", *DATA, "--clusters", "8", "--out"],
    "augment": ["augment", *DATA, "--p-pos", "0", "--out"],
    "quickstart": ["quickstart", "--out"],
    "predictions": ["evaluate", "none", *DATA, "--predictions"],
    "plot": ["compare", "none", "--plot"],
    "report": ["bench", "file", "--report"],
    "ios-params": ["bench", "file", "--ios-params"],
}
ENDINGS = {"plot": ".png", "report": ".html"}


@pytest.mark.parametrize("verb", VERBS)
def test_below_a_file(tfdistill, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    place = f"file/deeper/out{ENDINGS.get(verb, '')}"
    code, _, err = tfdistill(*VERBS[verb], place)
    assert code == 2 and place in err and err.count("\n") == 1, err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb][-1] == "--out"])
def test_other_things_at_the_place(tfdistill, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "thing.txt").touch()
    code, _, err = tfdistill(*VERBS[verb], "some")
    assert code == 2 and "some" in err and err.count("\n") == 1, err
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["thing.txt"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb][-1] != "--out"])
def test_a_directory_where_a_file_is_wanted(tfdistill, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    name = f"directory{ENDINGS.get(verb, '')}"
    (tmp_path / name).mkdir()
    code, _, err = tfdistill(*VERBS[verb], name)
    assert code == 2 and name in err and err.count("\n") == 1, err
