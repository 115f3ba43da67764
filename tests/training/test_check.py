"""What is checked before a training and after it, in literal numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_recipes
from stopped_runs import make as stopped_recipe
from stopped_runs import stopped

from tfdistill.data.question_data import QuestionData, QuestionSplit
from tfdistill.data.splits import Split
from tfdistill.data.squad import Answer, Question
from tfdistill.data.tagged_data import TaggedData, TaggedSplit
from tfdistill.data.text_data import TextData
from tfdistill.recipes import finetune, soft_targets
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.chance import chance, is_above, is_at_chance, still_improving
from tfdistill.training.check import Check, check_recipe, unknown_share
from tfdistill.training.label_counts import describe_split, label_warnings
from tfdistill.training.outcome import after_lines, summary
from tfdistill.training.run_directory import run

TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"])


def texts(labels, names=("no", "yes"), **options) -> TextData:
    labels = np.array(labels)
    split = Split(["a b"] * len(labels), None, labels)
    return TextData("texts", {"train": split, "dev": split}, names, **options)


def chance_of(data) -> float:
    return chance(data.encode(data.splits["dev"], TOKENIZER, 16))


# --- chance -----------------------------------------------------------------------------------------------------------


def test_chance_of_classes_is_the_share_of_the_most_frequent_one():
    assert chance_of(texts([0, 1, 1, 1])) == 0.75


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("f1", 2 / 3), ("macro_f1", 1 / 3), ("matthews", 0.0)],  # f1 of always "yes": precision 1/2, recall 1
)
def test_chance_of_other_scores_of_classes_is_that_of_the_best_constant_answer(metric, expected):
    assert chance_of(texts([0, 0, 1, 1], metrics=(metric,))) == pytest.approx(expected)


def test_chance_of_sets_of_classes():
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    # Always {a}: 3 right of 4 said and 5 true, F1 = 6/9. Always {a, b}: 8/13.
    assert chance_of(texts(labels, ("a", "b", "c"), multilabel=True)) == pytest.approx(6 / 9)


def test_chance_of_numbers_is_no_correlation():
    assert chance_of(texts(np.array([1.0, 2.0, 3.0], np.float32), None)) == 0.0


def test_chance_of_tags_and_answers():
    split = TaggedSplit([["a", "b"], ["a"]], [["B-X", "O"], ["O"]])
    tags = TaggedData("tags", {"dev": split}, ("B-X", "O"))
    # Always B-X: entities (0, 0), (0, 1), (1, 0), of which one is right: F1 = 2 / 4.
    assert chance_of(tags) == pytest.approx(0.5)
    with_answer = Question("1", "a", "a b", (Answer("a", 0),))
    questions = QuestionSplit([with_answer, replace(with_answer, id="2", answers=())])
    assert chance_of(QuestionData("squad", {"dev": questions})) == 0.5


@pytest.mark.parametrize(
    ("score", "by_chance", "rows", "expected"),
    [
        (0.41, 0.5, 1000, True),  # below
        (0.52, 0.5, 1000, True),  # two standard errors are 3.2 points
        (0.54, 0.5, 1000, False),
        (0.76, 0.5, 4, False),  # more than half-way to 1
        (0.95, 0.9, 1000, False),
        (0.03, 0.0, 1000, True),
        (0.2, 0.0, 1000, False),
        (1.0, 1.0, 1000, True),
    ],
)
def test_what_counts_as_chance(score, by_chance, rows, expected):
    assert is_at_chance(score, by_chance, rows) == expected


@pytest.mark.parametrize(
    ("scores", "rows", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.758], 10_000, True),
        ([0.5, 0.75, 0.76, 0.762], 10_000, False),  # less than half a point
        ([0.5, 0.8, 0.7, 0.75], 10_000, False),  # the best one is another
        ([0.5, 0.7, 0.71], 100, False),  # one of a hundred rows
        ([0.758], 10_000, False),
    ],
)
def test_what_counts_as_still_improving(scores, rows, expected):
    assert still_improving(scores, rows) == expected


def test_a_student_is_above_its_teacher_by_more_than_noise():
    assert is_above(0.816, 0.758, 1000, 1000) and not is_above(0.765, 0.758, 1000, 1000)
    assert not is_above(0.3333, 0.3, 30, 30)  # one example
    assert not is_above(0.78, 0.758, 1000, 9000)  # 2.7 points are two standard errors of the teacher's sample


# --- labels and tokens ------------------------------------------------------------------------------------------------


def test_labels_are_counted_for_each_task():
    data = texts([0, 1, 1, -1])
    assert describe_split(data.splits["dev"], data) == {"rows": 4, "without_label": 1, "labels": {"no": 1, "yes": 2}}
    numbers = texts(np.array([1.0, 2.0, np.nan], np.float32), None)
    about = describe_split(numbers.splits["dev"], numbers)
    assert about == {"rows": 3, "without_label": 1, "values": {"min": 1.0, "mean": 1.5, "max": 2.0}}
    sets = texts(np.array([[1, 0], [1, 1], [-1, -1]], np.float32), multilabel=True)
    assert describe_split(sets.splits["dev"], sets)["labels"] == {"no": 2, "yes": 1}


def test_many_classes_are_counted_in_short():
    data = texts(np.repeat(np.arange(20), np.arange(1, 21)), tuple(f"c{number}" for number in range(20)))
    assert describe_split(data.splits["dev"], data)["labels"] == {
        "classes": 20,
        "min": 1,
        "median": 10.5,
        "max": 20,
        "rarest": {"c0": 1, "c1": 2, "c2": 3},
    }


def test_what_is_off_with_labels():
    assert label_warnings(texts([0, 1] * 30)) == []
    (train, dev) = label_warnings(texts([0] * 60))
    assert "train" in train and "'yes'" in train and "dev" in dev
    assert "4 rows" in label_warnings(texts([0, 1, 0, 1]))[0]
    assert "1.0, 2.0" in label_warnings(texts([0, 1] * 30, ("1.0", "2.0")))[0]
    assert label_warnings(texts([0, 1] * 30, ("0", "1"))) == []
    assert "0, 1" in label_warnings(texts(np.array([0, 1] * 30, np.float32), None))[0]
    assert label_warnings(texts(np.linspace(0, 5, 60).astype(np.float32), None)) == []


def test_the_share_of_unknown_tokens_is_that_of_words():
    ids = TOKENIZER.encode(["a b x", "y"], max_length=8).token_ids
    assert unknown_share(ids, TOKENIZER) == 0.5
    assert unknown_share(ids[:0], TOKENIZER) == 0.0


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_a_recipe_is_checked_for_unknown_tokens_cut_texts_and_lengths():
    words, labels = ["b c d e f g h a"] * 30 + ["☃ ☃"] * 30, np.arange(60) % 2
    split = Split(words, None, labels)
    data = TextData("texts", {"train": split, "dev": split}, tiny_recipes.NAMES)
    teacher = tiny_recipes.teacher()
    teacher.trained_length = 20
    recipe = soft_targets.recipe(teacher, data, soft_targets.Settings(num_layers=1, max_length=6))
    check = check_recipe(recipe)
    reads = check.reads["student"]
    assert (reads["max_length"], reads["cut"]) == (6, 0.5)
    assert reads["unknown"] == pytest.approx(60 / (30 * 4 + 60))
    assert any("max_length=16" in line and "50.0 %" in line for line in check.warnings)
    assert any("[UNK]" in line and "33.3 %" in line for line in check.warnings)
    assert any("20" in line and "6" in line and "teacher was trained" in line for line in check.warnings)
    (about,) = check.teachers
    assert about["chance"] == 0.5 and about["rows"] == 60
    assert json.loads(json.dumps(check.as_data())) == check.as_data()
    assert Check.from_data(json.loads(json.dumps(check.as_data()))) == check
    assert Check.from_data(None) is None and Check.from_data({"other": 1}) is None


def test_recipes_take_the_length_of_their_teachers():
    data, settings = tiny_recipes.data(), soft_targets.Settings(num_layers=1)
    short, long = tiny_recipes.teacher(), tiny_recipes.teacher()
    assert soft_targets.recipe(short, data, settings).max_length == 64
    short.trained_length, long.trained_length = 16, 24
    assert soft_targets.recipe(short, data, settings).max_length == 16
    assert settings.like(short, long).max_length == 24
    chosen = soft_targets.Settings(num_layers=1, max_length=12)
    assert soft_targets.recipe(long, data, chosen).max_length == 12
    both = replace(soft_targets.recipe(short, data, settings), other_teachers=(long,))
    check = check_recipe(both)
    assert any("16, 24" in line for line in check.warnings) and check.reads["student"]["as_teacher"]


def test_what_is_off_after_a_training():
    recipe = finetune.recipe(tiny_recipes.teacher(), tiny_recipes.data())
    about = {"name": "teacher", "metric": "accuracy", "score": 0.758, "chance": 0.1, "rows": 1000}
    check = Check("classification", 10, {"dev": {"rows": 1000, "without_label": 0}}, {}, [about], 0.1)
    curve = [{"stage": "labels", "step": step, "dev_accuracy": value} for step, value in ((10, 0.6), (20, 0.816))]
    improving, above = after_lines(check, recipe, {"accuracy": 0.816}, curve)
    assert "81.6 %" in improving and "60.0 %" in improving
    assert "81.6 %" in above and "75.8 %" in above
    (low,) = after_lines(check, recipe, {"accuracy": 0.11}, curve[:1])
    assert "11.0 %" in low and "10.0 %" in low
    assert after_lines(check, recipe, {"accuracy": 0.75}, [{**curve[0], "dev_accuracy": 0.75}]) == []
    on_text = replace(recipe, stages=(replace(recipe.stages[0], source=["plain text"]),))
    (untrained,) = after_lines(check, on_text, {"accuracy": 0.75}, curve)
    assert "student=hf:" in untrained
    assert "75.0 %" in summary(check, {"accuracy": 0.75}) and "75.8 %" in summary(check, {"accuracy": 0.75})


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_run_keeps_its_check_and_warns_of_a_teacher_at_chance(tmp_path, capsys):
    made = soft_targets.recipe(tiny_recipes.teacher(), tiny_recipes.data(60), soft_targets.Settings(epochs=1))
    made = replace(made, data=replace(made.data, splits={**made.data.splits, "dev": made.data.splits["train"]}))
    made.teacher.head.set_weights([weight * 0 for weight in made.teacher.head.get_weights()])  # always the first class
    result = run(made, tmp_path / "run", seed=1)
    kept = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    (about,) = kept["check"]["teachers"]
    assert (about["metric"], about["score"], about["chance"], about["rows"]) == ("accuracy", 0.5, 0.5, 60)
    shown = " ".join(capsys.readouterr().err.split())
    warned = [line for line in kept["check"]["warnings"] if "chance" in line]
    assert len(warned) == 1 and f"WARNING: {warned[0]}" in shown
    assert "60 rows (no 30, yes 30)" in shown and result.scores["dev"]
    assert "check" not in json.loads((tmp_path / "run" / "student" / "recipe.json").read_text("utf-8"))
    assert result.student.trained_length == made.max_length


@pytest.mark.heavy
def test_a_run_that_resumes_has_the_check_of_its_beginning(tmp_path, monkeypatch):
    out = tmp_path / "run"
    stopped(monkeypatch, out, stopped_recipe(), 0, 3, by=KeyboardInterrupt, checkpoint_seconds=0.0)
    before = json.loads((out / "run.json").read_text("utf-8"))
    assert before["check"]["splits"]["train"]["rows"] == 40
    monkeypatch.setattr("tfdistill.training.run_directory.check_recipe", lambda *_, **__: pytest.fail("checked again"))
    run(stopped_recipe(), out, seed=1)
    after = json.loads((out / "run.json").read_text("utf-8"))
    assert {**after["check"], "after": []} == {**before["check"], "after": []}


@pytest.mark.heavy
def test_a_run_from_before_there_was_a_check_resumes(half, whole, tmp_path):
    out = shutil.copytree(half, tmp_path / "run")
    old = json.loads((out / "run.json").read_text("utf-8"))
    old.pop("check")
    (out / "run.json").write_text(json.dumps(old), "utf-8")
    assert run(stopped_recipe(), out, seed=1).scores == whole[1].scores
    assert "check" in json.loads((out / "run.json").read_text("utf-8"))
