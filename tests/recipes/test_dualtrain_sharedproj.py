"""The recipe dualtrain_sharedproj: its student, stages and options."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tiny_recipes import (
    data,
    dualtrain_settings,
    make,
    teacher,
)

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.models import presets
from tfdistill.models.load import load, save
from tfdistill.recipes import find
from tfdistill.training.run_directory import run


@pytest.mark.heavy
def test_dualtrain_ends_after_the_general_stage_and_goes_on_from_its_student(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [
        f"general.text={text_file}",
        f"general.teacher=hf:{tmp_path / 'general'}",
        "general.width=8",
        "general.vocab_size=24",
    ]
    first = make(
        "dualtrain_sharedproj",
        data(),
        [*options, "general.length=16", "general.only=true", "general.direction=down", "general.whole_words=true"],
        shallow,
    )
    assert [stage.name for stage in first.stages] == ["dual training"]
    assert first.stages[0].terms[0].direction == "down" and first.stages[0].source.masking.whole_words
    save(first.student, tmp_path / "student")
    second = make("dualtrain_sharedproj", data(), [f"student=hf:{tmp_path / 'student'}"], shallow)
    assert [stage.name for stage in second.stages] == ["fine-tuning"]
    assert second.student.tokenizer.vocabulary == first.student.tokenizer.vocabulary
    for ours, theirs in zip(second.student.get_weights(), first.student.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.heavy
def test_dualtrain_is_as_small_as_its_docstring_says():
    module = find("dualtrain_sharedproj")
    sizes = module.narrow_sizes(SimpleNamespace(config=presets.PRESETS["bert_base"]), 48)
    student = presets.new("bert_base", vocab_size=4928, num_outputs=2, **sizes)
    assert student.count_params() == 603_026 and round(109_483_778 / student.count_params()) == 182


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["student=hf:DIR", "general.text=FILE", "general.teacher=hf:X"], "student=hf:DIR"),
        (["student=minilm_l6_384"], "minilm_l6_384"),
        (["general.only=true"], r"general\.text"),
        ([], r"general\.text"),
    ],
)
def test_dualtrain_students(settings, message, shallow):
    with pytest.raises(UserError, match=message):
        make("dualtrain_sharedproj", data(), settings, shallow)


@pytest.mark.slow
def test_dualtrain_gives_a_narrow_student_with_its_own_vocabulary(tmp_path, text_file):
    recipe = make("dualtrain_sharedproj", data(), [*dualtrain_settings(tmp_path, text_file), "general.mixed_epochs=1"])
    assert [stage.name for stage in recipe.stages] == ["teacher on mixed text", "dual training", "fine-tuning"]
    assert recipe.student.config.hidden_size == 8 and recipe.student.num_layers == 2
    lm = recipe.stages[0].teacher
    before = [np.array(model.encoder.blocks[0].query.kernel) for model in (lm, recipe.student)]
    result = run(recipe, tmp_path / "run", debug=True, gradient_norms=True)
    for old, model in zip(before, (lm, result.student), strict=True):
        assert np.abs(np.array(model.encoder.blocks[0].query.kernel) - old).max() > 0
    assert all(norm > 0 for norm in result.gradient_norms["dual training"].values())
    again = load(tmp_path / "run" / "student")
    bundle = export_bundle(again, tmp_path / "bundle", quantize="fp32", length=12)
    assert (bundle / "vocab.txt").read_text("utf-8").split() == list(recipe.student.tokenizer.vocabulary)
    assert again.tokenizer.vocabulary == recipe.student.tokenizer.vocabulary != recipe.teacher.tokenizer.vocabulary
    with pytest.raises(UserError, match="plain text"):
        make("dualtrain_sharedproj", data(), [])
