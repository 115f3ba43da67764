"""Experimental: the process in which `tfdistill.compress.tfmot` clusters or prunes the weights of a BiLSTM.

tfmot needs Keras 2 (tf_keras) for the whole process, so this file imports nothing of tfdistill. It
reads job.json, weights.npz and rows.npz from a directory and writes weights-out.npz there. Progress
goes to stdout in lines of the form "STEP of STEPS LOSS".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

_STEPS_PER_LINE = 10


class Reverse(tf_keras.layers.Layer):
    """Reverse the first `lengths` positions of (B, L, ...), and keep the padding after them."""

    def call(self, inputs: Any) -> Any:
        values, lengths = inputs
        return tf.reverse_sequence(values, lengths, seq_axis=1, batch_axis=0)


class Pool(tf_keras.layers.Layer):
    """Pool states (B, L, 2·units) to (B, 2·units): the last token's, or the maximum over the tokens."""

    def __init__(self, pooling: str = "last", **kwargs: Any):
        super().__init__(**kwargs)
        self.pooling = pooling

    def call(self, inputs: Any) -> Any:
        states, lengths = inputs
        lengths = tf.maximum(lengths, 1)
        if self.pooling == "last":
            return tf.gather(states, lengths - 1, batch_dims=1)
        real = tf.sequence_mask(lengths, tf.shape(states)[1])[:, :, None]
        return tf.reduce_max(tf.where(real, states, -2.0), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling}


CUSTOM_LAYERS = {"Reverse": Reverse, "Pool": Pool}


def keras_2_model(config: dict[str, Any], outputs: int) -> tf_keras.Model:
    """Return the BiLSTM of `tfdistill.models.bilstm` in Keras 2. It reads ids and lengths of one text, or of two."""
    layers = tf_keras.layers
    embed = layers.Embedding(config["vocab_size"], config["embedding_size"], name="embedding")
    numbers = range(1, config["num_layers"] + 1)
    ahead = [layers.LSTM(config["lstm_size"], return_sequences=True, name=f"forward_{n}") for n in numbers]
    back = [layers.LSTM(config["lstm_size"], return_sequences=True, name=f"backward_{n}") for n in numbers]
    reverse, join, pool = Reverse(), layers.Concatenate(), Pool(config["pooling"])

    def states(ids: Any, lengths: Any) -> Any:
        read, reversed_ = embed(ids), embed(reverse([ids, lengths]))
        for number, (forward, backward) in enumerate(zip(ahead, back, strict=True)):
            if number:
                both = join([read, reverse([reversed_, lengths])])
                read, reversed_ = both, reverse([both, lengths])
            read, reversed_ = forward(read), backward(reversed_)
        return pool([join([read, reversed_]), lengths])

    texts = 2 if config["pair"] else 1
    inputs = [
        layer
        for n in range(texts)
        for layer in (layers.Input((None,), dtype="int32", name=f"ids_{n}"), layers.Input((), dtype="int32", name=f"lengths_{n}"))
    ]  # fmt: skip
    pooled = [states(inputs[2 * n], inputs[2 * n + 1]) for n in range(texts)]
    state = pooled[0]
    if config["pair"]:
        far = layers.Subtract()(pooled)
        far = layers.Maximum()([far, layers.Subtract()(pooled[::-1])])
        state = layers.Concatenate()([*pooled, far, layers.Multiply()(pooled)])
    state = layers.Dropout(config["dropout"])(state)
    if config["dense_size"]:
        state = layers.Dense(config["dense_size"], config["dense_act"], name="dense")(state)
    return tf_keras.Model(inputs, layers.Dense(outputs, name="head")(state))


def wrapped(model: tf_keras.Model, job: dict[str, Any]) -> tf_keras.Model:
    """Return the model with tfmot's wrappers around layers with a kernel or a table."""

    def wrap(layer: Any) -> Any:
        if not isinstance(layer, tf_keras.layers.Dense | tf_keras.layers.LSTM | tf_keras.layers.Embedding):
            return layer
        if job["method"] == "cluster":
            start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
            options = {"number_of_clusters": job["clusters"], "cluster_centroids_init": start}
            return tfmot.clustering.keras.cluster_weights(layer, **options)
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, job["sparsity"], begin_step=0, end_step=max(1, job["steps"] // 2), frequency=max(1, job["steps"] // 50)
        )
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)

    return tf_keras.models.clone_model(model, clone_function=wrap)


