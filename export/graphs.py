"""Lean inference graphs of our models for the TFLite converter, built from the tensors of a student directory.

They compute what `tfdistill.models` computes for one row of a fixed length, and nothing else: every dense layer is one
two-dimensional product, the scale of attention lies in the query's weights, padding needs no mask inside the LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

INPUTS = ("token_ids", "padding_mask", "segment_ids")
MASKED_SCORE = -100.0  # as in tfdistill.models.bert; importing that would bring Keras into the converter's process

Tensors = Mapping[str, np.ndarray]
Forward = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
Hold = Callable[[np.ndarray], tf.Variable]

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: tf.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "linear": lambda x: x,
}


def graph(config: Mapping[str, Any], tensors: Tensors, length: int, quantization: str) -> tf.Module:
    """A module whose `forward` takes int32 [1, length] `token_ids`, `padding_mask`, `segment_ids` and gives `logits` [1, C].

    Args:
        config: config.json of a student directory.
        tensors: its model.safetensors, by name.
        quantization: "fp32", "fp16" or "dynamic_int8"; says how the embedding table is stored.
    """
    build = {"bert": _bert, "tfdistill_bilstm": _bilstm}[config["model_type"]]
    module = tf.Module()
    module.held = []

    def hold(value: np.ndarray) -> tf.Variable:
        # Large constants would be copied with each step of the conversion, which takes gigabytes; variables are not.
        module.held.append(tf.Variable(value, trainable=False))
        return module.held[-1]

    forward = build(config, tensors, length, quantization, hold)
    signature = [tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUTS]
    module.forward = tf.function(forward, input_signature=signature, autograph=False)
    return module


# --- parts ----------------------------------------------------------------------------------------------------------


def _embedding(table: np.ndarray, quantization: str, hold: Hold) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from ids (n,) to rows (n, width) float32 of `table` (vocabulary, width).

    The converter would expand an int8 table to float32 as a whole at every inference. Here only the rows in use are, and
    with a scale for each row instead of one for the table. (An fp16 table is expanded once, at the first inference.)
    """
    if quantization != "dynamic_int8":
        held = hold(table)
        return lambda ids: tf.gather(held, ids)
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
    rows = hold(np.round(table / scale).astype("int8"))
    # The scales lie in the file as integers: a float table would be quantized by the converter, and badly.
    unit = float(scale.max()) / 2**24
    scales = hold(np.round(scale / unit).astype("int32"))
    return lambda ids: tf.cast(tf.gather(rows, ids), tf.float32) * (tf.cast(tf.gather(scales, ids), tf.float32) * unit)


def _layer_norm(x: tf.Tensor, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * gamma + beta


# --- BERT -----------------------------------------------------------------------------------------------------------


def _bert(config: Mapping[str, Any], tensors: Tensors, length: int, quantization: str, hold: Hold) -> Forward:
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    head_size = width // heads
    activation = _ACTIVATIONS[config["hidden_act"]]
    word = _embedding(tensors["bert.embeddings.word_embeddings.weight"], quantization, hold)
    positions = hold(tensors["bert.embeddings.position_embeddings.weight"][:length])
    kernels, biases = {}, {}
    for name in (key.removesuffix(".weight") for key, value in tensors.items() if value.ndim == 2):
        if not name.startswith("bert.embeddings."):
            scale = np.float32(head_size**-0.5 if name.endswith(".query") else 1.0)
            # Files hold PyTorch's (out, in).
            kernels[name] = hold(np.ascontiguousarray(tensors[f"{name}.weight"].T) * scale)
            biases[name] = tensors[f"{name}.bias"] * scale

    def dense(x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.matmul(x, kernels[name]) + biases[name]

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        return _layer_norm(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], epsilon)

    def split(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, [length, heads, head_size]), [1, 0, 2])

    def attention(x: tf.Tensor, key_bias: tf.Tensor, name: str) -> tf.Tensor:
        query, key, value = (split(dense(x, f"{name}.{part}")) for part in ("query", "key", "value"))
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + key_bias)
        return tf.reshape(tf.transpose(tf.matmul(weights, value), [1, 0, 2]), [length, width])

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        key_bias = tf.reshape((1.0 - tf.cast(padding_mask, tf.float32)) * MASKED_SCORE, [1, 1, length])
        types = tf.gather(tensors["bert.embeddings.token_type_embeddings.weight"], tf.reshape(segment_ids, [length]))
        x = word(tf.reshape(token_ids, [length])) + positions + types
        x = norm(x, "bert.embeddings.LayerNorm")
        for number in range(config["num_hidden_layers"]):
            name = f"bert.encoder.layer.{number}"
            mixed = dense(attention(x, key_bias, f"{name}.attention.self"), f"{name}.attention.output.dense")
            x = norm(x + mixed, f"{name}.attention.output.LayerNorm")
            inner = activation(dense(x, f"{name}.intermediate.dense"))
            x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        pooled = tf.tanh(dense(x[:1], "bert.pooler.dense"))
        return {"logits": dense(pooled, "classifier")}

    return forward


# --- BiLSTM ---------------------------------------------------------------------------------------------------------


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


def _bilstm(config: Mapping[str, Any], tensors: Tensors, length: int, quantization: str, hold: Hold) -> Forward:
    size, embedding_size, layers = config["lstm_size"], config["embedding_size"], config["num_layers"]
    activation = _ACTIVATIONS[config["dense_act"]]
    word = _embedding(tensors["embedding.weight"], quantization, hold)
    dense, head = hold(tensors["dense.kernel"]), hold(tensors["head.kernel"])
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

    def sentence(ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Last forward and backward states (1, 2 * size) of the first `lengths` (1,) of ids (1, length)."""
        inputs = embed(ids), embed(reverse(ids, lengths))
        for number in range(1, layers + 1):
            ahead, back = run(f"forward_{number}", inputs[0]), run(f"backward_{number}", inputs[1])
            if number < layers:
                both = tf.concat([ahead[:, 1:], reverse(back[:, 1:], lengths)], axis=-1)
                inputs = both, reverse(both, lengths)
        last = tf.maximum(lengths, 1)
        return tf.concat([tf.gather(tf.reshape(side, [1 + length, size]), last) for side in (ahead, back)], axis=-1)

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        if not config["pair"]:
            state = sentence(token_ids, tf.reduce_sum(padding_mask, axis=1))
        else:
            second = segment_ids * padding_mask
            first_length, second_length = tf.reduce_sum(padding_mask - second, axis=1), tf.reduce_sum(second, axis=1)
            positions = tf.minimum(tf.range(length) + first_length, length - 1)
            shifted = tf.gather(token_ids, positions, axis=1)
            u, v = sentence(token_ids, first_length), sentence(shifted, second_length)
            state = tf.concat([u, v, tf.abs(u - v), u * v], axis=-1)
        pooled = activation(tf.matmul(state, dense) + tensors["dense.bias"])
        return {"logits": tf.matmul(pooled, head) + tensors["head.bias"]}

    return forward
