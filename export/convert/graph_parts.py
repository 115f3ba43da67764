"""What inference graphs are made of: a student directory's tensors as functions for the TFLite converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Tensors = Mapping[str, np.ndarray]
Hold = Callable[[np.ndarray], Any]
Function = Callable[[tf.Tensor], tf.Tensor]
# (token_ids, padding_mask, segment_ids), each (1, length), to what the head reads: (1, width), or (length, width).
Encoder = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

# Of the largest channel's peak, that a smaller one is taken for: what calibration has not seen must have a place, too.
LEAST_SHARE = 1 / 64

ACTIVATIONS: dict[str, Function] = {
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: tf.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "linear": lambda x: x,
}


class Parts:
    """Functions made of tensors.

    Args:
        tensors: by name, dense kernels as PyTorch's (out, in).
        table: how word pieces are held, "float" or "int8" with a scale for each row.
        hold: makes a variable. Large constants would be copied with each step of the conversion; variables are not.
        peaks: for static quantization, the largest magnitude of each channel (out,) of what dense layers add to a residual
            sum, by layer; otherwise None.
        watch: called with each such layer's name and what it adds, (n, out).
        reorders: whether products may be taken in another order than in the model, where that is less work. Ranges that
            were learned hold for the model's order.
        fuses: whether layers that read the same rows become one product, as `dense_together`.
    """

    def __init__(
        self,
        tensors: Tensors,
        table: str,
        hold: Hold,
        peaks: Mapping[str, np.ndarray] | None = None,
        watch: Callable[[str, tf.Tensor], None] | None = None,
        reorders: bool = True,
        fuses: bool = False,
    ):
        self.reorders, self.fuses = reorders, fuses
        self.tensors, self.table, self.hold, self.peaks, self.watch = tensors, table, hold, peaks, watch
        self.factors: dict[str, float] = {}  # by which dense layers were scaled, as a whole

    def embedding(self, name: str) -> Function:
        """ids (n,) to rows (n, width)."""
        return embedding(self.tensors[f"{name}.weight"], self.table, self.hold)

    def dense(self, name: str, scale: float | np.ndarray = 1.0) -> Function:
        """x (n, in) to (n, out), times `scale`, one or (out,). A dense layer without a bias in the tensors has none.

        The file's tensors are named after the layer, by which learned ranges find them.
        """
        kernel = self.hold(np.ascontiguousarray(self.tensors[f"{name}.weight"].T) * np.asarray(scale, "float32"))
        if np.ndim(scale) == 0:
            self.factors[name] = float(scale)
        bias = self.tensors[f"{name}.bias"] * np.asarray(scale, "float32") if f"{name}.bias" in self.tensors else None

        def dense(x: tf.Tensor) -> tf.Tensor:
            with tf.name_scope(name):
                return tf.matmul(x, kernel) if bias is None else tf.matmul(x, kernel) + bias

        return dense

    def dense_together(self, names: Sequence[str], scales: Sequence[float]) -> Function:
        """x (n, in) to (n, sum of out): what the layers of these names give, side by side, each times its scale."""
        kernels = [
            self.tensors[f"{name}.weight"].T * np.float32(scale) for name, scale in zip(names, scales, strict=True)
        ]
        biases = [self.tensors[f"{name}.bias"] * np.float32(scale) for name, scale in zip(names, scales, strict=True)]
        kernel, bias = self.hold(np.concatenate(kernels, axis=1)), np.concatenate(biases)

        def dense(x: tf.Tensor) -> tf.Tensor:
            with tf.name_scope(f"{names[0]}.together"):
                return tf.matmul(x, kernel) + bias

        return dense

    def add_dense(self, name: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """(rest (n, out), x (n, in)) to their residual sum, rest + dense(x).

        Trained transformers have channels whose values here are fifty times those of the others, and int8 has one scale for
        all channels. So where static quantization knows their peaks, the product gives each channel as a share of its peak,
        and the sum takes that back: rest + s∘y = s∘(rest / s + y). (A product that is multiplied by s itself would be fused
        with it by the converter.)
        """
        if self.peaks is None:
            dense, watch = self.dense(name), self.watch

            def add(rest: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
                y = dense(x)
                if watch is not None:
                    watch(name, y)
                return rest + y

            return add
        peak = self.peaks[name]
        share = np.maximum(peak / (peak.max() or 1.0), LEAST_SHARE).astype("float32")
        dense = self.dense(name, 1.0 / share)
        return lambda rest, x: (rest * (1.0 / share) + dense(x)) * share

    def layer_norm(self, name: str, epsilon: float) -> Function:
        """Over the last axis."""
        gamma, beta = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

        def norm(x: tf.Tensor) -> tf.Tensor:
            centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
            variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
            return centred * tf.math.rsqrt(variance + epsilon) * gamma + beta

        return norm

    def no_norm(self, name: str) -> Function:
        """MobileBERT's γ∘x + β."""
        gamma, beta = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        if self.reorders:
            return lambda x: x * gamma + beta
        # The converter would move γ and β into the dense layers that read the sum; it does not look behind a maximum.
        return lambda x: tf.maximum(x * gamma + beta, np.finfo("float32").min)


def embedding(values: np.ndarray, table: str, hold: Hold) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from ids (n,) to rows (n, width) float32 of `values` (vocabulary, width).

    The converter would expand an int8 table to float32 as a whole at every inference. Here only the rows in use are, and
    with a scale for each row instead of one for the table. (An fp16 table is expanded once, at the first inference.)
    """
    if table == "float":
        held = hold(values)
        return lambda ids: tf.gather(held, ids)
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    rows = hold(np.round(values / scale).astype("int8"))
    # The scales lie in the file as integers: a float table would be quantized by the converter, and badly.
    unit = float(scale.max()) / 2**24
    scales = hold(np.round(scale / unit).astype("int32"))
    return lambda ids: tf.cast(tf.gather(rows, ids), tf.float32) * (tf.cast(tf.gather(scales, ids), tf.float32) * unit)
