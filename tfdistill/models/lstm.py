"""An LSTM with the weights and numbers of Keras' LSTM, in fewer operations."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class LSTM(keras.layers.LSTM):
    """Compute states from an initial state of zeros, without a mask: `BiLSTMEncoder` handles padding.

    The products with the input, and the gradient of the recurrent weights, are one matrix product
    each for all positions. The gradient of a step is written out, so that the loop contains only
    what depends on the previous step.
    """

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Return states (B, L, H) of sequences (B, L, D)."""
        cell = self.cell
        kernel, recurrent, bias = (
            tf.convert_to_tensor(weight) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)
        )
        steps = tf.transpose(sequences, [1, 0, 2])
        shape = tf.shape(steps)
        flat = tf.nn.bias_add(tf.matmul(tf.reshape(steps, [-1, sequences.shape[-1]]), kernel), bias)
        states = _states(tf.reshape(flat, [shape[0], shape[1], 4 * self.units]), recurrent)
        return tf.transpose(states, [1, 0, 2])


@tf.custom_gradient
def _states(inputs: Any, recurrent: Any) -> tuple[Any, Any]:
    """Return states (L, B, H) of the input's part of the gates (L, B, 4H), in Keras' order: input, forget, cell, output."""
    gates, cells, states = _forward(inputs, recurrent)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        length, batch, units = tf.shape(upstream)[0], tf.shape(upstream)[1], recurrent.shape[0]
        i, f, g, o = tf.split(gates, 4, axis=2)
        squashed, first = tf.tanh(cells), tf.zeros([1, batch, units], cells.dtype)
        before = tf.concat([first, cells[:-1]], axis=0)
        # Derivatives of the cell and the gates, for all steps at once.
        cell_slopes = o * (1 - squashed * squashed)
        gate_slopes = tf.concat([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], axis=2)
        output_slopes = squashed * o * (1 - o)
        back = tf.transpose(recurrent)
        read = [_array(length, v) for v in (upstream, cell_slopes, gate_slopes, output_slopes, f)]

        def step(t: Any, d_state: Any, d_cell: Any, written: Any) -> tuple[Any, ...]:
            from_above, cell_slope, gate_slope, output_slope, forget = (values.read(t) for values in read)
            d_state = d_state + from_above
            d_cell = d_cell + d_state * cell_slope
            d_gates = tf.concat([tf.tile(d_cell, [1, 3]) * gate_slope, d_state * output_slope], axis=1)
            return t - 1, tf.matmul(d_gates, back), d_cell * forget, written.write(t, d_gates)

        zero = tf.zeros([batch, units], cells.dtype)
        written = tf.TensorArray(cells.dtype, size=length, element_shape=[None, 4 * units])
        d_gates = tf.while_loop(lambda t, *_: t >= 0, step, (length - 1, zero, zero, written))[-1].stack()
        earlier = tf.reshape(tf.concat([first, states[:-1]], axis=0), [-1, units])
        return d_gates, tf.matmul(earlier, tf.reshape(d_gates, [-1, 4 * units]), transpose_a=True)

    return states, gradient


def _forward(inputs: Any, recurrent: Any) -> tuple[Any, Any, Any]:
    """Return gates (L, B, 4H), cells and states (L, B, H)."""
    length, batch, units = tf.shape(inputs)[0], tf.shape(inputs)[1], recurrent.shape[0]
    read = _array(length, inputs)

    def step(t: Any, state: Any, cell: Any, gates: Any, cells: Any, states: Any) -> tuple[Any, ...]:
        i, f, g, o = tf.split(read.read(t) + tf.matmul(state, recurrent), 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        cell = f * cell + i * g
        state = o * tf.tanh(cell)
        gate = tf.concat([i, f, g, o], axis=1)
        return t + 1, state, cell, gates.write(t, gate), cells.write(t, cell), states.write(t, state)

    zero = tf.zeros([batch, units], inputs.dtype)
    empty = [tf.TensorArray(inputs.dtype, size=length, element_shape=[None, size * units]) for size in (4, 1, 1)]
    *_, gates, cells, states = tf.while_loop(lambda t, *_: t < length, step, (0, zero, zero, *empty))
    return gates.stack(), cells.stack(), states.stack()


def _array(length: Any, values: Any) -> Any:
    return tf.TensorArray(values.dtype, size=length, element_shape=values.shape[1:]).unstack(values)
