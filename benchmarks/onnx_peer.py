"""ONNX Runtime's side of benchmarks/runtimes.py, run in its own environment (PyTorch and TensorFlow do not live in one process).

python onnx_peer.py export MODEL OUT --length 128     OUT/fp32.onnx and OUT/dynamic_int8.onnx of a Hugging Face directory
python onnx_peer.py measure FILE                      latency of one file in this process, one line of JSON
python onnx_peer.py predict FILE IDS OUT              logits of the rows in IDS (.npz), written to OUT (.npy)
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
    import torch
    import transformers
    from onnxruntime.quantization import QuantType, quantize_dynamic

    found = transformers.AutoModelForSequenceClassification.from_pretrained(model, attn_implementation="eager").eval()
    names = INPUTS[:2] if found.config.model_type == "distilbert" else INPUTS

    class Logits(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return found(**dict(zip(names, inputs, strict=True))).logits

    # Padding at the end, since transformers leaves the mask out of the graph where the example has none.
    row = torch.ones((1, length), dtype=torch.int64)
    mask = (torch.arange(length) < length // 2).to(torch.int64)[None]
    out.mkdir(parents=True, exist_ok=True)
    plain, prepared = out / "fp32.onnx", out / "prepared.onnx"
    torch.onnx.export(
        Logits(),
        (row, mask, row - 1)[: len(names)],
        str(plain),
        input_names=list(names),
        output_names=["logits"],
        external_data=False,
    )
    # The shapes that PyTorch writes between operators contradict those that the quantizer infers.
    graph = onnx.load(plain)
    del graph.graph.value_info[:]
    onnx.save(graph, prepared)
    # Unsigned activations and signed weights, each channel with a scale of its own, as ONNX Runtime advises for x86.
    quantize_dynamic(str(prepared), str(out / "dynamic_int8.onnx"), weight_type=QuantType.QInt8, per_channel=True)
    prepared.unlink()


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
        ours = dict(zip(INPUTS, ("token_ids", "padding_mask", "segment_ids"), strict=True))
        columns = {each.name: rows[ours[each.name]].astype(np.int64) for each in run.get_inputs()}
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
