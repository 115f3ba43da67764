"""Test whether training waits for its input: batches made per second alone, and steps per second of a small student.

    python benchmarks/input.py --out benchmarks/results/input.json

There are two inputs: tokenized examples of 8 to 64 tokens, and masked sequences of plain text. The student has TinyBERT's size
(4 × 312, random weights) and learns from labels or masked words without a teacher, which is about the smallest possible step. All
alternate `--repeats` times; medians; the first steps, which compile, are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from tfdistill.corpora.masking import Masking
from tfdistill.corpora.shards import read_text
from tfdistill.data.batching import Examples, dataset
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.export.bench.host import machine
from tfdistill.models import presets
from tfdistill.models.load import load
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.system.files import atomic_write
from tfdistill.text.encoded import Encoded

LENGTH, FIRST = 64, 5
TASKS = {"rows": "classification", "masked text": "masked_lm"}


def rows(count: int) -> Examples:
    random = np.random.default_rng(0)
    sizes = random.integers(8, LENGTH + 1, count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    ids = random.integers(1000, 30000, offsets[-1]).astype("int32")
    return Examples(Encoded(ids, ids * 0, offsets), random.integers(0, 2, count))


class Clock(keras.callbacks.Callback):
    """Seconds of all steps but the first."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == FIRST - 1:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "start", time.perf_counter())


def made_alone(batches: Iterable[Any]) -> float:
    """Seconds for all batches but the first."""
    start = 0.0
    for number, _ in enumerate(batches, 1):
        if number == FIRST:
            start = time.perf_counter()
    return time.perf_counter() - start


def learner(tokenizer: Any, task: str) -> Distiller:
    outputs = 2 if task == "classification" else None
    student = presets.new("tinybert_4l_312", tokenizer=tokenizer, num_outputs=outputs, task=task)
    distiller = Distiller(student, None, [HardLabels(task=task)])
    distiller.compile(make_optimizer("adamw", WarmupLinear(1e-4, 0, 1000)))
    return distiller


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/input.json"))
    options = parser.parse_args()
    size, count = options.batch_size, options.steps * options.batch_size
    teacher = load("demo:minilm")
    examples = rows(count)
    corpus = read_text("demo:plain-text", teacher.tokenizer, megabytes=options.megabytes)
    text = corpus.examples(length=LENGTH, masking=Masking())
    inputs = {
        "rows": lambda: dataset(examples, size),
        "masked text": lambda: text.dataset(size).take(options.steps),
    }
    learners = {name: learner(teacher.tokenizer, task) for name, task in TASKS.items()}
    results: dict[str, dict[str, list[float]]] = {name: {"alone": [], "with the step": []} for name in inputs}
    for _ in range(options.repeats):
        for name, make in inputs.items():
            clock = Clock()
            learners[name].fit(make(), steps_per_epoch=options.steps, verbose=0, callbacks=[clock])
            for key, seconds in (("alone", made_alone(make())), ("with the step", clock.seconds)):
                results[name][key].append((options.steps - FIRST) * size / seconds)
    report = {
        "batch_size": size,
        "steps": options.steps,
        "length": LENGTH,
        "sequences_per_second": results,
        "machine": machine(),
    }
    report["input_by_step"] = {
        name: statistics.median(a / b for a, b in zip(each["alone"], each["with the step"], strict=True))
        for name, each in results.items()
    }
    atomic_write(options.out, json.dumps(report, indent=1) + "\n")
    table = Table(title="sequences a second")
    for heading in ("input", "made alone", "trained on (4 × 312)", "input by step"):
        table.add_column(heading, justify="left" if heading == "input" else "right")
    for name, each in results.items():
        values = [statistics.median(each[key]) for key in ("alone", "with the step")]
        table.add_row(name, *(f"{value:,.0f}" for value in values), f"{report['input_by_step'][name]:.1f} ×")
    Console().print(table)


if __name__ == "__main__":
    main()
