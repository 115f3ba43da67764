"""Models and data whose classes are in different orders: each road ends with the right classes, or with one line."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fitted import LABELS, NAMES, TEXTS, emotions, fitted
from helpers import tiny_bert

from tfdistill import losses
from tfdistill.data.conll import load_conll
from tfdistill.data.text_sources import load_data
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.load import data_for, load, save
from tfdistill.models.predict import evaluate
from tfdistill.recipes import find, finetune
from tfdistill.training import teacher_cache
from tfdistill.training.rows import prepare
from tfdistill.training.settings import parse_settings
from tfdistill.training.teacher_cache import TeacherCache
from tfdistill.training.teacher_outputs import training_logits

OTHER = ("joy", "anger", "fear")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "folder", lambda: tmp_path / "teacher-caches")


def soft_targets(model, data, *others, **settings):
    module = find("soft_targets")
    words = [f"{name}={value}" for name, value in {"num_layers": 1, "max_length": 12, **settings}.items()]
    return replace(module.recipe(model, data, parse_settings(module.Settings, words)), other_teachers=others)


def right(logits, labels=LABELS) -> float:
    return float((np.argmax(logits, -1) == labels).mean())


score = partial(evaluate, name="test", max_length=12)


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES))[1::2])
def test_two_teachers_with_their_classes_in_other_orders_are_right_together(order):
    data, cache = emotions(), TeacherCache()
    recipe = soft_targets(fitted(), data, fitted(order, seed=2))
    assert all(model.label_names == NAMES for model in (recipe.student, *recipe.teachers))
    prepared = prepare(recipe, 0)
    assert right(training_logits(recipe, prepared, cache)) == right(training_logits(recipe, prepared)) == 1.0


@pytest.mark.parametrize("others", [1, 0])
def test_all_models_of_a_recipe_get_the_order_of_its_data(others, capsys):
    """So the data's class numbers are right for the student, in any order of the teacher's classes."""
    teacher = fitted(OTHER)
    recipe = soft_targets(teacher, emotions(), *[fitted(None, NAMES, seed=2)] * others)
    assert teacher.label_names == recipe.student.label_names == NAMES
    assert score(teacher, emotions())["accuracy"] == 1.0
    assert right(training_logits(recipe, prepare(recipe, 0))) == 1.0
    printed = capsys.readouterr().err
    assert (
        printed.count("emotions: anger, fear, joy") == 1 + others
    )  # none for the student, which is cut from the first
    assert [model.order_is_assumed for model in recipe.teachers] == [False, True][: 1 + others]


def test_a_teacher_with_other_classes_is_refused_before_anything_runs():
    with pytest.raises(UserError, match=r"sadness.*joy"):
        soft_targets(fitted(), emotions(), fitted(("anger", "fear", "sadness"), NAMES, seed=2))
    more = tiny_bert(outputs=4, label_names=(*NAMES, "surprise"))
    more.tokenizer = fitted().tokenizer
    with pytest.raises(UserError, match=r"surprise"):
        soft_targets(more, emotions())


def test_a_teacher_cache_is_never_read_for_another_order():
    data, cache, teacher = emotions(), TeacherCache(), fitted()
    first = training_logits(*made(teacher, data), cache)
    moved = emotions(OTHER)
    second = training_logits(*made(teacher, moved), TeacherCache())
    assert right(first) == 1.0 and right(second, moved.splits["train"].labels) == 1.0
    np.testing.assert_array_equal(second, first[:, [2, 0, 1]])
    again = training_logits(*made(fitted(), data), TeacherCache())
    np.testing.assert_array_equal(again, first)


def made(teacher, data):
    recipe = soft_targets(teacher, data)
    return recipe, prepare(recipe, 0)


@pytest.mark.parametrize("names", [OTHER, ("x", "y", "z"), None])
def test_a_student_directory_in_another_order(tmp_path, names, capsys):
    """It starts with its own head in the right order, or with a new head, but never with that of other classes."""
    student = fitted(names, None if names == OTHER else NAMES, seed=2)
    save(student, tmp_path / "student")
    recipe = soft_targets_hf(tmp_path, fitted())
    printed = capsys.readouterr().err
    assert recipe.student.label_names == NAMES
    if names == ("x", "y", "z"):
        assert "x, y, z" in printed and "new head" in printed
        assert not np.array_equal(recipe.student.head.kernel, student.head.kernel)
    else:
        assert str(tmp_path / "student") in printed and score(recipe.student, emotions())["accuracy"] == 1.0


def soft_targets_hf(place, teacher):
    module = find("soft_targets")
    settings = parse_settings(module.Settings, [f"student=hf:{place / 'student'}", "max_length=12"])
    return module.recipe(teacher, emotions(), settings)


def test_data_are_read_in_the_order_of_the_model(tmp_path, capsys):
    lines = [f"{text}\t{NAMES[label]}\n" for text, label in zip(TEXTS, LABELS, strict=True)]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("text\tlabel\n" + "".join(lines), "utf-8")
    model = fitted(OTHER)
    data = data_for(model, "MODEL", str(tmp_path))
    assert data.label_names == OTHER and score(model, data)["accuracy"] == 1.0
    assert score(model, load_data(str(tmp_path)))["accuracy"] == 1.0  # in the order of its own
    assert model.label_names == OTHER and "order" not in capsys.readouterr().err
    unnamed = fitted(None, NAMES)
    assert score(unnamed, data_for(unnamed, "MODEL", str(tmp_path)))["accuracy"] == 1.0
    assert unnamed.label_names == NAMES and "anger, fear, joy" in capsys.readouterr().err
    for names in (("a", "b", "c"), ("anger", "fear")):
        other = tiny_bert(outputs=len(names), label_names=names)
        other.tokenizer = model.tokenizer
        with pytest.raises(UserError, match=r"joy|emotions|3"):
            score(other, emotions())


def test_a_distiller_puts_the_teacher_in_the_order_of_the_student():
    student, teacher = fitted(), fitted(OTHER, seed=2)
    Distiller(student, teacher, [Match(losses.hidden_mse, on="pooled"), HardLabels()])
    assert teacher.label_names == OTHER
    Distiller(student, teacher, [Match(losses.soft_kl)])
    assert teacher.label_names == NAMES and score(teacher, emotions())["accuracy"] == 1.0
    with pytest.raises(UserError, match="sadness"):
        Distiller(student, fitted(("sadness", "anger", "fear"), OTHER), [Match(losses.soft_kl)])


def test_tags_are_put_in_order(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.conll").write_text("a\tB-X\nb\tO\nc\tI-X\n\nd\tO\n\n", "utf-8")
    data = load_conll(tmp_path)
    model = tiny_bert(task="token_classification", label_names=("I-X", "O", "B-X"))
    model.tokenizer = fitted().tokenizer
    before = model.head.kernel.numpy()
    scores = evaluate(model, data, "test", max_length=12)
    assert model.label_names == ("I-X", "O", "B-X")
    model.order_outputs(data.label_names, data.name)
    assert data.label_names == ("O", "B-X", "I-X") and evaluate(model, data, "test", max_length=12) == scores
    np.testing.assert_array_equal(model.head.kernel, before[:, [1, 2, 0]])


def test_fine_tuning_starts_with_the_head_in_the_order_of_the_data(tmp_path):
    save(fitted(OTHER), tmp_path / "model")
    data = emotions()
    model = load(tmp_path / "model", num_outputs=3, task=data.task, label_names=data.label_names, new_head=True)
    recipe = finetune.recipe(model, data)
    assert score(recipe.student, data)["accuracy"] == 1.0


def test_the_identity_of_a_model_in_another_order():
    model = fitted(OTHER)
    before = identity(model)
    assert identity(model, OTHER) == before == identity(model, ("other", "names", "x")) != identity(model, NAMES)
    model.order_outputs(NAMES, "emotions")
    assert identity(model, OTHER) == before != identity(model)
