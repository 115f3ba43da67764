"""Compare one distillation step with a live teacher, 32 × 64 tokens, in tfdistill, Keras and PyTorch.

    make fidelity  # once, for its environment with PyTorch and transformers
    python benchmarks/live_step.py --out benchmarks/results/live_step.json

The teacher is MiniLM with a new head, the student has three of its layers, and the ids are random. Nothing is padded, cached or
reordered, so that only a step is compared: the teacher's forward pass, the student's forward and backward pass, clipping and AdamW.
tfdistill updates the rows of the word-embedding table that a batch reads; "every row" updates all of them, as the others do. Keras is
keras.distillation with our models and with keras-hub's. Each contender runs in its own process, alternately, --repeats times, and
reports the median of its steps without the first five.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from keras_hub_peer import as_keras_hub
from rich.console import Console
from rich.table import Table
from training import NAMES as OTHERS
from training import contender

from tfdistill.system.files import atomic_write

NAMES = {**OTHERS, "dense": "tfdistill, every row"}
LENGTH, WARM_UP, RATE, TEMPERATURE = 64, 5, 1e-4, 2.0


def prepare_directory(directory: Path, rows: int, batch_size: int) -> None:
    """Models, rows and settings, as torch_peer.py reads them."""
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    from tfdistill.models.load import load, save
    from tfdistill.models.presets import student_from_layers

    teacher = load("demo:minilm", num_outputs=2)
    save(teacher, directory / "teacher")
    save(student_from_layers(teacher, 3), directory / "student")
    random = np.random.default_rng(0)
    for name, count in (("train", rows), ("dev", 1)):
        ids = random.integers(1000, 30000, count * LENGTH).astype("int32")
        arrays = {"ids": ids, "segments": ids * 0, "offsets": np.arange(count + 1) * LENGTH}
        np.savez(directory / f"{name}.npz", **arrays, labels=random.integers(0, 2, count))
    settings = {"recipe": "soft_targets", "epochs": 1, "batch_size": batch_size, "learning_rate": RATE}
    settings |= {"temperature": TEMPERATURE, "soft_weight": 0.5}
    (directory / "settings.json").write_text(json.dumps(settings))


def one(name: str, directory: Path) -> None:
    """Train with a contender in this process and print its steps' seconds."""
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    import keras
    from keras.distillation import Distiller as TheirDistiller
    from keras.distillation import LogitsDistillation

    from tfdistill import Distiller, HardLabels, Match, losses
    from tfdistill.models.load import load
    from tfdistill.optim.optimizers import make_optimizer
    from tfdistill.optim.schedule import WarmupLinear
    from tfdistill.training.execution import set_precision

    settings = json.loads((directory / "settings.json").read_text("utf-8"))
    set_precision("bf16" if name == "bf16" else "float32")
    teacher, student = (load(str(directory / model)) for model in ("teacher", "student"))
    with np.load(directory / "train.npz") as rows:
        y, ids = rows["labels"], rows["ids"].reshape(-1, LENGTH)
    x = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    ends: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(next(iter((logs or {"loss": 0.0}).values())))  # waits for the step
            ends.append(time.monotonic())

    if name.startswith("keras"):
        if name == "keras_hub":
            teacher, student = as_keras_hub(teacher), as_keras_hub(student)
        distiller = TheirDistiller(teacher, student, LogitsDistillation(TEMPERATURE), student_loss_weight=0.5)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.AdamW(RATE, weight_decay=0.01, global_clipnorm=1.0), loss=loss)
    else:
        terms = [Match(losses.soft_kl, weight=0.5, options={"temperature": TEMPERATURE}), HardLabels(weight=0.5)]
        distiller = Distiller(student, teacher, terms)
        schedule = WarmupLinear(RATE, 1, 1000)
        optimizer = make_optimizer("adamw", schedule, weight_decay=0.01, clip_norm=1.0)
        optimizer.lazy = name != "dense"
        distiller.compile(optimizer)
    distiller.fit(x, y, batch_size=settings["batch_size"], verbose=0, callbacks=[Clock()])
    print(json.dumps({"step_seconds": np.diff(ends).tolist()}))


def seconds(name: str, directory: Path, python: Path, threads: int) -> float:
    """Median of a contender's steps."""
    reply = contender(name, directory, python, threads, __file__, TF_NUM_INTRAOP_THREADS=str(threads))
    return statistics.median(reply["step_seconds"][WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", type=Path, default=Path(".venv-fidelity/bin/python"), help="with PyTorch and transformers"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each contender")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(NAMES), help="some of the contenders")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]))
        return
    names = options.only or list(NAMES)
    results: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        prepare_directory(Path(scratch), options.steps * options.batch_size, options.batch_size)
        for repeat in range(options.repeats):
            for name in names:
                step = seconds(name, Path(scratch), options.python, options.threads)
                results[name].append(options.batch_size / step)
                print(
                    f"{repeat + 1}/{options.repeats} {NAMES[name]}: {results[name][-1]:.1f} examples/s", file=sys.stderr
                )
    if options.out:
        settings = {"batch_size": options.batch_size, "length": LENGTH, "threads": options.threads}
        atomic_write(options.out, json.dumps({**settings, "examples_per_second": results}, indent=1) + "\n")
    table = Table(title=f"a step with a live teacher, {options.batch_size} × {LENGTH} pieces")
    for column in ("", "examples/s", f"{NAMES[names[0]]} is"):
        table.add_column(column, justify="right" if column else "left")
    median = {name: statistics.median(values) for name, values in results.items()}
    for name, value in median.items():
        table.add_row(NAMES[name], f"{value:.1f}", f"{median[names[0]] / value:.2f}× as fast")
    Console().print(table)


if __name__ == "__main__":
    main()
