"""Settings of recipes: groups, mistakes, and the commands in the docs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tfdistill.errors import UserError
from tfdistill.recipes import find
from tfdistill.training.settings import parse_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "settings", "option"),
    [
        ("tinybert", ["general.only=true"], r"general\.text"),
        ("distilbert", ["general.text=X"], r"general\.teacher"),
        ("mobilebert", ["general.megabytes=1", "general.teacher=hf:X"], r"general\.text"),
        ("tinybert", ["augmentation.glove=X"], r"augmentation\.masked_lm"),
        ("tinybert", ["augmentation.masked_lm=hf:X", "augmentation.steps=9"], "steps"),
        ("tinybert", ["augmentation.masked_lm=teacher", "augmentation.steps=9", "augmentation.minutes=1"], "minutes"),
        ("soft_targets", ["labelled.epochs=2"], r"labelled\.corpus"),
        ("xtremedistil", ["hard_weight=1"], r"joint\.hard_weight"),
        ("distilbert", ["general.text=X", "general.teacher=hf:X", "general.segmented=true"], "whole_words"),
        ("bilstm", ["augmentation.p_mask=2"], r"augmentation\.p_mask"),
        ("pkd", ["num_layers=2", "student=tinybert_4l_312"], "student=tinybert_4l_312"),
        ("bilstm", ["copies.number=3"], "copies.number"),
        ("bilstm", ["copies"], "copies"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, settings, option):
    with pytest.raises(UserError, match=option):
        parse_settings(find(name).Settings, settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], None),
        (["joint=true"], 1.0),
        (["joint.soft_weight=0.5"], 0.5),
        (["joint.soft_weight=0.5", "joint=true"], 0.5),
        (["joint=true", "joint.soft_weight=0.5"], 0.5),
        (["joint.soft_weight=0.5", "joint=none"], None),
    ],
)
def test_a_group_is_none_its_defaults_or_what_is_set(settings, expected):
    joint = parse_settings(find("xtremedistil").Settings, settings).joint
    assert (joint and joint.soft_weight) == expected


def test_debug_reads_a_megabyte_of_plain_text():
    settings = find("tinybert").Settings
    groups = [{"text": "X"}, {"text": "X", "megabytes": 0.5}, {"text": "X", "megabytes": 20}, {"text": "corpus:X"}]
    small = [settings(general={"teacher": "hf:X", **group}).for_debug().general.megabytes for group in groups]
    assert small == [1.0, 0.5, 1.0, None] and settings().for_debug().general is None
    assert find("soft_targets").Settings(epochs=2).for_debug().epochs == 2


def test_the_benchmarks_set_what_is_read(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    cells, students = (importlib.import_module(name) for name in ("recipes", "ablations"))
    monkeypatch.delitem(sys.modules, "recipes")
    general = ["general.text=X", "general.teacher=hf:X"]
    for name, cell in (cells.CELLS | cells.EXTRA).items():
        parse_settings(find(name).Settings, [*cell.settings, *(general if cell.general else [])])
    for student in students.STUDENTS.values():
        parse_settings(find(student.recipe).Settings, student.settings)
