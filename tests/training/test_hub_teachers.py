"""Students of KerasHub classifiers: in recipes, from the command line, and in a `Distiller`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_hub import classifier

import tfdistill
from tfdistill.errors import UserError
from tfdistill.recipes import find, names

pytest.importorskip("keras_hub")
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
WORDS = ["the", "plot", "is", "good", "bad", "very", "film", "a", "boring", "not", "fun", "story"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for split, count in {"train": 30, "dev": 12, "unlabelled": 6}.items():
        rows = [{"text": " ".join(rng.choice(WORDS, 5)), "label": "abc"[n % 3]} for n in range(count)]
        if split == "unlabelled":
            rows = [{"text": row["text"]} for row in rows]
        (directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


@pytest.fixture(scope="module")
def teacher():
    return classifier("f_net")


def test_a_student_learns_the_classifiers_own_predictions(folder, teacher, tmp_path, monkeypatch):
    from tfdistill.training.rows import prepare
    from tfdistill.training.teacher_cache import TeacherCache
    from tfdistill.training.teacher_outputs import training_logits

    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    data, bilstm = tfdistill.load_data(str(folder)), find("bilstm")
    settings = bilstm.Settings(copies=1, epochs=1, lstm_size=4, dense_size=4)
    recipe = bilstm.recipe(teacher, data, settings)
    prepared = prepare(recipe, 1)
    logits = training_logits(recipe, prepared, TeacherCache("logits"))
    expected = teacher.predict(np.array(list(prepared.texts.texts)), verbose=0)
    assert len(prepared.texts) > 36  # labelled, unlabelled and augmented texts
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    dev = teacher.predict(np.array(list(data.splits["dev"].texts)), verbose=0)
    result = tfdistill.run(recipe, tmp_path / "out", seed=1)
    head = json.loads((tmp_path / "out" / "run.json").read_text())
    right = np.mean(dev.argmax(1) == data.splits["dev"].labels)
    assert head["check"]["teachers"][0]["score"] == pytest.approx(right)
    assert head["check"]["reads"]["teacher"]["max_length"] == 24
    assert result.student.tokenizer.vocabulary == recipe.student.tokenizer.vocabulary


@pytest.mark.slow
def test_recipes_work_or_name_the_teacher_in_one_line(folder, teacher):
    data, works = tfdistill.load_data(str(folder)), set()
    for name in names():
        try:
            find(name).recipe(teacher, data, None)
            works.add(name)
        except UserError as error:
            assert "\n" not in str(error)
    assert {"bilstm", "static"} <= works
    sizes = {"student": "tinybert_4l_312"}
    for name in ("soft_targets", "pkd"):
        module = find(name)
        with pytest.raises(UserError, match=teacher.name):
            module.recipe(teacher, data, module.Settings())
    find("soft_targets").recipe(teacher, data, find("soft_targets").Settings(**sizes))


def test_other_models_and_data_are_refused(folder, teacher, tmp_path):
    import keras

    data, soft = tfdistill.load_data(str(folder)), find("bilstm")
    with pytest.raises(UserError, match="hub:somewhere"):
        soft.recipe("hub:somewhere", data)
    with pytest.raises(UserError, match="Sequential"):
        soft.recipe(keras.Sequential([keras.layers.Dense(3)]), data)
    with pytest.raises(UserError, match="4 outputs"):
        soft.recipe(classifier("f_net", num_classes=4), data)
