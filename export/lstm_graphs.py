"""The inference graph of the BiLSTM, with fused LSTM operators and padding handled outside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.export.parts import ACTIVATIONS, Encoder, Parts


def _resetting(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, float]:
    """A kernel with one input more, and the value of that input which closes the input, forget and output gates.

    TFLite's fused LSTM begins where the last inference ended, unless the app resets its variables. So each sequence gets a
    first step with this value, which wipes the state. The new weights are no larger than those beside them and the value is
    alone in its step, so that neither suffers from int8. Gates are in Keras's order: input, forget, cell, output.
    """
    row, value = np.zeros((1, kernel.shape[1]), kernel.dtype), 1.0
    for gate in (0, 1, 3):
        part = slice(gate * kernel.shape[1] // 4, (gate + 1) * kernel.shape[1] // 4)
        weight = float(np.abs(kernel[:, part]).max()) or 1.0
        row[0, part] = -weight
        # The rest of the gate's sum is bounded, since the state lies within [-1, 1]. sigmoid(-30) is 1e-13.
        rest = float((np.abs(recurrent[:, part]).sum(axis=0) + np.abs(bias[part])).max())
        value = max(value, 1.1 * (30.0 + rest) / weight)
    return np.concatenate([kernel, row]), value


def _lstm(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable, bias: np.ndarray, name: str) -> tf.Tensor:
    """States (1, length, size) of an LSTM over x (1, length, width), as one fused operator.

    The converter fuses a function that is marked as tf_keras's LSTM is and has its arguments (inputs, state, cell, kernel,
    recurrent kernel, bias) and results (last state, states, state, cell, runtime). A Keras 3 LSTM becomes a WHILE loop.
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


def bilstm(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """`tfdistill.models.bilstm.BiLSTMEncoder`: its pooled output (1, width), or the states (length, 2 * lstm_size)."""
    size, embedding_size, layers = config["lstm_size"], config["embedding_size"], config["num_layers"]
    tensors, hold = parts.tensors, parts.hold
    word = parts.embedding("embedding")
    dense = hold(tensors["dense.kernel"]) if pooled and config["dense_size"] else None
    activation = ACTIVATIONS[config["dense_act"]]
    weights, firsts = {}, {}
    for name in (f"{side}_{n}" for side in ("forward", "backward") for n in range(1, layers + 1)):
        kernel, recurrent, bias = (tensors[f"{name}.{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
        kernel, reset = _resetting(kernel, recurrent, bias)
        weights[name] = hold(kernel), hold(recurrent), bias
        firsts[name] = np.zeros((1, 1, kernel.shape[0]), "float32")
        firsts[name][..., -1] = reset

    def run(name: str, x: tf.Tensor) -> tf.Tensor:
        """States (1, 1 + length, size) over x (1, length, width); the first is that of the reset."""
        return _lstm(tf.concat([firsts[name], tf.pad(x, [[0, 0], [0, 0], [0, 1]])], axis=1), *weights[name], name)

    def reverse(x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return tf.reverse_sequence(x, lengths, seq_axis=1, batch_axis=0)

    def embed(ids: tf.Tensor) -> tf.Tensor:
        return tf.reshape(word(tf.reshape(ids, [length])), [1, length, embedding_size])

    def states(ids: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Forward and backward states, each (1, 1 + length, size), of the first `lengths` (1,) of ids (1, length)."""
        inputs = embed(ids), embed(reverse(ids, lengths))
        for number in range(1, layers + 1):
            ahead, back = run(f"forward_{number}", inputs[0]), run(f"backward_{number}", inputs[1])
            if number < layers:
                both = tf.concat([ahead[:, 1:], reverse(back[:, 1:], lengths)], axis=-1)
                inputs = both, reverse(both, lengths)
        return ahead, back

    def pool(ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """(1, 2 * size) of the first `lengths` (1,) of ids (1, length), at least one."""
        sides, last = states(ids, lengths), tf.maximum(lengths, 1)
        if config["pooling"] == "last":
            return tf.concat([tf.gather(tf.reshape(side, [1 + length, size]), last) for side in sides], axis=-1)
        real = tf.reshape(tf.cast(tf.range(length) < last, tf.float32), [1, length, 1])
        both = tf.concat([side[:, 1:] for side in sides], axis=-1)
        # -2 at padded positions, which is below every state.
        return tf.reduce_max(both * real + (real - 1.0) * 2.0, axis=1)

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        lengths = tf.reduce_sum(padding_mask, axis=1)
        if not pooled:
            ahead, back = states(token_ids, lengths)
            both = tf.concat([ahead[:, 1:], reverse(back[:, 1:], lengths)], axis=-1)
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
