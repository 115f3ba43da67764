"""Turn a student directory's tensors into functions, the parts of inference graphs for the TFLite converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Tensors = Mapping[str, np.ndarray]
Hold = Callable[[np.ndarray], Any]
Function = Callable[[tf.Tensor], tf.Tensor]
# Maps (token_ids, padding_mask, segment_ids), each (1, length), to the head's input: (1, width), or (length, width).
Encoder = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

# The least peak of a channel, as a share of the largest: values that calibration has not seen must fit, too.
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
    """Make functions from tensors.

    Args:
        tensors: tensors by name, with dense kernels (out, in) as in PyTorch.
        table: how word-piece embeddings are stored: "float", or "int8" with a scale for each row.
        hold: makes a variable. The converter copies large constants in each of its steps, but not
            variables.
        peaks: for static quantization, by layer, the largest magnitude of each channel (out,) that
            dense layers add to a residual sum; otherwise None.
        watch: called with the name of each of these layers and the values that it adds, (n, out).
        reorders: whether products may be computed in a cheaper order than the model's. Ranges
            learned in training are only valid for the model's order.
        fuses: whether layers that read the same rows become one product; see `dense_together`.
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
        self.factors: dict[str, float] = {}  # the scale of each dense layer that was scaled as a whole

    def embedding(self, name: str) -> Function:
        """Return the embedding of ids (n,): rows (n, width)."""
        return embedding(self.tensors[f"{name}.weight"], self.table, self.hold)

    def dense(self, name: str, scale: float | np.ndarray = 1.0) -> Function:
        """Return a dense layer, x (n, in) to (n, out), multiplied by `scale`, a number or (out,).

        Its bias is optional. Learned ranges find the tensors of the file by the layer's name.
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
        """Return several dense layers as one: x (n, in) to their concatenated outputs, each times its scale."""
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
        """Return a residual sum: (rest (n, out), x (n, in)) to rest + dense(x).

        Trained transformers have channels here that are fifty times larger than the others, while
        int8 has one scale for all channels. So if their peaks are known, the product computes each
        channel as a share s of its peak, and the sum multiplies by s: rest + s∘y = s∘(rest / s +
        y). (The converter would fuse a product that is itself multiplied by s.)
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
        """Return layer normalization over the last axis."""
        gamma, beta = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

        def norm(x: tf.Tensor) -> tf.Tensor:
            centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
            variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
            return centred * tf.math.rsqrt(variance + epsilon) * gamma + beta

        return norm

    def no_norm(self, name: str) -> Function:
        """Return MobileBERT's γ∘x + β."""
        gamma, beta = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        if self.reorders:
            return lambda x: x * gamma + beta
        # The converter would move γ and β into the dense layers that read the sum; a maximum prevents that.
        return lambda x: tf.maximum(x * gamma + beta, np.finfo("float32").min)


def embedding(values: np.ndarray, table: str, hold: Hold) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from ids (n,) to float32 rows (n, width) of `values` (vocabulary, width).

    The converter's own int8 table is expanded to float32 as a whole at every inference. Here only
    the rows in use are expanded, and each row has its own scale. (An fp16 table is expanded once,
    at the first inference.)
    """
    if table == "float":
        held = hold(values)
        return lambda ids: tf.gather(held, ids)
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    rows = hold(np.round(values / scale).astype("int8"))
    # The scales are stored as integers: the converter would quantize a float table, and badly.
    unit = float(scale.max()) / 2**24
    scales = hold(np.round(scale / unit).astype("int32"))
    return lambda ids: tf.cast(tf.gather(rows, ids), tf.float32) * (tf.cast(tf.gather(scales, ids), tf.float32) * unit)
