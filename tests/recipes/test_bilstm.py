"""The recipe bilstm: its student, stages and options."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tiny_recipes import bottleneck_teacher, data, make

from tfdistill.models.presets import reduced_table, student_from_layers
from tfdistill.recipes import find
from tfdistill.training.settings import parse_settings


@pytest.mark.heavy
@pytest.mark.parametrize("family", ["bert", "distilbert", "mobilebert"])
def test_bilstm_starts_from_the_teachers_table(family, shallow):
    model = {
        "bert": lambda: shallow,
        "distilbert": lambda: student_from_layers(shallow, layers=[1], family="distilbert"),
        "mobilebert": bottleneck_teacher,
    }[family]()
    table = model.encoder.embedding.embeddings.numpy()
    for size in (4, 300):  # no wider than the teacher's
        width = min(size, table.shape[1])
        ours = make("bilstm", data(), [f"embedding_size={size}"], model).student.encoder.embedding.embeddings
        np.testing.assert_array_equal(ours, reduced_table(table, width))


def test_bilstm_options(shallow):
    recipe = make("bilstm", data(), ["alpha=0.25", "optimizer=adadelta", "learning_rate=1"], shallow)
    (stage,) = recipe.stages
    assert [(term.name, term.weight) for term in stage.terms] == [("logits_mse", 0.75), ("hard_labels", 0.25)]
    assert (stage.optimizer, stage.learning_rate, stage.warmup, stage.clip_norm) == ("adadelta", 1.0, 0.0, None)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_bilstm_dense_layer_is_the_papers_or_the_open_versions(activation, shallow):
    settings = [] if activation == "relu" else [f"dense_activation={activation}"]
    student = make("bilstm", data(), settings, shallow).student
    np.testing.assert_allclose(
        student.encoder.dense.activation(tf.constant([-1.0, 2.0])), np.tanh([-1.0, 2.0]) if settings else [0.0, 2.0]
    )
    assert student.config.dense_act == activation


def test_bilstm_makes_half_as_many_copies_of_pairs(shallow):
    module = find("bilstm")
    small = ["embedding_size=8", "lstm_size=4"]
    copies = [
        module.recipe(shallow, text, parse_settings(module.Settings, [*small, *more])).settings["copies"]
        for text, more in ((data(), []), (data(pair=True), []), (data(pair=True), ["copies=20"]))
    ]
    assert copies == [20, 10, 20]
