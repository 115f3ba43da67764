"""The recipe tinybert: its student, stages and options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_recipes import (
    NAMES,
    data,
    make,
    teacher,
)

from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.hf import save_directory
from tfdistill.models.load import load, save
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import _task_masked_lm as task_masked_lm
from tfdistill.recipes import find
from tfdistill.training import run_directory
from tfdistill.training.run_directory import run
from tfdistill.training.settings import parse_settings


@pytest.mark.heavy
@pytest.mark.parametrize(("mapping", "layers"), [("top", ((1, 3), (2, 4))), ("bottom", ((1, 1), (2, 2)))])
def test_tinybert_mappings(mapping, layers):
    recipe = make("tinybert", data(), [f"transformer.mapping={mapping}"], teacher(layers=4))
    assert [term.layers for term in recipe.stages[0].terms] == [(), layers, layers]


@pytest.mark.heavy
def test_tinybert_exchanges_words_for_those_of_a_masked_lm_and_glove(tmp_path, shallow):
    save(teacher(head="masked_lm", layers=1), tmp_path / "mlm")
    (tmp_path / "vectors.txt").write_text("bcd 1 0\nhigh 0.9 0.1\nlow 0 1\nmiddle 0.5 0.5\n", "utf-8")
    options = [
        f"augmentation.masked_lm=hf:{tmp_path / 'mlm'}",
        f"augmentation.glove={tmp_path / 'vectors.txt'}",
        "augmentation.p_replace=1",
        "augmentation.candidates=2",
    ]
    recipe = make("tinybert", data(), [*options, "copies=8"], shallow)
    made = recipe.augment(Split(["bcd , e"], None, np.array([1])), 3)
    first, comma, last = zip(*(text.split() for text in made.texts), strict=True)
    assert set(first) == {"high", "middle"} and set(comma) == {","}
    assert len(set(last)) == 2 and all(len(word) == 1 and word.isalpha() for word in last)  # K = 2
    assert made.labels.tolist() == [1] * len(made)
    assert (
        not make("tinybert", data(), [*options[:2], "augmentation.p_replace=0"], shallow)
        .augment(data().splits["train"], 3)
        .texts
    )
    with pytest.raises(UserError, match="nowhere"):
        make("tinybert", data(), [options[0], "augmentation.glove=nowhere"], shallow)


@pytest.mark.heavy
def test_tinybert_trains_a_masked_lm_on_the_texts_where_the_teacher_has_none(tmp_path, shallow, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vectors.txt").write_text("b 1 0\n", "utf-8")
    options = [
        "augmentation.masked_lm=teacher",
        "augmentation.minutes=0.02",
        f"augmentation.glove={tmp_path / 'vectors.txt'}",
        "copies=2",
    ]
    recipe = make("tinybert", data(), options, shallow)
    train_texts = data(64).splits["train"]
    before = shallow.encoder.embedding.embeddings.numpy()
    with monkeypatch.context() as patch:
        made = recipe.augment(train_texts, 3)
        assert len(made) > 30 and set(made.texts) - set(train_texts.texts)
        patch.setattr(task_masked_lm, "_train", None)  # the second time it is there
        assert recipe.augment(train_texts, 3).texts == made.texts
    np.testing.assert_array_equal(before, shallow.encoder.embedding.embeddings.numpy())


@pytest.mark.heavy
def test_tinybert_takes_the_masked_lm_that_the_teacher_has_or_was_made_of(tmp_path, shallow, monkeypatch, capsys):
    """As `finetune` leaves it: the student directory says of which model it was made."""
    monkeypatch.setattr(task_masked_lm, "masked_lm_of_task", lambda *_, **__: "trained")
    save(teacher(head="masked_lm", layers=2), tmp_path / "pretrained")
    made_of = {"recipe": "finetune", "settings": {"model": f"hf:{tmp_path / 'pretrained'}"}}
    save_directory(shallow, tmp_path / "teacher", recipe=made_of)
    texts = data().splits["train"]
    asked = load(tmp_path / "pretrained", task="classification", num_outputs=2)
    assert task_masked_lm.masked_lm_for(asked, texts) == tmp_path / "pretrained"
    asked = load(tmp_path / "teacher")
    assert task_masked_lm.masked_lm_for(asked, texts) == tmp_path / "pretrained"
    assert str(tmp_path / "pretrained") in capsys.readouterr().err
    made = make("tinybert", data(), ["augmentation.masked_lm=teacher", "copies=1", "augmentation.p_replace=1"], asked)
    assert made.augment(Split(["b c d e"], None, np.array([1])), 3).texts  # and the recipe asks for it
    assert made.breaks == ()
    (tmp_path / "pretrained").rename(tmp_path / "elsewhere")
    assert task_masked_lm.masked_lm_for(asked, texts) == "trained"
    assert task_masked_lm.masked_lm_for(shallow, texts) == "trained"
    (reason,) = make("tinybert", data(), ["augmentation.masked_lm=teacher", "copies=1"], shallow).breaks
    assert "trained by the clock" in reason
    assert (
        make("tinybert", data(), ["augmentation.masked_lm=teacher", "copies=1", "augmentation.steps=9"], shallow).breaks
        == ()
    )


@pytest.mark.heavy
def test_tinybert_trains_its_masked_lm_in_few_steps_to_debug(tmp_path, shallow, monkeypatch):
    asked = []
    monkeypatch.setattr(task_masked_lm, "masked_lm_of_task", lambda *_, **more: asked.append(more) or tmp_path / "mlm")
    save(teacher(head="masked_lm", layers=1), tmp_path / "mlm")
    module = find("tinybert")
    chosen = parse_settings(module.Settings, ["augmentation.masked_lm=teacher", "student=layers", "max_length=12"])
    (tmp_path / "vectors.txt").write_text("b 1 0\n", "utf-8")
    for settings in (chosen, chosen.for_debug()):
        settings = settings.model_copy(update={"glove": str(tmp_path / "vectors.txt")})
        module.recipe(shallow, data(), settings).augment(data().splits["train"], 3)
    assert [(each["minutes"], each["steps"]) for each in asked] == [(None, None), (None, task_masked_lm.DEBUG_STEPS)]
    assert module.Settings().for_debug() == module.Settings()


@pytest.mark.heavy
def test_tinybert_has_the_teachers_heads_or_says_at_once_what_to_do(capsys):
    """12 in the preset, 2 in the teacher."""
    model = teacher()
    student = make("tinybert", data(), ["student=tinybert_4l_312", "copies=0"], model).student
    assert student.config.num_attention_heads == 2 and "the student has 2 attention heads" in capsys.readouterr().err
    student = make(
        "tinybert", data(), ["student=tinybert_4l_312", "copies=0", "transformer.attention_weight=0"], model
    ).student
    assert student.config.num_attention_heads == 12
    many = TextModel(replace(model.config, num_attention_heads=16, hidden_size=32), 2, "classification", NAMES)
    many.tokenizer = model.tokenizer
    with pytest.raises(UserError, match=r"12 .* 16.*transformer\.attention_weight=0"):
        make("tinybert", data(), ["student=tinybert_4l_312"], many)


@pytest.mark.slow
def test_tinyberts_maps_go_on_with_its_student(tmp_path, shallow):
    settings = ["transformer.projection=per_layer", "transformer.epochs=1", "epochs=1", "copies=0"]
    first = run_directory.run(make("tinybert", data(), settings, shallow), tmp_path / "one", debug=True)
    assert first.projections
    again = make("tinybert", data(), [*settings, f"student=hf:{tmp_path / 'one' / 'student'}"], shallow)
    assert again.projections.keys() == first.projections.keys()
    still = tuple(replace(stage, learning_rate=1e-9) for stage in again.stages)
    second = run_directory.run(replace(again, stages=still), tmp_path / "two", debug=True)
    for key, (kernel,) in first.projections.items():
        np.testing.assert_allclose(second.projections[key][0], kernel, atol=1e-5, err_msg=key)
    file = tmp_path / "one" / "student" / "projections.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match=r"projections\.safetensors"):
        make("tinybert", data(), [*settings, f"student=hf:{tmp_path / 'one' / 'student'}"], shallow)


@pytest.mark.heavy
def test_tinybert_defaults_are_the_papers():
    settings = find("tinybert").Settings()
    recipe = find("tinybert").recipe(teacher(width=24), data(), parse_settings(type(settings), ["student=layers"]))
    transformer, prediction = recipe.stages
    assert (transformer.epochs, transformer.learning_rate, transformer.batch_size) == (20, 5e-5, 32)
    assert (prediction.epochs, prediction.learning_rate) == (3, 3e-5)
    assert (settings.student, settings.copies, settings.temperature) == ("tinybert_4l_312", 20, 1.0)
    assert [term.on for term in transformer.terms] == ["embeddings", "hidden_states", "attention_scores"]
    assert transformer.terms[1].layers == ((1, 2), (2, 4))
    pair = find("tinybert").recipe(teacher(), data(pair=True), parse_settings(type(settings), ["student=layers"]))
    assert (recipe.max_length, pair.max_length) == (64, 128)


@pytest.mark.heavy
def test_tinybert_projections_and_mappings():
    for projection, kinds in (("per_layer", "fit"), ("shared", "shared"), ("identity", None)):
        recipe = make("tinybert", data(), [f"transformer.projection={projection}", "transformer.mapping=1:1,2:3"])
        terms = recipe.stages[0].terms
        assert terms[0].project == terms[1].project == kinds
        assert terms[1].layers == terms[2].layers == ((1, 1), (2, 3))
    with pytest.raises(UserError, match="uniform"):
        make("tinybert", data(), ["transformer.mapping=middle"])


@pytest.mark.slow
def test_tinybert_general_stage_takes_a_narrow_student_along(tmp_path, text_file):
    save(teacher(head="masked_lm", width=16), tmp_path / "general")
    save(teacher(width=8, layers=2), tmp_path / "student")
    options = [
        f"student=hf:{tmp_path / 'student'}",
        f"general.text={text_file}",
        f"general.teacher=hf:{tmp_path / 'general'}",
    ]
    options += ["general.length=12", "general.batch_size=4", "general.epochs=1", "transformer.epochs=1", "epochs=1"]
    recipe = make("tinybert", data(), options)
    assert [stage.name for stage in recipe.stages] == ["general", "transformer layers", "prediction layer"]
    result = run(recipe, tmp_path / "run", debug=True)
    assert result.curve[0]["stage"] == "general"
    general = make("tinybert", data(), [*options, "general.only=true"])
    assert [stage.name for stage in general.stages] == ["general"]
    with pytest.raises(UserError, match=r"general\.text"):
        make("tinybert", data(), ["general.only=true"])
