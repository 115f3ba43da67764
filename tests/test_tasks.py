"""--task: a task's data and a recipe's published settings for it."""

from __future__ import annotations

import pytest

from tfdistill.data import glue
from tfdistill.errors import UserError
from tfdistill.recipe import parse_settings
from tfdistill.recipes import find, names
from tfdistill.tasks import data_and_settings


def test_published_settings_come_before_ones_own(capsys):
    tinybert = find("tinybert")
    data, settings = data_and_settings("glue/cola", None, ["copies=2"], tinybert)
    assert (data, settings) == ("tfds:glue/cola", ["intermediate_epochs=50", "copies=30", "copies=2"])
    chosen = parse_settings(tinybert.Settings, settings)
    assert (chosen.intermediate_epochs, chosen.copies) == (50, 2)
    assert "published settings for glue/cola: intermediate_epochs=50, copies=30" in capsys.readouterr().err
    assert data_and_settings("glue/sst2", "glue:sst2:DIR", [], tinybert) == ("glue:sst2:DIR", [])
    assert data_and_settings(None, "DIR", ["epochs=1"], tinybert) == ("DIR", ["epochs=1"])


@pytest.mark.parametrize("recipe", names())
def test_all_published_settings_are_settings(recipe):
    module = find(recipe)
    for task, settings in getattr(module, "TASKS", {}).items():
        assert task in glue.TASKS
        parse_settings(module.Settings, settings)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (None, "neither --data nor --task"),
        ("glue/mrcp", "did you mean 'mrpc'"),
        ("squad", "expected glue/ and one of"),
    ],
)
def test_others_are_refused(task, told):
    with pytest.raises(UserError, match=told):
        data_and_settings(task, None, [])
