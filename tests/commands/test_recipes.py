"""Test `tfdistill recipes`: the list, and one recipe with its settings."""

from __future__ import annotations

import pytest

from tfdistill.recipes import find, names


def test_the_list(tfdistill, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    code, printed, _ = tfdistill("recipes")
    assert code == 0 and all(name in printed for name in names())


@pytest.mark.parametrize("name", ["bilstm", "tinybert"])
def test_one_recipe(tfdistill, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "400")
    code, printed, _ = tfdistill("recipes", name)
    assert code == 0 and all(setting in printed for setting in find(name).Settings.model_fields)


def test_an_unknown_recipe_is_one_line(tfdistill):
    code, _, err = tfdistill("recipes", "bilstn")
    assert code == 2 and "bilstm" in err and err.count("\n") == 1
