"""The recipe mobilebert: its student, stages and options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_recipes import (
    bottleneck_teacher,
    data,
    make,
)

from tfdistill.models.load import save
from tfdistill.training.runner import train


@pytest.fixture(scope="module")
def thin(ib_bert, tmp_path_factory) -> Path:
    """A directory with its student."""
    place = tmp_path_factory.mktemp("thin") / "student"
    save(make("mobilebert", data(), [], ib_bert).student, place)
    return place


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("settings", "stages", "share"),
    [
        (["schedule=joint"], ["task: transfer", "task"], 0.5),
        (["transfer=none"], ["task"], 0.5),
        (["student=hf:DIR"], ["task"], 0.0),  # as in the paper
        (["student=hf:DIR", "soft_weight=0.25"], ["task"], 0.25),
        (["student=hf:DIR", "transfer.epochs=2"], ["task: transfer, layer 1", "task: transfer, layer 2", "task"], 0.5),
    ],
)
def test_mobilebert_transfers_layers_on_the_task_where_no_general_stage_did(settings, stages, share, ib_bert, thin):
    settings = [setting.replace("DIR", str(thin)) for setting in settings]
    recipe = make("mobilebert", data(), settings, ib_bert)
    assert [stage.name for stage in recipe.stages] == stages
    weights = {term.name: term.weight for term in recipe.stages[-1].terms}
    assert weights == {name: weight for name, weight in (("soft_kl", share), ("hard_labels", 1 - share)) if weight}
    assert recipe.stages[0].epochs == {"task: transfer": 2, "task": 3, "task: transfer, layer 1": 2}[stages[0]]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("settings", "after"), [(["general.only=true"], []), pytest.param([], ["task"], marks=pytest.mark.slow)]
)
def test_mobilebert_general_stage_alone_and_before_fine_tuning(settings, after, tmp_path, text_file, ib_bert):
    save(bottleneck_teacher("pretraining"), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "general.length=16"]
    options += ["schedule=joint", "general.transfer_epochs=0.5", "general.whole_words=true"]
    recipe = make("mobilebert", data(), [*options, *settings], ib_bert)
    assert [stage.name for stage in recipe.stages] == ["plain text: transfer", "plain text", *after]
    assert recipe.stages[0].epochs == 1.0  # two layers
    assert recipe.stages[0].source.masker.masking.whole_words


def test_mobilebert_sizes_and_lower_rate(ib_bert):
    recipe = make("mobilebert", data(), ["student=mobilebert_tiny", "bottleneck=6", "lower_rate=0.1"], ib_bert)
    sizes = recipe.student.config
    assert (sizes.hidden_size, sizes.intra_bottleneck_size, sizes.intermediate_size) == (16, 6, 24)
    assert sizes.use_bottleneck_attention and sizes.num_feedforward_networks == 2
    first, second, _ = recipe.stages
    assert not first.freeze.count("layer_1") and "layer_2" in first.freeze and first.rates == {"embeddings": 0.1}
    assert second.rates == {"embeddings": 0.1, "layer_1": 0.1} and second.freeze == ("pooler", "head")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("schedule", "stages"),
    [
        ("auxiliary", ["task"]),
        ("joint", ["task: transfer", "task"]),
        ("progressive", ["task: transfer, layer 1", "task: transfer, layer 2", "task"]),
    ],
)
def test_mobilebert_schedules_with_a_bottleneck_teacher(schedule, stages):
    recipe = make("mobilebert", data(), [f"schedule={schedule}"], bottleneck_teacher())
    assert [stage.name for stage in recipe.stages] == stages
    ours, theirs = recipe.student, recipe.teacher
    for a, b in ((ours.encoder.embeddings, theirs.encoder.embeddings), (ours.head, theirs.head)):
        for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)
    assert ours.num_layers == theirs.num_layers and ours.config.normalization_type == "no_norm"
    assert ("embeddings" in recipe.stages[0].freeze) == (schedule == "progressive")


@pytest.mark.slow
def test_mobilebert_trains_progressively():
    assert train(
        make("mobilebert", data(), ["schedule=progressive"], bottleneck_teacher()), seed=0, max_steps=2
    ).scores["dev"]


@pytest.mark.slow
def test_mobilebert_on_plain_text_with_next_sentences(tmp_path, text_file):
    save(bottleneck_teacher("pretraining"), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "schedule=joint"]
    options += ["general.length=16", "general.batch_size=4", "general.epochs=1", "transfer.epochs=1"]
    recipe = make("mobilebert", data(), options, bottleneck_teacher())
    stages = ["plain text: transfer", "plain text", "task: transfer", "task"]
    assert [stage.name for stage in recipe.stages] == stages
    assert [term.name for term in recipe.stages[1].terms] == ["soft_cross_entropy", "masked_lm", "next_sentence"]
    result = train(recipe, seed=0, max_steps=2)
    assert [entry["stage"] for entry in result.curve if entry["stage"].startswith("plain")]
