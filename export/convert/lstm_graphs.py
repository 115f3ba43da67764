"""Build the inference graph of the BiLSTM from fused LSTM operators, which handle no padding themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.export.convert.graph_parts import ACTIVATIONS, Encoder, Parts, embedding

Weights = tuple[tf.Variable, tf.Variable, np.ndarray]  # kernel, recurrent kernel, bias

_NEARLY_ONE = 1.0 + 2.0**-23  # the converter removes a product with 1
_GATES = 0, 1, 3  # the input, forget and output gates in Keras's order; number 2 is the cell


def resetting(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add an input to a kernel, and make a first step whose last value closes the input, forget and output gates.

    TFLite's fused LSTM starts with the state of the last inference, unless the app resets its
    variables. So each sequence gets a first step that erases the state. The new weights are no
    larger than the others in their gate, and the value is the only one in its step, so that int8
    weights and activations lose no precision.

    Args:
        kernel: the input weights of a Keras LSTM.
        recurrent: its recurrent weights.
        bias: its bias.

    Returns:
        The new kernel, and the first step (1, inputs).
    """
    row, value = np.zeros((1, kernel.shape[1]), kernel.dtype), 1.0
    for gate in _GATES:
        part = slice(gate * kernel.shape[1] // 4, (gate + 1) * kernel.shape[1] // 4)
        weight = float(np.abs(kernel[:, part]).max()) or 1.0
        row[0, part] = -weight
        # The rest of the gate's sum is bounded, since the state is within [-1, 1]. sigmoid(-30) is 1e-13.
        rest = float((np.abs(recurrent[:, part]).sum(axis=0) + np.abs(bias[part])).max())
        value = max(value, 1.1 * (30.0 + rest) / weight)
    first = np.zeros((1, len(kernel) + 1), "float32")
    first[:, -1] = value
    return np.concatenate([kernel, row]), first


def static_resetting(kernel: np.ndarray, bias: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Add inputs to a kernel, and make three first steps that close the gates, for static quantization.

    The first steps share one scale with the embeddings, whose largest magnitude is `peak`: with a
    single large value only a few of the 256 steps would be left for the embeddings. So many inputs
    of twice the peak add up to the sum that closes the gates. Gates have 15 fractional bits, in
    which sigmoid(-11) is 0. The previous state still contributes to the sums of the first step, and
    has vanished after the last.

    Returns:
        The new kernel, and the first steps (3, inputs).
    """
    rows, values = np.zeros((1, kernel.shape[1]), kernel.dtype), 2.0 * peak
    count = 1
    for gate in _GATES:
        part = slice(gate * kernel.shape[1] // 4, (gate + 1) * kernel.shape[1] // 4)
        weight = float(np.abs(kernel[:, part]).max()) or 1.0
        rows[0, part] = -weight
        count = max(count, math.ceil((16.0 + float(bias[part].max())) / (weight * values)))
    firsts = np.zeros((3, len(kernel) + count), "float32")
    firsts[:, len(kernel) :] = values
    return np.concatenate([kernel, *[rows] * count]), firsts


def _lstm(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable, bias: np.ndarray, name: str) -> tf.Tensor:
    """Compute the states (1, length, size) of an LSTM over x (1, length, width) with one fused operator.

    The converter fuses a function that has the attributes of tf_keras's LSTM, its arguments
    (inputs, state, cell, kernel, recurrent kernel, bias) and its results (last state, states,
    state, cell, runtime). A Keras 3 LSTM becomes a WHILE loop.
    """
    size = recurrent.shape[0]

    def layer(x: Any, state: Any, cell: Any, kernel: Any, recurrent: Any, bias: Any) -> tuple[Any, ...]:
        def step(before: tuple[Any, Any], now: Any) -> tuple[Any, Any]:
            gates = tf.split(tf.matmul(now, kernel) + tf.matmul(before[0], recurrent) + bias, 4, axis=1)
            cell = tf.sigmoid(gates[1]) * before[1] + tf.sigmoid(gates[0]) * tf.tanh(gates[2])
            return tf.sigmoid(gates[3]) * tf.tanh(cell), cell

        states, cells = tf.scan(step, tf.transpose(x, [1, 0, 2]), (state, cell))
        return states[-1], tf.transpose(states, [1, 0, 2]), states[-1], cells[-1], tf.constant(0.0)

    marks = {
        "api_implements": f"lstm_{name}",
        "api_preferred_device": "CPU",
        "time_major": False,
        "go_backwards": False,
    }
    function = tf.function(layer, autograph=False, experimental_attributes=marks)
    zeros = tf.zeros([1, size])
    return function(x, zeros, zeros, kernel.read_value(), recurrent.read_value(), tf.constant(bias))[1]


def _weights(config: Mapping[str, Any], parts: Parts, static: bool) -> tuple[dict[str, Weights], dict[str, np.ndarray]]:
    """Return the weights of each LSTM by name, with inputs for its first steps, and these steps."""
    tensors, hold = parts.tensors, parts.hold
    table_peak = float(np.abs(tensors["embedding.weight"]).max()) or 1.0
    weights, firsts = {}, {}
    for side in ("forward", "backward"):
        for n in range(1, config["num_layers"] + 1):
            name = f"{side}_{n}"
            kernel, recurrent, bias = (tensors[f"{name}.{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
            if static:
                kernel, firsts[name] = static_resetting(kernel, bias, table_peak if n == 1 else 1.0)
            else:
                kernel, firsts[name] = resetting(kernel, recurrent, bias)
            weights[name] = hold(kernel), hold(recurrent), bias
    return weights, firsts


def bilstm(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return `tfdistill.models.bilstm.BiLSTMEncoder`: its pooled output (1, width), or states (length, 2 * lstm_size)."""
    size, embedding_size, layers = config["lstm_size"], config["embedding_size"], config["num_layers"]
    tensors, static = parts.tensors, parts.peaks is not None
    # Static quantization has one scale for the whole table anyway, so the converter may quantize it.
    word = embedding(tensors["embedding.weight"], "float", parts.hold) if static else parts.embedding("embedding")
    dense = parts.hold(tensors["dense.kernel"]) if pooled and config["dense_size"] else None
    activation = ACTIVATIONS[config["dense_act"]]
    weights, firsts = _weights(config, parts, static)
    before = len(firsts["forward_1"])  # steps

    def run(name: str, x: tf.Tensor) -> tf.Tensor:
        """Return states (1, before + length, size) over x (1, length, width); the first belong to the reset."""
        first = firsts[name]
        wide = tf.pad(x, [[0, 0], [0, 0], [0, first.shape[1] - x.shape[2]]])
        states = _lstm(tf.concat([first[None], wide], axis=1), *weights[name], name)
        # A fused LSTM reads its states back with the scale that calibration gave them, so its outputs need the same scale. A
        # concatenation would force the scale of its other inputs on them, unless an operator comes between.
        return states * _NEARLY_ONE if static else states

    def reverse(x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Reverse the first `lengths` (1,) of ids (1, length), or of states (1, length, size)."""
        if x.dtype == tf.int32:
            return tf.reverse_sequence(x, lengths, seq_axis=1, batch_axis=0)
        # REVERSE_SEQUENCE does not support int8.
        places = tf.range(length)
        return tf.gather(x, tf.where(places < lengths[0], lengths[0] - 1 - places, places), axis=1)

    def embed(ids: tf.Tensor) -> tf.Tensor:
        return tf.reshape(word(tf.reshape(ids, [length])), [1, length, embedding_size])

    def states(ids: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return forward and backward states (1, before + length, size) of the first `lengths` (1,) of ids (1, length)."""
        inputs = embed(ids), embed(reverse(ids, lengths))
        for number in range(1, layers + 1):
            ahead, back = run(f"forward_{number}", inputs[0]), run(f"backward_{number}", inputs[1])
            if number < layers:
                both = tf.concat([ahead[:, before:], reverse(back[:, before:], lengths)], axis=-1)
                inputs = both, reverse(both, lengths)
        return ahead, back

    def pool(ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Pool the first `lengths` (1,) of ids (1, length), at least one, to (1, 2 * size)."""
        sides, last = states(ids, lengths), tf.maximum(lengths, 1)
        if config["pooling"] == "last":
            flat = [tf.reshape(side, [before + length, size]) for side in sides]
            return tf.concat([tf.gather(side, last + (before - 1)) for side in flat], axis=-1)
        real = tf.reshape(tf.cast(tf.range(length) < last, tf.float32), [1, length, 1])
        both = tf.concat([side[:, before:] for side in sides], axis=-1)
        # Padded positions become -2, which is below every state.
        return tf.reduce_max(both * real + (real - 1.0) * 2.0, axis=1)

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        lengths = tf.reduce_sum(padding_mask, axis=1)
        if not pooled:
            ahead, back = states(token_ids, lengths)
            both = tf.concat([ahead[:, before:], reverse(back[:, before:], lengths)], axis=-1)
            return tf.reshape(both, [length, 2 * size])
        if not config["pair"]:
            state = pool(token_ids, lengths)
        else:
            second = segment_ids * padding_mask
            first_length, second_length = tf.reduce_sum(padding_mask - second, axis=1), tf.reduce_sum(second, axis=1)
            positions = tf.minimum(tf.range(length) + first_length, length - 1)
            shifted = tf.gather(token_ids, positions, axis=1)
            u, v = pool(token_ids, first_length), pool(shifted, second_length)
            state = tf.concat([u, v, tf.abs(u - v), u * v], axis=-1)
        return state if dense is None else activation(tf.matmul(state, dense) + tensors["dense.bias"])

    return forward
