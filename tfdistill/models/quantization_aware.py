"""Train models with the rounding of static int8 (Jacob et al. 2018, section 3).

The forward pass rounds what a static int8 file of `tfdistill.export` rounds: kernels of dense
layers with a scale for each output, inputs and outputs of dense layers, attention scores and
weights. The gradient of rounding is 1. Activation ranges start from calibration data and are
learned on a log scale (Jain et al. 2020, "Trained Quantization Thresholds"). The word table keeps
its float values, of which int8 with a scale for each row loses next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.models.bert import BertLayer
from tfdistill.models.hf_names import Named, encoder_names, head_names, pooler_names
from tfdistill.models.layers import Linear, gelu
from tfdistill.models.mobilebert import MobileBertLayer
from tfdistill.models.presets import with_dropout
from tfdistill.models.tasks import NOT_TRANSFORMERS
from tfdistill.models.text_model import TextModel

# Dense layers whose outputs join a residual sum. Each of their channels is quantized as a share of its peak, as in export.
RESIDUAL = ("attention_output", "output_dense")
LEAST_SHARE = 1 / 64
# Scores further than this below the largest have no weight in softmax; below -5 gelu is 0 (as in export.convert.calibration).
_DEPTH, _GELU_LEAST = 12.0, -5.0
# Optimizers move every weight by about the learning rate; a range moves by a hundred times that, relative to its size.
_GAIN = 100.0


class Range(keras.layers.Layer):
    """Round to 256 steps between two bounds: `seen` (2,) from calibration, times exp(100·`moved`) (2,).

    Args:
        by_channel: whether calibration watches each channel of the last axis separately.
    """

    def __init__(self, by_channel: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.by_channel = by_channel
        self.watched: list[tuple[Any, Any]] | None = None  # (minimum, maximum) of each batch during calibration

    def build(self, *_: Any) -> None:
        self.seen = self.add_weight(shape=(2,), initializer="zeros", trainable=False, dtype="float32", name="seen")
        self.moved = self.add_weight(shape=(2,), initializer="zeros", dtype="float32", name="moved")

    def bounds(self, features: int = 1) -> Any:
        """Return the bounds (2,). The gradient of `moved` is divided by √(255·features), as in LSQ (Esser et al. 2020)."""
        share = (255.0 * features) ** -0.5
        moved = tf.convert_to_tensor(self.moved)
        moved = tf.stop_gradient(moved * (1.0 - share)) + moved * share
        return tf.convert_to_tensor(self.seen) * tf.exp(_GAIN * moved)

    def call(self, inputs: Any) -> Any:
        if self.watched is not None:
            axes = list(range(len(inputs.shape) - 1)) if self.by_channel else None
            self.watched.append((tf.reduce_min(inputs, axis=axes).numpy(), tf.reduce_max(inputs, axis=axes).numpy()))
            return inputs
        bounds = self.bounds(inputs.shape[-1] or 1)
        rounded = tf.quantization.fake_quant_with_min_max_vars(tf.cast(inputs, "float32"), bounds[0], bounds[1])
        return tf.cast(rounded, inputs.dtype)

    def extremes(self) -> tuple[Any, Any]:
        """End calibration and return the smallest and the largest value it has seen."""
        assert self.watched, "there were no calibration data"
        lows, highs = zip(*self.watched, strict=True)
        self.watched = None
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def start_from(self, least: Any, largest: Any) -> None:
        """Set the range to `least`..`largest`, extended to include 0."""
        self.seen.assign([min(0.0, float(np.min(least))), max(0.0, float(np.max(largest)))])
        self.moved.assign([0.0, 0.0])


class DenseQuantizer(keras.layers.Layer):
    """Compute a `Linear` with rounded inputs, kernel and result.

    Args:
        residual: whether the result is added to a residual; its channels then have separate shares.
        rounds_result: False if the file has no such tensor.
    """

    def __init__(self, residual: bool = False, rounds_result: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.residual, self.reads = residual, Range(name="reads")
        self.gives = Range(by_channel=residual, name="gives") if rounds_result else None

    def build(self, inputs_shape: Any, kernel_shape: Any, bias_shape: Any) -> None:
        if self.residual:
            self.share = self.add_weight(
                shape=(kernel_shape[-1],), initializer="ones", trainable=False, dtype="float32", name="share"
            )

    def call(self, inputs: Any, kernel: Any, bias: Any, *, activation: Any) -> Any:
        product = tf.nn.bias_add(tf.matmul(self.reads(inputs), round_kernel(kernel)), bias)
        if self.gives is None:
            return activation(product)
        if activation is keras.activations.relu:  # one operator in the file
            return self.gives(activation(product))
        if activation is gelu and self.gives.watched is not None:
            self.gives(tf.maximum(product, tf.minimum(_GELU_LEAST, tf.reduce_max(product))))
            return activation(product)
        if self.residual:
            share = tf.cast(self.share, product.dtype)
            return activation(self.gives(product / share) * share)
        return activation(self.gives(product))

    def calibrate(self) -> None:
        self.reads.start_from(*self.reads.extremes())
        if self.gives is None:
            return
        least, largest = self.gives.extremes()
        if self.residual:
            peak = np.maximum(np.abs(least), np.abs(largest))
            share = np.maximum(peak / (peak.max() or 1.0), LEAST_SHARE)
            self.share.assign(share)
            least, largest = least / share, largest / share
        self.gives.start_from(least, largest)


class AttentionQuantizer(keras.layers.Layer):
    """Compute rounded attention weights of rounded scores, in `attend`."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.scores, self.masked = Range(name="scores"), Range(name="masked")

    def build(self, scores_shape: Any, key_bias_shape: Any) -> None: ...

    def call(self, scores: Any, key_bias: Any) -> Any:
        """Return weights (B, heads, M, L) of scores (B, heads, M, L) before the mask, and the mask's bias."""
        masked = self.scores(scores) + tf.cast(key_bias, scores.dtype)
        if self.masked.watched is not None:
            least = tf.reduce_min(tf.reduce_max(masked, axis=-1)) - _DEPTH
            self.masked(tf.maximum(masked, least))
            return tf.nn.softmax(masked)
        weights = tf.nn.softmax(self.masked(masked))
        return _straight(weights, tf.round(weights * 256.0) / 256.0)

    def calibrate(self) -> None:
        for each in (self.scores, self.masked):
            each.start_from(*each.extremes())


