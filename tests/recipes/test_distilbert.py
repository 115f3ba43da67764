"""The recipe distilbert: its student, stages and options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_recipes import (
    data,
    make,
    teacher,
)

from tfdistill.models.load import load, save
from tfdistill.training.runner import train

pytestmark = pytest.mark.heavy


def test_distilbert_general_stage_alone(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "general.length=12"]
    recipe = make("distilbert", data(), [*options, "general.only=true", "general.whole_words=true"], shallow)
    (stage,) = recipe.stages
    assert stage.name == "general" and stage.source.masker.masking.whole_words
    assert stage.epsilon == 1e-6  # the paper's


@pytest.mark.slow
@pytest.mark.parametrize("kl_on", [pytest.param("all", marks=pytest.mark.slow), "masked"])
def test_distilbert_general_stage_hands_its_encoder_on(tmp_path, text_file, kl_on):
    save(teacher(head="masked_lm"), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", f"general.kl_on={kl_on}"]
    options += ["general.length=12", "general.batch_size=4", "general.epochs=2", "soft_weight=0.5"]
    recipe = make("distilbert", data(), options)
    general = recipe.stages[0]
    assert [(term.name, term.weight) for term in general.terms] == [
        ("soft_kl", 5.0),
        ("masked_lm", 2.0),
        ("hidden_states_cosine", 1.0),
    ]
    assert recipe.student.family == "distilbert" and general.student.task == "masked_lm"
    start = general.student.encoder.embedding.embeddings.numpy().copy()
    result = train(replace(recipe, stages=(general,)), seed=0, max_steps=6)
    np.testing.assert_array_equal(
        general.student.encoder.blocks[0].query.kernel, recipe.student.encoder.blocks[0].query.kernel
    )
    assert np.abs(recipe.student.encoder.embedding.embeddings.numpy() - start).max() > 0
    assert all(np.isfinite(point["loss"]) for point in result.curve) and "dev" in result.scores


@pytest.mark.slow
def test_distilbert_general_stage_goes_on_from_the_student_it_is_given(tmp_path, text_file):
    save(teacher(head="masked_lm"), tmp_path / "general")
    general = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "general.length=12"]
    save(make("distilbert", data(), []).student, tmp_path / "student")
    for options, same in (([], True), (["initialization=random"], False)):
        recipe = make("distilbert", data(), [*general, *options])
        cut = make("distilbert", data(), []).student.encoder.blocks[0].query.kernel.numpy()
        kernels = [model.encoder.blocks[0].query.kernel.numpy() for model in (recipe.student, recipe.stages[0].student)]
        np.testing.assert_array_equal(*kernels)
        assert np.array_equal(kernels[0], cut) == same
    recipe = make("distilbert", data(), [*general, f"student=hf:{tmp_path / 'student'}"])
    given = load(tmp_path / "student")
    np.testing.assert_array_equal(
        recipe.stages[0].student.encoder.blocks[0].query.kernel, given.encoder.blocks[0].query.kernel
    )


def test_distilbert_takes_every_second_layer():
    recipe = make("distilbert", data(), [])
    blocks = recipe.student.encoder.blocks
    for ours, number in zip(blocks, (1, 4), strict=True):
        np.testing.assert_array_equal(ours.query.kernel, recipe.teacher.encoder.blocks[number - 1].query.kernel)
