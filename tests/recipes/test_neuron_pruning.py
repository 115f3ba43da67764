"""The recipe neuron_pruning: widths in steps, and the shapes of the student."""

from __future__ import annotations

import json

import pytest
from pruned import trained

from tfdistill.models.bert_config import BertConfig
from tfdistill.recipes._pruning import scaled, shares


@pytest.mark.slow
def test_neuron_pruning_reaches_its_widths_in_steps(two_layers, tmp_path):
    _, report, student = trained(
        "neuron_pruning", two_layers, tmp_path / "run", intermediate=0.5, value=0.5, query_key=0.5, pooler=0.5, steps=2
    )
    sizes, head = two_layers.config, two_layers.config.hidden_size // two_layers.config.num_attention_heads
    config = student.config
    assert config.intermediate_size == scaled(sizes.intermediate_size, 0.5, 8)
    assert set(config.value_sizes) == set(config.query_key_sizes) == {scaled(head, 0.5, 8)}
    assert config.pooler_size == scaled(sizes.hidden_size, 0.5, 8)
    assert len(report["stages"]) == 2 and "widths" in report["stages"][0]["before"]
    assert student.count_params() < two_layers.count_params()


@pytest.mark.slow
def test_neuron_pruning_of_the_feed_forward_layers_alone_stays_a_bert(two_layers, tmp_path):
    _, _, student = trained("neuron_pruning", two_layers, tmp_path / "run", steps=1, measure="magnitude")
    assert type(student.config) is BertConfig
    assert json.loads((tmp_path / "run" / "student" / "config.json").read_text())["model_type"] == "bert"


@pytest.mark.slow
def test_neuron_pruning_narrows_the_residual_stream(two_layers, tmp_path):
    _, _, student = trained("neuron_pruning", two_layers, tmp_path / "run", hidden=0.5, intermediate=1.0, steps=1)
    assert student.config.hidden_size == scaled(two_layers.config.hidden_size, 0.5, 8)
    assert student.encoder.blocks[0].query.kernel.shape[1] == two_layers.config.hidden_size


def test_widths():
    assert (
        scaled(1536, 0.3, 8) == 464 and scaled(6, 0.5, 8) == 3 and scaled(8, 0.01, 8) == 8 and scaled(5, 0.01, 8) == 1
    )
    assert shares(4, 0.5) == [0.875, 0.75, 0.625, 0.5]