@keras.saving.register_keras_serializable(package="tfdistill")
class QuantizationAware(TextModel):
    """Make a transformer `TextModel` that rounds as its static int8 file will. Call `calibrate` first.

    Raises:
        UserError: a BiLSTM, whose fused operator has other ranges, or a static encoder.
    """

    def build(self, shape: Any) -> None:
        if self.family in NOT_TRANSFORMERS:
            raise UserError(
                f"A {self.family} model has no quantization-aware training. Export it with `--quantize int8`."
            )
        merged = [layer for block in self.encoder.blocks for layer in _before_no_norm(block)]
        for layer in list(self._flatten_layers()):
            if isinstance(layer, Linear):
                free = any(layer is each for each in merged)
                layer.quantizer = DenseQuantizer(layer.name in RESIDUAL, not free, name="quantizer")
            elif isinstance(layer, (BertLayer, MobileBertLayer)):
                layer.attention_quantizer = AttentionQuantizer(name="quantizer")
        super().build(shape)

    @classmethod
    def of(cls, model: TextModel) -> QuantizationAware:
        """Return a copy of a model that rounds, without dropout."""
        model.require_layers()
        rounding = cls(with_dropout(model.config, 0.0), model.num_outputs, model.task, model.label_names)
        for (_, own, _), (_, source, _) in zip(_named(rounding), _named(model), strict=True):
            own.assign(source)
        rounding.tokenizer = model.tokenizer
        return rounding

    @property
    def quantizers(self) -> list[Any]:
        return [each for each in self._flatten_layers() if isinstance(each, (DenseQuantizer, AttentionQuantizer))]

    def calibrate(self, batches: Iterable[Mapping[str, Any]]) -> None:
        """Set all ranges to those of calibration data, with rounded kernels and float activations.

        Args:
            batches: inputs of the model, int32 (B, L) each.
        """
        ranges = [each for each in self._flatten_layers() if isinstance(each, Range)]
        for each in ranges:
            each.watched = []
        for batch in batches:
            self(batch, training=False)
        for quantizer in self.quantizers:
            quantizer.calibrate()

    @property
    def activation_ranges(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """The learned ranges by name, for quantization.safetensors.

        For a dense layer, by the name of its tensors: NAME.reads (2,), NAME.gives (2,) if its result is
        rounded, NAME.share (out,) if it is added to a residual. For attention, by the name of its query:
        NAME.scores (2,) and NAME.masked (2,).
        """
        names = {id(variable): name.removesuffix(".weight") for name, variable, _ in _named(self)}
        ranges: dict[str, Any] = {}
        for layer in self._flatten_layers():
            if isinstance(layer, Linear):
                name, quantizer = names[id(layer.kernel)], layer.quantizer
                ranges[f"{name}.reads"] = quantizer.reads.bounds()
                ranges |= {f"{name}.gives": quantizer.gives.bounds()} if quantizer.gives is not None else {}
                ranges |= {f"{name}.share": quantizer.share} if quantizer.residual else {}
            elif isinstance(layer, (BertLayer, MobileBertLayer)):
                name, attention = names[id(layer.query.kernel)], layer.attention_quantizer
                ranges |= {f"{name}.scores": attention.scores.bounds(), f"{name}.masked": attention.masked.bounds()}
        return {name: np.asarray(value, "float32") for name, value in ranges.items()}


def _before_no_norm(block: Any) -> list[Linear]:
    """Return the dense layers that the converter merges with the NoNorm after them: the file has no tensor between."""
    if not isinstance(block, MobileBertLayer) or block.config.normalization_type != "no_norm":
        return []
    return [each.dense for each in (block.input_bottleneck, block.attention_bottleneck) if each is not None]


def _named(model: TextModel) -> Named:
    return chain(encoder_names(model), pooler_names(model), head_names(model))


def round_kernel(kernel: Any) -> Any:
    """Round a kernel (in, out) to 255 symmetric steps, with a scale for each output."""
    scale = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=0, keepdims=True), 1e-12) / 127.0
    return _straight(kernel, tf.round(kernel / scale) * scale)


def _straight(value: Any, rounded: Any) -> Any:
    """Return `rounded` with the gradient of `value` (the straight-through estimator)."""
    return value + tf.stop_gradient(rounded - value)
