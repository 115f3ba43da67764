"""Build lean inference graphs for the TFLite converter from the tensors of a student directory.

They compute the same as `tfdistill.models` for one row of a fixed length, and nothing else: each
dense layer is one two-dimensional product, the scale of attention is part of the query's weights,
the last layer of a classifier computes only the [CLS] row, and padding needs no mask inside the
LSTM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.export.convert.graph_parts import Parts, Tensors
from tfdistill.export.convert.lstm_graphs import bilstm
from tfdistill.export.convert.static_graphs import static
from tfdistill.export.convert.transformer_graphs import albert, bert, distilbert, electra, mobilebert, roberta
from tfdistill.export.tflite.runtime import INPUTS, LOGITS, PROBABILITIES, signature_name

# From config.json's model_type to the function that builds the encoder.
BUILDERS = {
    "bert": bert,
    "tfdistill_pruned_bert": bert,
    "distilbert": distilbert,
    "roberta": roberta,
    "xlm-roberta": roberta,
    "camembert": roberta,
    "electra": electra,
    "albert": albert,
    "mobilebert": mobilebert,
    "tfdistill_ib_bert": mobilebert,
    "tfdistill_bilstm": bilstm,
    "tfdistill_static": static,
}
# From the end of an architecture's name to the head's tensors, and whether it reads the pooled state or all tokens.
HEADS = {
    "ForSequenceClassification": ("classifier", True),
    "ForNextSentencePrediction": ("cls.seq_relationship", True),
    "ForTokenClassification": ("classifier", False),
    "ForQuestionAnswering": ("qa_outputs", False),
}


def graph(
    config: Mapping[str, Any],
    tensors: Tensors,
    lengths: Sequence[int],
    table: str,
    probabilities: bool = False,
    *,
    peaks: Mapping[str, np.ndarray] | None = None,
    watch: Callable[[str, tf.Tensor], None] | None = None,
    reorders: bool = True,
    fuses: bool = False,
) -> tf.Module:
    """Build a module with one function for each length; the functions share their weights.

    They take int32 [1, length] `token_ids`, `padding_mask`, `segment_ids` and return `logits`: [1,
    C], or [1, length, C] for token classification and question answering.

    Args:
        config: config.json of a student directory.
        tensors: its model.safetensors, by name.
        lengths: tokens in a row.
        table: how word-piece embeddings are stored: "float", or "int8" with a scale for each row.
        probabilities: return `probabilities`, the softmax of the logits, instead.
        peaks: for static quantization, the result of `measure`.
        watch: called with the name and values of each layer, as in `Parts`.
        reorders: whether products may be reordered, as in `Parts`.
        fuses: whether products may be fused, as in `Parts`.

    Returns:
        A module with `forwards`, the functions by signature name, and `factors` (see `Parts`).
    """
    name, pooled = next(
        (head for ending, head in HEADS.items() if config["architectures"][0].endswith(ending)), ("classifier", True)
    )
    if f"{name}.out_proj.weight" in tensors:  # RoBERTa and ELECTRA
        name = f"{name}.out_proj"
    module, held = tf.Module(), dict[tuple[Any, ...], tf.Variable]()

    def hold(value: np.ndarray) -> tf.Variable:
        # Equal values become one variable, so that the graphs of several lengths share their weights.
        value = np.ascontiguousarray(value)
        key = value.shape, value.dtype, hashlib.blake2b(value.tobytes()).digest()
        if key not in held:
            held[key] = tf.Variable(value, trainable=False)
        return held[key]

    if config["model_type"] == "tfdistill_bilstm":
        tensors = {**tensors, "classifier.weight": tensors["head.kernel"].T, "classifier.bias": tensors["head.bias"]}
    parts = Parts(tensors, table, hold, peaks, watch, reorders, fuses)

    def function(length: int) -> tf.types.experimental.PolymorphicFunction:
        encoder, head = BUILDERS[config["model_type"]](config, parts, length, pooled), parts.dense(name)

        def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = head(encoder(token_ids, padding_mask, segment_ids))
            if probabilities:
                return {PROBABILITIES: tf.nn.softmax(logits)}
            return {LOGITS: logits if pooled else tf.reshape(logits, [1, *logits.shape])}

        signature = [tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUTS]
        return tf.function(forward, input_signature=signature, autograph=False)

    module.forwards = {signature_name(length, max(lengths)): function(length) for length in lengths}
    module.held, module.factors = list(held.values()), parts.factors
    return module


def measure(
    config: Mapping[str, Any], tensors: Tensors, length: int, rows: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Measure the largest magnitude of each channel that dense layers add to residual sums.

    Args:
        config: config.json of a student directory.
        tensors: its model.safetensors, by name.
        length: tokens in a row.
        rows: calibration data, int32 (1, length) by input.

    Returns:
        (out,) by layer; empty for a BiLSTM or a static encoder, which have no residual sums.
    """
    peaks: dict[str, np.ndarray] = {}
    if config["model_type"] in ("tfdistill_bilstm", "tfdistill_static"):
        return peaks
    traced_peaks: dict[str, tf.Tensor] = {}

    def watch(name: str, y: tf.Tensor) -> None:
        peak = tf.reduce_max(tf.abs(y), axis=0)
        # Layers that share their weights have the same name.
        traced_peaks[name] = tf.maximum(traced_peaks[name], peak) if name in traced_peaks else peak

    forward = next(iter(graph(config, tensors, [length], "float", watch=watch).forwards.values())).python_function

    def peaks_of(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        traced_peaks.clear()
        forward(**row)
        return dict(traced_peaks)

    traced = tf.function(peaks_of, autograph=False)
    for row in rows:
        of_row = traced({name: tf.constant(values) for name, values in row.items()})
        for name, peak in of_row.items():
            peaks[name] = np.maximum(peaks.get(name, 0.0), peak.numpy())
    return peaks
