"""Measure what the teacher cache saves: epochs on hidden states and attention, from the cache and from the live teacher.

    python benchmarks/teacher_cache.py --rows 512 --repeats 3

The teacher is demo:minilm (6 layers, hidden size 384, 12 heads) with a random head, which these losses do not read; the student is
its layers 2, 4, 6; the stage is TinyBERT's transformer layers (embeddings, hidden states, attention of these layers) on the first
`--rows` texts of demo:movie-snippets, in batches of 32. Both ways run the same steps alternately, with one compiled step each. The
teacher's pass, which is needed once, is measured separately, each time into an empty folder. Prints and writes seconds of an epoch
(with all checks of the cache and the evaluation of 32 dev examples), the ratios, after how many epochs the cache pays off, bytes on
disk for each example, and the largest difference between the two loss curves. Where other jobs run, processor seconds of all threads
are more reliable than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from tfdistill.data.demo import movie_snippets
from tfdistill.models.load import load
from tfdistill.recipes import pkd, tinybert
from tfdistill.system.files import atomic_write
from tfdistill.training import teacher_cache
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import prepare
from tfdistill.training.runner import train
from tfdistill.training.teacher_cache import TeacherCache
from tfdistill.training.teacher_outputs import stage_examples, teacher_plan
from tfdistill.training.trainer import Trainer, assign


def recipe(rows: int) -> Recipe:
    """One epoch of TinyBERT's transformer layers."""
    text = movie_snippets()
    splits = {"train": text.splits["train"].take(range(rows)), "dev": text.splits["dev"].take(range(32))}
    teacher = load("demo:minilm", num_outputs=2, task="classification", label_names=text.label_names)
    settings = tinybert.Settings(student="layers", num_layers=3, copies=0, transformer={"epochs": 1}, evaluations=1)
    made = tinybert.recipe(teacher, replace(text, splits=splits), settings)
    return replace(made, stages=made.stages[:1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--format", choices=("fp16", "bf16"), default="fp16")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/teacher_cache.json"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    made = recipe(options.rows)
    prepared, trainer = prepare(made, 0), Trainer(made.student, made.stages)

    def read(recipe: Recipe, level: str):
        """Return the stores of the first stage, filled by the teacher if need be."""
        return stage_examples(recipe, prepared, 0, teacher_plan(recipe, TeacherCache(level, options.format))).stored

    start = [variable.numpy() for variable in made.student.variables]  # the states of dropout too
    seconds: dict[str, list[float]] = {"live": [], "cached": [], "reading": []}
    processor: dict[str, list[float]] = {"live": [], "cached": []}
    curves: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "first"
        teacher_cache.folder = lambda: place
        first = read(made, "all")[0]  # compiles
        for level in ("off", "all"):
            train(made, seed=0, prepared=prepared, trainer=trainer, max_steps=3, score_test=False,
                  plan=teacher_plan(made, TeacherCache(level, options.format)))  # fmt: skip
        for turn in range(options.repeats):
            place = Path(directory) / str(turn)
            begun = time.perf_counter()
            read(made, "all")
            seconds["reading"].append(time.perf_counter() - begun)
            for way in ("live", "cached") if turn % 2 else ("cached", "live"):
                assign(made.student.variables, start, "student")
                plan = teacher_plan(made, TeacherCache("all" if way == "cached" else "off", options.format))
                begun, worked = time.perf_counter(), time.process_time()
                done = train(made, seed=0, prepared=prepared, trainer=trainer, score_test=False, plan=plan)
                seconds[way].append(time.perf_counter() - begun)
                processor[way].append(time.process_time() - worked)
                curves.setdefault(way, []).append([point["loss"] for point in done.curve])
        place = Path(directory) / "cls"
        stage = pkd.recipe(made.teacher, made.data, pkd.Settings(num_layers=3)).stages[0]
        states = read(replace(made, stages=(stage,)), "cls")[0]
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    report = {
        "rows": options.rows,
        "tokens_of_a_row": float(prepared.train.encoded.lengths.mean()),
        "steps_of_an_epoch": made.stages[0].steps(options.rows),
        "format": options.format,
        "seconds": seconds,
        "processor_seconds": processor,
        "live_by_cached": statistics.median(a / b for a, b in zip(seconds["live"], seconds["cached"], strict=True)),
        "live_by_cached_processor": statistics.median(
            a / b for a, b in zip(processor["live"], processor["cached"], strict=True)
        ),
        "pays_after_epochs": middle["reading"] / (middle["live"] - middle["cached"]),
        "bytes_of_a_row": {
            "logits": 4 * made.teacher.num_outputs,
            "[CLS] of two layers (pkd)": states.nbytes() / options.rows,
            "all (tinybert)": first.nbytes() / options.rows,
        },
        "loss_differs_by": float(np.abs(np.subtract(curves["live"], curves["cached"])).max()),
        "loss": curves["live"][0],
        "each_way_repeats_itself": all(curve == of[0] for of in curves.values() for curve in of),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(report, indent=2))
    atomic_write(options.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
