"""Quantization-aware training: what it rounds, and that static int8 files round the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert, tiny_bilstm
from safetensors.numpy import load_file

from tfdistill.errors import UserError
from tfdistill.export.convert.convert import convert_model
from tfdistill.export.convert.graph_parts import LEAST_SHARE
from tfdistill.export.convert.graphs import measure
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.models import quantization_aware as quantized
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import AlbertConfig, ElectraConfig
from tfdistill.models.hf import load_directory, save_directory, write_model
from tfdistill.models.hf_weights import RANGES
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.quantization_aware import QuantizationAware, Range
from tfdistill.models.text_model import TextModel
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer


def of_range(least: float, largest: float) -> Range:
    made = Range()
    made.build(None)
    made.start_from(least, largest)
    return made


# --- parts ----------------------------------------------------------------------------------------------------------


def test_a_range_has_256_steps_and_clips():
    # From -1 to 1.55 in steps of 0.01.
    found = of_range(-1.0, 1.55)(tf.constant([0.123, 0.126, 5.0, -3.0, 0.0]))
    np.testing.assert_allclose(found, [0.12, 0.13, 1.55, -1.0, 0.0], atol=1e-6)


def test_a_range_always_holds_zero():
    np.testing.assert_allclose(of_range(0.5, 2.0).bounds(), [0.0, 2.0])
    np.testing.assert_allclose(of_range(-2.0, -0.5).bounds(), [-2.0, 0.0])


def test_ranges_move_in_proportion():
    each = of_range(-1.0, 2.0)
    each.moved.assign([0.0, np.log(2.0) / 100])
    np.testing.assert_allclose(each.bounds(), [-1.0, 4.0], rtol=1e-6)


def test_what_is_clipped_widens_the_range_and_gets_no_gradient():
    each, x = of_range(-1.0, 1.0), tf.Variable([0.5, 3.0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(each(x))
    to_x, to_range = tape.gradient(loss, [x, each.moved.value])
    np.testing.assert_allclose(to_x, [1.0, 0.0])
    # d largest/d moved = 100·largest, divided by √(255·2 features); the range is nudged by less than a step so that 0 is one.
    np.testing.assert_allclose(to_range, [0.0, 100 / 510**0.5], rtol=1e-5)


def test_a_kernel_has_a_scale_for_each_output():
    kernel = tf.constant([[1.0, 0.001], [0.5, 127.0], [-0.004, 0.6]])
    np.testing.assert_allclose(
        quantized.round_kernel(kernel), [[1.0, 0.0], [64 / 127, 127.0], [-1 / 127, 1.0]], rtol=1e-6
    )


# --- models ---------------------------------------------------------------------------------------------------------

SIZES = {"vocab_size": 50, "max_position_embeddings": 16, "initializer_range": 0.2}
LIKE_BERT = {
    **SIZES,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
FAMILIES = {
    "bert": lambda task: tiny_bert(width=16, task=task),
    "distilbert": lambda task: TextModel(
        DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **SIZES), 3, task
    ),
    "electra": lambda task: TextModel(ElectraConfig(**LIKE_BERT, embedding_size=8), 3, task),
    "albert": lambda task: TextModel(AlbertConfig(**LIKE_BERT, embedding_size=8), 3, task),
    "mobilebert": lambda task: TextModel(
        MobileBertConfig(
            embedding_size=8,
            hidden_size=16,
            intra_bottleneck_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            **SIZES,
        ),
        3,
        task,
    ),
}


def made(family: str, task: str = "classification") -> tuple[TextModel, QuantizationAware, dict[str, np.ndarray]]:
    float_model, batch = FAMILIES[family](task), inputs(rows=48)
    rounded = QuantizationAware.of(float_model)
    rounded.calibrate([batch])
    return float_model, rounded, batch


def rows_of(batch: dict[str, np.ndarray]) -> Encoded:
    sizes = batch["padding_mask"].sum(axis=1)
    flat = {name: batch[name][batch["padding_mask"] > 0] for name in ("token_ids", "segment_ids")}
    return Encoded(offsets=np.concatenate([[0], np.cumsum(sizes)]), **flat)


def decibels(signal: np.ndarray, other: np.ndarray) -> float:
    return float(20 * np.log10(np.std(signal) / np.std(signal - other)))


@pytest.mark.heavy
@pytest.mark.parametrize("family", FAMILIES)
def test_rounded_is_near_float_and_all_of_it_learns(family):
    float_model, rounded, batch = made(family)
    assert decibels(float_model(batch).numpy(), rounded(batch).numpy()) > 15
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(rounded(batch) ** 2)
    for variable, gradient in zip(
        rounded.trainable_variables, tape.gradient(loss, [v.value for v in rounded.trainable_variables]), strict=True
    ):
        assert gradient is not None and np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.path


@pytest.mark.heavy
def test_padding_changes_nothing():
    _, rounded, batch = made("bert")
    wide = {name: np.pad(values, ((0, 0), (0, 3))) for name, values in batch.items()}
    # Where a sum in another order ends on the other side of a half, a logit is one step of 256 off.
    off = np.abs(rounded(batch).numpy() - rounded(wide).numpy())
    assert np.mean(off > 1e-5) < 0.05 and off.max() < 0.02


@pytest.mark.heavy
@pytest.mark.parametrize("family", FAMILIES)
def test_shares_are_those_of_the_layers_that_export_measures(family, tmp_path):
    float_model, rounded, batch = made(family, "token_classification")
    write_model(float_model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = load_file(tmp_path / "model.safetensors")
    rows = [{name: values[row : row + 1] for name, values in batch.items()} for row in range(len(batch["token_ids"]))]
    peaks = measure(config, tensors, 8, rows)
    shares = {name: value for name, value in rounded.activation_ranges.items() if name.endswith(".share")}
    assert {f"{name}.share" for name in peaks} == set(shares)
    for name, peak in peaks.items():
        np.testing.assert_allclose(
            shares[f"{name}.share"], np.maximum(peak / peak.max(), LEAST_SHARE), rtol=0.05, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.parametrize(
    "family", [name if name == "mobilebert" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_the_file_rounds_as_the_model_does(family, tmp_path):
    """Ranges so narrow that clipping outweighs rounding: the file is the rounded model's, not the float one's."""
    float_model, rounded, batch = made(family, "token_classification")
    for each in rounded._flatten_layers():
        if isinstance(each, Range):
            each.moved.assign([-0.004, -0.003])
    rows = rows_of(batch)
    file = convert_model(rounded, tmp_path, name="rounded", length=8, modes=["int8"], calibration=rows)["int8"]
    real = batch["padding_mask"] > 0
    found = TFLiteModel(file.path).predict(rows, workers=1)[real]
    floats, ours = (model(batch).numpy()[real] for model in (float_model, rounded))
    assert decibels(ours, floats) < 20 if family != "mobilebert" else 24
    assert decibels(ours, found) > decibels(floats, found) + 5


@pytest.mark.heavy
def test_ranges_stay_with_their_weights(tmp_path):
    _, rounded, _ = made("bert")
    rounded.tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    save_directory(rounded, tmp_path / "first")
    again = load_directory(tmp_path / "first")
    assert not isinstance(again, QuantizationAware)
    save_directory(again, tmp_path / "again")
    assert (tmp_path / "first" / RANGES).read_bytes() == (tmp_path / "again" / RANGES).read_bytes()
    again.head.bias.assign([1.0, 2.0, 3.0])
    save_directory(again, tmp_path / "trained")
    assert not (tmp_path / "trained" / RANGES).exists()
    (tmp_path / "first" / RANGES).write_bytes(b"no")
    with pytest.raises(UserError, match=RANGES):
        load_directory(tmp_path / "first")


def test_a_bilstm_is_refused():
    with pytest.raises(UserError, match="--quantize int8"):
        QuantizationAware.of(tiny_bilstm())
