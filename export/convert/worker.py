"""Convert student directories to .tflite files in a separate process, since the converter may crash.

`python -m tfdistill.export.convert.worker` reads jobs from its input, one JSON object a line with
the fields of `tfdistill.export.convert.jobs.Job`. For each mode it writes `{place}/{mode}.tflite`
and prints the mode. It ends with its input, so that many jobs import TensorFlow once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdistill.export.convert.modes import AEQ

# Copied from tfdistill.models.hf, since importing it would load Keras into this process.
RANGES = "quantization.safetensors"
# The operators that static quantization quantizes. Residual sums and LayerNorm stay float32, since a variance does not fit
# in 8 bits, and so do the embeddings, whose int8 table already has a scale for each row.
STATIC = (
    "FULLY_CONNECTED",
    "BATCH_MATMUL",
    "SOFTMAX",
    "GELU",
    "RELU",
    "TANH",
    "RESHAPE",
    "TRANSPOSE",
)


def convert(job: dict[str, Any]) -> None:
    """Write `{place}/{mode}.tflite` for each mode, all from one graph."""
    import tensorflow as tf
    from safetensors.numpy import load_file

    from tfdistill.export.convert.calibration import learned_ranges
    from tfdistill.export.convert.graphs import graph, measure

    directory, lengths = Path(job["place"]), job["lengths"]
    config = json.loads((directory / "config.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory(dir=directory) as saved:
        tensors, peaks, trained = load_file(directory / "model.safetensors"), None, {}
        if job["calibration"] is not None and (directory / RANGES).is_file():
            trained = load_file(directory / RANGES)
            peaks = {name.removesuffix(".share"): value for name, value in trained.items() if name.endswith(".share")}
        elif job["calibration"] is not None:
            peaks = measure(config, tensors, max(lengths), _rows(job["calibration"]))
        # Static quantization would lose precision with one scale for query, key and value.
        fuses = job["fuses"] and job["calibration"] is None
        how = job["table"], job["probabilities"]
        module = graph(config, tensors, lengths, *how, peaks=peaks, reorders=not trained, fuses=fuses)
        if job["text"] is not None:
            _take_text(module, directory, max(lengths), job["text"])
        signatures = {name: forward.get_concrete_function() for name, forward in module.forwards.items()}
        learned = learned_ranges(trained, module.factors)
        # Functions that are converted without a SavedModel silently lose their weights or signature.
        tf.saved_model.save(module, saved, signatures=signatures)
        del module, signatures, tensors
        plain: bytes | None = None
        for mode, tool in job["modes"].items():
            if tool == AEQ:
                plain = plain or _tensorflow(saved, lengths, "fp32", None)
                content = _quantizer(plain, mode, job["calibration"], learned)
            else:
                content = _tensorflow(saved, lengths, mode, job["calibration"], custom=job["text"] is not None)
            (directory / f"{mode}.tflite").write_bytes(content)
            print(mode, flush=True)


def _take_text(module: Any, directory: Path, length: int, settings: dict[str, bool]) -> None:
    from tfdistill.export.convert.text_graph import reads_text
    from tfdistill.export.tflite.runtime import LONGEST

    vocabulary = (directory / "vocab.txt").read_text("utf-8").split("\n")[:-1]
    module.forwards = {LONGEST: reads_text(module.forwards[LONGEST], vocabulary, length, **settings)}


def _tensorflow(saved: str, lengths: list[int], mode: str, calibration: str | None, custom: bool = False) -> bytes:
    import tensorflow as tf

    from tfdistill.export.tflite.runtime import signature_name

    names = [signature_name(length, max(lengths)) for length in lengths]
    converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=names)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = custom
    converter.exclude_conversion_metadata = True  # it costs a copy in Python, and the manifest has the versions
    if mode != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    sets = tf.lite.OpsSet
    static = {
        "int8": sets.TFLITE_BUILTINS_INT8,
        "int8_int16": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    if mode in static:
        assert calibration is not None
        converter.representative_dataset = lambda: _rows(calibration)
        converter.target_spec.supported_ops.append(static[mode])
    return converter.convert()


def _quantizer(content: bytes, mode: str, calibration: str | None, learned: dict[str, Any]) -> bytes:
    from ai_edge_quantizer import quantizer, recipe, recipe_manager

    from tfdistill.export.convert.calibration import ranges

    uncalibrated = {
        "dynamic_int8": recipe.dynamic_wi8_afp32,
        "weight_int8": recipe.weight_only_wi8_afp32,
    }
    if mode in uncalibrated:
        model = quantizer.Quantizer(bytearray(content), uncalibrated[mode]())
        return bytes(model.quantize(enable_progress_report=False).quantized_model)
    assert calibration is not None
    manager = recipe_manager.RecipeManager()
    for operator in STATIC:
        bits = {"activation_num_bits": 8 if mode == "int8" else 16, "weight_num_bits": 8}
        manager.add_static_config(regex=".*", operation_name=operator, **bits)
    model = quantizer.Quantizer(bytearray(content), manager.get_quantization_recipe())
    # int16 is symmetric and precise enough for the ranges of the data.
    measured = ranges(content, _rows(calibration), STATIC, learned if mode == "int8" else None)
    return bytes(model.quantize(measured, enable_progress_report=False).quantized_model)


def _rows(calibration: str) -> Iterator[dict[str, Any]]:
    import numpy as np

    with np.load(calibration) as inputs:
        arrays = dict(inputs)
    for row in range(len(arrays["token_ids"])):
        yield {name: values[row : row + 1] for name, values in arrays.items()}


def main() -> None:
    """Run the jobs of the standard input."""
    for line in sys.stdin:
        convert(json.loads(line))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
