"""Every recipe trains alike on two devices and compiled by XLA."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import mirrored
from tiny_recipes import (
    SMALL,
    data,
    dualtrain_settings,
    make,
    teacher,
    with_general_stage,
    without_chance,
)

from tfdistill.training.execution import Execution
from tfdistill.training.runner import train

ON_TEXT = ("tinybert", "distilbert", "mobilebert", "dualtrain_sharedproj")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        *(
            pytest.param(name, "sgd", marks=() if name == "soft_targets" else pytest.mark.slow, id=f"{name}-sgd")
            for name in (*SMALL, "dualtrain_sharedproj")
        ),
        *(
            pytest.param(name, "adamw", marks=pytest.mark.slow, id=f"{name}-adamw")
            for name in (*SMALL, "dualtrain_sharedproj")
        ),
    ],
)
def test_two_devices_train_as_one(name, optimizer, tmp_path, text_file):
    """Same global batch: weights to 1e-5 with SGD, losses to 1e-4 with Adam. Also what clips the gradient is the whole batch's."""
    settings, found = ["rate=0"] if name == "layerdrop" else [], []
    if name == "dualtrain_sharedproj":
        settings = [*dualtrain_settings(tmp_path, text_file), "general.mixed_epochs=1"]
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            recipe = without_chance(make(name, data(36), settings), optimizer)
            result = train(recipe, seed=1, max_steps=4, gradient_norms=name != "soft_targets")
        clipped = [norm for stage in result.gradient_norms.values() for norm in stage.values()]
        found.append(
            (result.student.get_weights(), [point["loss"] for point in result.curve if "loss" in point], clipped)
        )
    (ours, losses, norms), (theirs, other_losses, other_norms) = found
    np.testing.assert_allclose(losses, other_losses, rtol=1e-4)
    np.testing.assert_allclose(norms, other_norms, rtol=1e-4)
    if optimizer == "sgd":
        for one, two in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "on_text"),
    [
        *(pytest.param(name, False) for name in SMALL),
        *(pytest.param(name, True) for name in ON_TEXT),
    ],
)
@pytest.mark.slow
def test_a_step_compiled_by_xla_trains_as_a_plain_one(name, on_text, tmp_path, text_file):
    """The whole step, in batches of one width, on labelled texts or with the stages on plain text. Weights agree to 1e-5 with SGD."""
    found, settings = [], ["rate=0"] if name == "layerdrop" else []
    if on_text:
        settings = with_general_stage(name, tmp_path, text_file)
    for execution in (Execution(), Execution(jit=True, buckets=(12,))):
        keras.utils.set_random_seed(1)
        recipe = without_chance(make(name, data(36), settings, teacher(layers=2) if on_text else None), "sgd")
        result = train(replace(recipe, execution=execution), seed=1, max_steps=3)
        found.append((result.student.get_weights(), [point["loss"] for point in result.curve if "loss" in point]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    rounded = name == "quantization_aware"  # a last digit may decide whether a value is rounded up or down
    for one, two in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4 if rounded else 1e-5)