def stripped(model: tf_keras.Model, method: str) -> tf_keras.Model:
    """Return the model without tfmot's wrappers."""
    strip = tfmot.clustering.keras.strip_clustering if method == "cluster" else tfmot.sparsity.keras.strip_pruning
    return strip(model)


def batches(rows: Any, batch_size: int, steps: int, seed: int) -> Any:
    """Yield inputs and the model's logits before, in batches of similar length."""
    count, rng = len(rows["logits"]), np.random.default_rng(seed)
    texts = sum(name.startswith("ids_") for name in rows)
    lengths = [rows[f"lengths_{n}"] for n in range(texts)]
    count_of_batches = 0
    while count_of_batches < steps:
        order = rng.permutation(count)
        for start in range(0, count, 50 * batch_size):
            some = order[start : start + 50 * batch_size]
            some = some[np.argsort(lengths[0][some], kind="stable")]
            parts = [some[n : n + batch_size] for n in range(0, len(some), batch_size)]
            for number in rng.permutation(len(parts)):
                part = parts[number]
                inputs = []
                for n in range(texts):
                    width = max(1, int(lengths[n][part].max()))
                    inputs += [rows[f"ids_{n}"][part, :width], lengths[n][part]]
                yield inputs, rows["logits"][part]
                count_of_batches += 1
                if count_of_batches == steps:
                    return


def loss_of(task: str, wanted: Any, logits: Any) -> Any:
    """Return the distance from the model's outputs before: squared error, or cross-entropy with sigmoid or softmax."""
    if task == "regression":
        return tf.reduce_mean(tf.square(logits - wanted))
    if task == "multilabel":
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(wanted), logits))
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(wanted), logits))


def main(directory: str) -> None:
    """Run the job in a directory."""
    place = Path(directory)
    job = json.loads((place / "job.json").read_text("utf-8"))
    tf_keras.utils.set_random_seed(job["seed"])
    with np.load(place / "rows.npz") as file:
        rows = dict(file)
    model = keras_2_model(job["config"], job["outputs"])
    with np.load(place / "weights.npz") as file:
        for layer in model.layers:
            names = [w.name.split("/")[-1].partition(":")[0] for w in layer.weights]
            layer.set_weights([file[f"{layer.name}/{name}"] for name in names])
    with tf_keras.utils.custom_object_scope(CUSTOM_LAYERS):
        optimized = wrapped(model, job)
    optimizer = tf_keras.optimizers.Adam(job["learning_rate"])
    optimized.compile(optimizer=optimizer)
    before = []
    if job["method"] == "prune":
        before = [tfmot.sparsity.keras.UpdatePruningStep()]
        before[0].set_model(optimized)
        before[0].on_train_begin()

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(job["task"], wanted, optimized(inputs, training=True))
        gradients = tape.gradient(loss, optimized.trainable_variables)
        pairs = [pair for pair in zip(gradients, optimized.trainable_variables, strict=True) if pair[0] is not None]
        optimizer.apply_gradients(pairs)
        return loss

    for number, (inputs, wanted) in enumerate(batches(rows, job["batch_size"], job["steps"], job["seed"]), 1):
        for callback in before:
            callback.on_train_batch_begin(number)
        loss = float(step([tf.constant(value) for value in inputs], tf.constant(wanted)))
        if not np.isfinite(loss):
            sys.exit(f"the loss became {loss} at step {number}")
        if number % _STEPS_PER_LINE == 0 or number == job["steps"]:
            print(f"{number} of {job['steps']} {loss:.5f}", flush=True)
    for callback in before:
        callback.on_epoch_end(0)
    with tf_keras.utils.custom_object_scope(CUSTOM_LAYERS):
        final = stripped(optimized, job["method"])
    weights = {
        f"{layer.name}/{w.name.split('/')[-1].partition(':')[0]}": w.numpy()
        for layer in final.layers
        for w in layer.weights
    }
    np.savez(place / "weights-out.npz", **weights)


if __name__ == "__main__":
    main(sys.argv[1])
