"""Export to and run ONNX Runtime for benchmarks/runtimes.py, in an environment without TensorFlow.

python onnx_peer.py export MODEL OUT --length 128     OUT/fp32.onnx and OUT/dynamic_int8.onnx of a Hugging Face or BiLSTM directory
python onnx_peer.py measure FILE                      latency of one file in this process, one line of JSON
python onnx_peer.py predict FILE IDS OUT              logits of the examples in IDS (.npz), written to OUT (.npy)
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export(model: Path, out: Path, length: int) -> None:
    """Write the model in float32, and with ONNX Runtime's own dynamic quantization, for rows of one length."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    config = json.loads((model / "config.json").read_text("utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    plain, prepared = out / "fp32.onnx", out / "prepared.onnx"
    if config["model_type"] == "tfdistill_bilstm":
        onnx.save(bilstm(model, config, length), plain)
    else:
        transformer(model, plain, length)
    # The shapes that PyTorch writes between operators contradict those that the quantizer infers.
    graph = onnx.load(plain)
    del graph.graph.value_info[:]
    onnx.save(graph, prepared)
    # Unsigned activations and signed weights, each channel with a scale of its own, as ONNX Runtime advises for x86.
    quantize_dynamic(str(prepared), str(out / "dynamic_int8.onnx"), weight_type=QuantType.QInt8, per_channel=True)
    prepared.unlink()


def bilstm(model: Path, config: dict[str, Any], length: int) -> Any:
    """Tang's BiLSTM with ONNX's own bidirectional operator, which takes the lengths and gives the last states."""
    from onnx import TensorProto, checker, helper, numpy_helper
    from safetensors.numpy import load_file

    if config["num_layers"] != 1 or config["pooling"] != "last" or config["pair"]:
        raise SystemExit(f"{model}: expected a BiLSTM of one layer for single texts that reads its last states")
    tensors, size = load_file(model / "model.safetensors"), config["lstm_size"]

    def gates(name: str) -> np.ndarray:
        """(directions, 4·size, …) in ONNX's order input, output, forget, cell; Keras has input, forget, cell, output."""
        sides = [tensors[f"{side}_1.{name}"].T.reshape(4, size, -1) for side in ("forward", "backward")]
        return np.stack([side[[0, 3, 1, 2]].reshape(4 * size, -1) for side in sides])

    bias = gates("bias")[..., 0]
    weights = {
        "table": tensors["embedding.weight"],
        "W": gates("kernel"),
        "R": gates("recurrent_kernel"),
        "B": np.concatenate([bias, np.zeros_like(bias)], axis=1),
        "dense": tensors["dense.kernel"],
        "dense_bias": tensors["dense.bias"],
        "head": tensors["head.kernel"],
        "head_bias": tensors["head.bias"],
        "axis": np.array([1]),
        "flat": np.array([1, 2 * size]),
    }
    nodes = [
        helper.make_node("Gather", ["table", INPUTS[0]], ["words"]),
        helper.make_node("Transpose", ["words"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("ReduceSum", [INPUTS[1], "axis"], ["tokens"], keepdims=0),
        helper.make_node("Cast", ["tokens"], ["lengths"], to=TensorProto.INT32),
        helper.make_node(
            "LSTM", ["steps", "W", "R", "B", "lengths"], ["", "last"], hidden_size=size, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["last"], ["sides"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["sides", "flat"], ["state"]),
        helper.make_node("Gemm", ["state", "dense", "dense_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "head", "head_bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, length]) for name in INPUTS[:2]]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(tensors["head.bias"])])]
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "bilstm", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 10
    checker.check_model(made)
    return made


def transformer(model: Path, plain: Path, length: int) -> None:
    """Write what transformers reads."""
    import torch
    import transformers

    model_ = transformers.AutoModelForSequenceClassification.from_pretrained(model, attn_implementation="eager").eval()
    names = INPUTS[:2] if model_.config.model_type == "distilbert" else INPUTS

    class Logits(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return model_(**dict(zip(names, inputs, strict=True))).logits

    # Padding at the end, since transformers leaves the mask out of the graph where the example has none.
    row = torch.ones((1, length), dtype=torch.int64)
    mask = (torch.arange(length) < length // 2).to(torch.int64)[None]
    torch.onnx.export(
        Logits(),
        (row, mask, row - 1)[: len(names)],
        str(plain),
        input_names=list(names),
        output_names=["logits"],
        external_data=False,
    )


def session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(path: Path, threads: int, runs: int, warmup: int) -> dict[str, Any]:
    """Milliseconds of a full row, as tfdistill.export.bench.host measures a .tflite file."""
    run = session(path, threads)
    length = run.get_inputs()[0].shape[-1]
    values = {"attention_mask": np.ones(length), "token_type_ids": np.zeros(length)}
    row = {each.name: values.get(each.name, np.arange(length) % 4)[None].astype(np.int64) for each in run.get_inputs()}
    for _ in range(warmup):
        run.run(None, row)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run.run(None, row)
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "latency_ms": {"median": statistics.median(times), "p90": float(np.percentile(times, 90))},
        "bytes": path.stat().st_size,
        "length": length,
    }


def predict(path: Path, ids: Path, out: Path) -> None:
    run = session(path, 2)
    with np.load(ids) as rows:
        expected = dict(zip(INPUTS, ("token_ids", "padding_mask", "segment_ids"), strict=True))
        columns = {each.name: rows[expected[each.name]].astype(np.int64) for each in run.get_inputs()}
    count = len(next(iter(columns.values())))
    logits = [run.run(None, {name: column[n : n + 1] for name, column in columns.items()})[0] for n in range(count)]
    np.save(out, np.concatenate(logits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, places in (("export", ("model", "out")), ("measure", ("file",)), ("predict", ("file", "ids", "out"))):
        command = commands.add_parser(name)
        for place in places:
            command.add_argument(place, type=Path)
    commands.choices["export"].add_argument("--length", type=int, default=128)
    for name, value in (("threads", 1), ("runs", 50), ("warmup", 5)):
        commands.choices["measure"].add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if options.command == "export":
        export(options.model, options.out, options.length)
    elif options.command == "measure":
        print(json.dumps(measure(options.file, options.threads, options.runs, options.warmup)))
    else:
        predict(options.file, options.ids, options.out)


if __name__ == "__main__":
    main()
