"""Test `--task`: a task's data and a recipe's published settings for it."""

from __future__ import annotations

import pytest

from tfdistill.commands import task_option as tasks
from tfdistill.commands.task_option import data_and_settings
from tfdistill.data import glue
from tfdistill.errors import UserError
from tfdistill.recipes import find, finetune, names
from tfdistill.training.settings import parse_settings


def test_published_settings_come_before_the_users(capsys):
    tinybert = find("tinybert")
    data, settings = data_and_settings("glue/cola", None, ["copies=2"], tinybert)
    assert (data, settings) == (
        "tfds:glue/cola",
        ["transformer.epochs=50", "copies=30", "augmentation.masked_lm=teacher", "copies=2"],
    )
    chosen = parse_settings(tinybert.Settings, settings)
    assert (chosen.transformer.epochs, chosen.copies, chosen.augmentation.masked_lm) == (50, 2, "teacher")
    assert "transformer.epochs=50" in capsys.readouterr().err
    assert data_and_settings("glue/sst2", "glue:sst2:DIR", [], find("pkd")) == ("glue:sst2:DIR", [])
    assert data_and_settings(None, "DIR", ["epochs=1"], tinybert) == ("DIR", ["epochs=1"])


@pytest.mark.heavy
@pytest.mark.parametrize("recipe", ["finetune", *names()])
def test_all_published_settings_are_settings(recipe):
    module = finetune if recipe == "finetune" else find(recipe)
    for task, settings in getattr(module, "GLUE", {}).items():
        assert task in glue.GLUE
        parse_settings(module.Settings, settings)


@pytest.mark.parametrize("task", glue.GLUE)
def test_tinyberts_augmentation_is_the_papers_on_all_of_glue_but_stsb(task):
    module = find("tinybert")
    for more, copies in (([], True), (["copies=0"], False)):
        chosen = parse_settings(module.Settings, data_and_settings(f"glue/{task}", None, more, module)[1])
        assert bool(chosen.copies) == (copies and task != "stsb")
        assert chosen.augmentation is None if task == "stsb" else chosen.augmentation.masked_lm == "teacher"
    assert module.Settings().augmentation is None


@pytest.mark.parametrize("task", glue.GLUE)
def test_a_bilstm_is_trained_as_in_its_paper(task):
    module = find("bilstm")
    chosen = parse_settings(module.Settings, data_and_settings(f"glue/{task}", None, [], module)[1])
    assert (chosen.epochs, chosen.optimizer, chosen.learning_rate, chosen.augmentation.p_pos) == (
        30,
        "adadelta",
        1.0,
        0.1,
    )
    assert (chosen.batch_size, chosen.dropout, chosen.lstm_size, chosen.dense_size) == (50, 0.1, 150, 200)
    assert "copies" not in chosen.model_fields_set  # 10 for pairs, else 20
    chosen = parse_settings(module.Settings, data_and_settings(f"glue/{task}", None, ["copies=0"], module)[1])
    assert (chosen.copies, chosen.epochs) == (0, 30)


@pytest.mark.parametrize("task", glue.GLUE)
def test_a_teacher_is_finetuned_as_bert_was(task):
    _, settings = data_and_settings(f"glue/{task}", None, [], finetune)
    chosen = parse_settings(finetune.Settings, settings)
    assert (chosen.batch_size, chosen.epochs, chosen.learning_rate, chosen.max_length) == (32, 3, 3e-5, 128)


def test_the_commands_pass_their_recipe(tfdistill, monkeypatch):
    recipes = []

    def remember(task, data, settings, recipe=None):
        recipes.append(recipe)
        raise UserError("stopped here")

    monkeypatch.setattr(tasks, "data_and_settings", remember)
    assert tfdistill("finetune", "hf:X", "--task", "glue/mrpc", "--out", "OUT")[0] == 2
    assert tfdistill("train", "tinybert", "--teacher", "X", "--task", "glue/mrpc", "--out", "OUT")[0] == 2
    assert recipes == [finetune, find("tinybert")]


@pytest.mark.parametrize(("task", "part"), [(None, "--data"), ("glue/mrcp", "'mrpc'"), ("squad", "glue/")])
def test_others_are_refused(task, part):
    with pytest.raises(UserError, match=part):
        data_and_settings(task, None, [])
