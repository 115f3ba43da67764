"""Compare devices: the same distillation step on one CPU, on two parts of it, in two workers, in bf16, and with XLA.

    python benchmarks/devices.py --out benchmarks/results/devices.json

Teacher and student have the sizes of MiniLM and of three of its layers, random weights and ids; the teacher is live. "one thread"
and "two workers" give each process one thread, so their ratio is the gain of a second machine of this kind. The others share two
threads, so their ratios are the costs and gains of a strategy, bf16 or the compiler. All alternate `--repeats` times; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# Strategy, processes, threads of each, precision, jit.
WAYS = {
    "one thread": ("one", 1, 1, "float32", False),
    "two workers": ("multiworker", 2, 1, "float32", False),
    "one": ("one", 1, 2, "float32", False),
    "two parts": ("mirrored:2", 1, 2, "float32", False),
    "bf16": ("one", 1, 2, "bf16", False),
    "jit": ("one", 1, 2, "float32", True),
}
LENGTH = 64


def run(way: str, batch_size: int, steps: int) -> None:
    """Train and print the examples a second, the first steps not counted."""
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow(use=False)
    spec, _, _, precision, jit = WAYS[way]
    import keras
    import numpy as np

    from tfdistill.data.batching import Examples
    from tfdistill.models import presets
    from tfdistill.models.text_model import TextModel
    from tfdistill.system.devices import training_on
    from tfdistill.text.encoded import Encoded
    from tfdistill.training.execution import Execution, set_precision
    from tfdistill.training.soft_terms import soft_and_hard_terms
    from tfdistill.training.stage import Stage
    from tfdistill.training.trainer import Trainer

    rows = batch_size * steps * 2
    ids = np.random.default_rng(0).integers(1000, 30000, rows * LENGTH).astype("int32")
    encoded = Encoded(ids, ids * 0, np.arange(rows + 1) * LENGTH)
    examples = Examples(encoded, np.random.default_rng(1).integers(0, 2, rows))
    times: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            times.append(time.monotonic())

    set_precision(precision)
    with training_on(spec):
        teacher = TextModel(presets.config("minilm_l6_384"), 2)
        student = TextModel(presets.config("minilm_l6_384", num_hidden_layers=3), 2)
        stage = Stage("soft", soft_and_hard_terms("classification", 0.5, 2.0), batch_size=batch_size, evaluations=2)
        Trainer(student, [stage], Execution(precision, jit)).train(
            0, teacher, examples, seed=0, callbacks=[Clock()], steps=2 * steps
        )
    print(json.dumps(batch_size * steps / (times[1] - times[0])))


def measure(way: str, batch_size: int, steps: int) -> float:
    _, processes, threads, *_ = WAYS[way]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
    environment["OMP_NUM_THREADS"] = str(threads)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(processes)]
    workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    running = []
    for index in range(processes):
        if processes > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
        command = [sys.executable, __file__, "--run", way, "--batch-size", str(batch_size), "--steps", str(steps)]
        running.append(
            subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    outputs = [each.communicate() for each in running]
    if any(each.returncode for each in running):
        raise SystemExit(f"{way} failed: {outputs[0][1].strip().splitlines()[-1]}")
    return float(outputs[0][0].strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32, help="of all devices together")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.batch_size, options.steps)
        return
    results: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(options.repeats):
        for way in WAYS:
            results[way].append(measure(way, options.batch_size, options.steps))
            print(f"{repeat + 1}/{options.repeats} {way}: {results[way][-1]:.1f} examples/s", file=sys.stderr)
    if options.out:
        from tfdistill.system.files import atomic_write

        report = {
            "batch_size": options.batch_size,
            "steps": options.steps,
            "length": LENGTH,
            "examples_per_second": results,
        }
        atomic_write(options.out, json.dumps(report, indent=1) + "\n")
    table = Table(title="soft targets, MiniLM to three layers, live teacher")
    for column in ("", "examples/s", "beside"):
        table.add_column(column, justify="right" if column else "left")
    median = {way: statistics.median(values) for way, values in results.items()}
    for way, value in median.items():
        other = "one thread" if "thread" in way or "workers" in way else "one"
        table.add_row(way, f"{value:.1f}", f"{value / median[other]:.2f} × {other}")
    Console().print(table)


if __name__ == "__main__":
    main()
