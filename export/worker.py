"""Converts one student directory to .tflite files, in a process of its own: the converter can end the process it runs in.

Called as `python -m tfdistill.export.worker DIRECTORY OUT LENGTH MODE...`; prints the name of each mode when its file is there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(directory: Path, out: Path, length: int, modes: list[str]) -> None:
    """Write `{out}/{mode}.tflite` for each mode."""
    import tensorflow as tf
    from safetensors.numpy import load_file

    from tfdistill.export.graphs import graph

    config = json.loads((directory / "config.json").read_text("utf-8"))
    tensors = load_file(directory / "model.safetensors")
    for mode in modes:
        module = graph(config, tensors, length, mode)
        function = module.forward.get_concrete_function()
        # The module is the trackable: without it the file has neither weights nor signature, and no error says so.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if mode != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        (out / f"{mode}.tflite").write_bytes(converter.convert())
        print(mode, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
