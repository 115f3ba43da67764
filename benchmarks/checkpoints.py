"""Measure the cost of checkpoints: the same training with and without them, alternately.

    python benchmarks/checkpoints.py --steps 80 --repeats 3

A BERT of MiniLM's size (random weights, `--layers` layers, 30,522 tokens) learns labels on random texts, `--steps` steps of 32,
with the checkpoints of a run directory: one at each evaluation if that is cheap, and one after `--seconds` without one. "without"
is the same `train` without a directory. Prints and writes seconds of each, the ratio (the median over `--repeats`), seconds of one
checkpoint, and its size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import finetune
from tfdistill.system.files import atomic_write
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.checkpoint import Checkpoints
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import prepare
from tfdistill.training.runner import train
from tfdistill.training.trainer import Trainer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class Counted(Checkpoints):
    """Notes how long each writing took."""

    times: list[float]

    def write(self, *args, **options) -> bool:
        begun = time.perf_counter()
        done = super().write(*args, **options)
        self.times.append(time.perf_counter() - begun)
        return done


def recipe(steps: int, layers: int) -> Recipe:
    """On texts of 8 to 60 made-up words."""
    random = np.random.default_rng(0)
    pieces = [*SPECIAL, *(f"w{number}" for number in range(30522 - len(SPECIAL)))]

    def split(count: int) -> Split:
        texts = [" ".join(random.choice(pieces[5:], random.integers(8, 60))) for _ in range(count)]
        return Split(texts, labels=random.integers(0, 2, count))

    data = TextData("words", {"train": split(32 * steps), "dev": split(64)}, ("no", "yes"))
    config = BertConfig(len(pieces), 384, layers, 12, 1536)
    model = TextModel(config, 2, label_names=("no", "yes"))
    model.tokenizer = Tokenizer(pieces)
    return finetune.recipe(model, data, finetune.Settings(epochs=1, max_length=64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/checkpoints.json"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    made = recipe(options.steps, options.layers)
    prepared, trainer, start = prepare(made, 0), Trainer(made.student, made.stages), made.student.get_weights()
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    writes: list[float] = []
    size = 0
    train(made, seed=0, prepared=prepared, trainer=trainer, max_steps=4, score_test=False)  # compiles
    for turn in range(options.repeats):
        for way in list(seconds) if turn % 2 else list(seconds)[::-1]:
            made.student.set_weights(start)
            with tempfile.TemporaryDirectory() as directory:
                store = Counted(Path(directory) / "resume", "", seconds=options.seconds)
                store.times = writes
                own = {"out": Path(directory), "checkpoints": store} if way == "with" else {}
                begun = time.perf_counter()
                train(made, seed=0, prepared=prepared, trainer=trainer, score_test=False, **own)
                seconds[way].append(time.perf_counter() - begun)
                size = max([size, *(path.stat().st_size for path in Path(directory).glob("resume/*/arrays*"))])
    ratio = statistics.median(a / b for a, b in zip(seconds["with"], seconds["without"], strict=True))
    report = {
        "steps": options.steps,
        "parameters": made.student.count_params(),
        "seconds": seconds,
        "ratio": ratio,
        "seconds_of_a_checkpoint": statistics.median(writes),
        "checkpoints_of_a_run": len(writes) / options.repeats,
        "bytes_of_a_checkpoint": size,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(report, indent=2))
    atomic_write(options.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
