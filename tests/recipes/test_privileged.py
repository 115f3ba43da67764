"""The recipe privileged: its student, stages and options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny_recipes import (
    data,
    make,
    split,
    teacher,
    with_extra,
)

from tfdistill.data.batching import dataset
from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.models.load import load, save
from tfdistill.recipes import find, finetune
from tfdistill.training.rows import prepare
from tfdistill.training.runner import train
from tfdistill.training.teacher_outputs import stage_examples, with_teacher_logits

pytestmark = pytest.mark.heavy


def test_unlabelled_rows_of_privileged_need_the_extra_columns_too(shallow):
    text = with_extra(data(unlabelled=replace(split(16, 7), labels=None, texts_extra=(["yes"] * 16,))), keep=True)
    result = train(make("privileged", text, [], shallow), seed=0, max_steps=2)
    assert result.rows == 48
    without = replace(text, splits={**text.splits, "unlabelled": replace(split(16, 7), labels=None)})
    with pytest.raises(UserError, match="text_extra"):
        find("privileged").recipe(shallow, without)


def test_a_privileged_teacher_reads_as_much_as_it_was_finetuned_with(tmp_path, shallow):
    save(shallow, tmp_path / "teacher")
    (tmp_path / "teacher" / "recipe.json").write_text('{"max_length": 20}')
    lengths = []
    for model, settings in (
        (shallow, []),
        (load(tmp_path / "teacher"), []),
        (load(tmp_path / "teacher"), ["teacher_max_length=16"]),
    ):
        recipe = make("privileged", data(), ["max_length=6", *settings], model)
        prepared = prepare(recipe, 0)
        assert prepared.train.encoded.lengths.max() <= 6
        lengths.append(recipe.teacher_max_length)
        assert prepared.read_by(recipe, model).lengths.max() <= recipe.teacher_max_length
    assert lengths == [6, 20, 16]


def test_privileged_columns_reach_the_teacher_and_never_the_student():
    one = make("privileged", data(), [])
    swapped = {name: replace(each, texts_extra=(["c d e"] * len(each),)) for name, each in one.data.splits.items()}
    two = replace(one, data=replace(one.data, splits=swapped))
    first, second = (with_teacher_logits(each, prepare(each, 0)) for each in (one, two))
    np.testing.assert_array_equal(first.train.encoded.token_ids, second.train.encoded.token_ids)
    assert np.abs(first.teacher_logits - second.teacher_logits).max() > 1e-3
    plain = prepare(replace(one, privileged=False), 0)
    np.testing.assert_array_equal(plain.train.encoded.token_ids, first.train.encoded.token_ids)
    with pytest.raises(UserError, match="text_extra"):
        find("privileged").recipe(teacher(), data())


@pytest.mark.slow
def test_an_exported_student_of_a_privileged_teacher_reads_its_own_text_alone(tmp_path):
    """Train step and exported file: what is privileged has no way into either."""
    recipe = make("privileged", data(), [])
    prepared = with_teacher_logits(recipe, prepare(recipe, 0))
    (batch,) = dataset(stage_examples(recipe, prepared, 0), 32, shuffle=False).take(1)
    text = prepared.train.encoded.take(range(32))
    width = int(text.lengths.max())
    assert (
        set(batch["student"]) == {"token_ids", "padding_mask", "segment_ids"}
        and not batch["student"]["segment_ids"].numpy().any()
    )
    assert (
        batch["student"]["padding_mask"].numpy().sum() == text.lengths.sum()
        and batch["student"]["token_ids"].shape[1] == width
    )
    bundle = export_bundle(recipe.student, tmp_path / "bundle", quantize="fp32", length=12)
    (signature,) = Interpreter(str(bundle / "model.tflite")).get_signature_list().values()
    plain = export_bundle(make("soft_targets", data(), []).student, tmp_path / "plain", quantize="fp32", length=12)
    assert [signature] == list(Interpreter(str(plain / "model.tflite")).get_signature_list().values())
    assert len(signature["inputs"]) == 3


def test_privileged_loss_is_the_papers():
    recipe = make("privileged", data(), ["temperature=5", "soft_weight=0.3"])
    soft, hard = recipe.stages[0].terms
    assert soft.options == {"temperature": 5.0, "student_temperature": 1.0}
    assert (soft.weight, hard.weight) == (0.3, 0.7)


def test_a_privileged_teacher_is_finetuned_on_pairs():
    recipe = finetune.recipe(teacher(), with_extra(data()), finetune.Settings(privileged=True, max_length=16))
    assert recipe.data.splits["train"].texts_b[:2] == ["no", "yes"]
    with pytest.raises(UserError, match="privileged=true"):
        finetune.recipe(teacher(), data(), finetune.Settings(privileged=True))
