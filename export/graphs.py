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
    forward = build(config, tensors, length, quantization)
    signature = [tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUTS]
    module = tf.Module()
    module.forward = tf.function(forward, input_signature=signature, autograph=False)
    return module


# --- parts ----------------------------------------------------------------------------------------------------------


def _lookup(table: np.ndarray, ids: tf.Tensor, quantization: str) -> tf.Tensor:
    """Rows (n, width) float32 of `table` (vocabulary, width) for ids (n,).

    The converter would expand an int8 table to float32 as a whole at every inference. Here only the rows in use are, and
    with a scale for each row instead of one for the table. (An fp16 table is expanded once, at the first inference.)
    """
    if quantization != "dynamic_int8":
        return tf.gather(tf.constant(table), ids)
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
    rows = tf.gather(tf.constant(np.round(table / scale).astype("int8")), ids)
    # The scales lie in the file as integers: a float table would be quantized by the converter, and badly.
    unit = float(scale.max()) / 2**24
    scales = tf.gather(tf.constant(np.round(scale / unit).astype("int32")), ids)
    return tf.cast(rows, tf.float32) * (tf.cast(scales, tf.float32) * unit)


def _dense(x: tf.Tensor, kernel: np.ndarray, bias: np.ndarray) -> tf.Tensor:
    return tf.matmul(x, tf.constant(np.ascontiguousarray(kernel))) + tf.constant(bias)


def _layer_norm(x: tf.Tensor, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * tf.constant(gamma) + tf.constant(beta)


# --- BERT -----------------------------------------------------------------------------------------------------------


def _bert(config: Mapping[str, Any], tensors: Tensors, length: int, quantization: str) -> Forward:
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    head_size = width // heads
    activation = _ACTIVATIONS[config["hidden_act"]]

    def dense(x: tf.Tensor, name: str, scale: float = 1.0) -> tf.Tensor:
        # Files hold PyTorch's (out, in).
        return _dense(x, tensors[f"{name}.weight"].T * np.float32(scale), tensors[f"{name}.bias"] * np.float32(scale))

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        return _layer_norm(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], epsilon)

    def split(x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, [length, heads, head_size]), [1, 0, 2])

    def attention(x: tf.Tensor, key_bias: tf.Tensor, name: str) -> tf.Tensor:
        query = split(dense(x, f"{name}.query", scale=head_size**-0.5))
        key, value = split(dense(x, f"{name}.key")), split(dense(x, f"{name}.value"))
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + key_bias)
        return tf.reshape(tf.transpose(tf.matmul(weights, value), [1, 0, 2]), [length, width])

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        key_bias = tf.reshape((1.0 - tf.cast(padding_mask, tf.float32)) * MASKED_SCORE, [1, 1, length])
        name = "bert.embeddings"
        words = _lookup(tensors[f"{name}.word_embeddings.weight"], tf.reshape(token_ids, [length]), quantization)
        types = tf.gather(tensors[f"{name}.token_type_embeddings.weight"], tf.reshape(segment_ids, [length]))
        x = words + tensors[f"{name}.position_embeddings.weight"][:length] + types
        x = norm(x, f"{name}.LayerNorm")
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


def _lstm(x: tf.Tensor, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, name: str) -> tf.Tensor:
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

    marks = {"api_implements": f"lstm_{name}", "api_preferred_device": "CPU", "time_major": False, "go_backwards": False}
    function = tf.function(layer, autograph=False, experimental_attributes=marks)
    zeros = tf.zeros([1, size])
    return function(x, zeros, zeros, tf.constant(kernel), tf.constant(recurrent), tf.constant(bias))[1]


def _bilstm(config: Mapping[str, Any], tensors: Tensors, length: int, quantization: str) -> Forward:
    size, embedding_size, layers = config["lstm_size"], config["embedding_size"], config["num_layers"]
    activation = _ACTIVATIONS[config["dense_act"]]

    def run(name: str, x: tf.Tensor) -> tf.Tensor:
        """States (1, 1 + length, size) over x (1, length, width); the first is that of the reset."""
        kernel, recurrent, bias = (tensors[f"{name}.{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
        kernel, reset = _resetting(kernel, recurrent, bias)
        first = np.zeros((1, 1, kernel.shape[0]), "float32")
        first[..., -1] = reset
        return _lstm(tf.concat([first, tf.pad(x, [[0, 0], [0, 0], [0, 1]])], axis=1), kernel, recurrent, bias, name)

    def reverse(x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return tf.reverse_sequence(x, lengths, seq_axis=1, batch_axis=0)

    def embed(ids: tf.Tensor) -> tf.Tensor:
        rows = _lookup(tensors["embedding.weight"], tf.reshape(ids, [length]), quantization)
        return tf.reshape(rows, [1, length, embedding_size])

    def sentence(ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Last forward and backward states (1, 2 * size) of the first `lengths` (1,) of ids (1, length)."""
        inputs = embed(ids), embed(reverse(ids, lengths))
        for number in range(1, layers + 1):
            if number > 1:
                both = tf.concat([ahead[:, 1:], reverse(back[:, 1:], lengths)], axis=-1)
                inputs = both, reverse(both, lengths)
            ahead, back = run(f"forward_{number}", inputs[0]), run(f"backward_{number}", inputs[1])
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
        pooled = activation(_dense(state, tensors["dense.kernel"], tensors["dense.bias"]))
        return {"logits": _dense(pooled, tensors["head.kernel"], tensors["head.bias"])}

    return forward
