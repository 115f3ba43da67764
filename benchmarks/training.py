"""Compare a whole distillation in tfdistill, Keras and PyTorch: soft targets, or TinyBERT's two stages.

    make fidelity  # once, for its environment with PyTorch and transformers
    python benchmarks/training.py --teacher quickstart/models/teacher --python .venv-fidelity/bin/python \\
        --out benchmarks/results/training.json

All have the same teacher, student (three of its layers), texts (real movie snippets), batch size, number of steps and learning rate.
They differ in their own ways of working: tfdistill runs the teacher once and batches examples of similar length; keras.distillation
gets examples padded to --length, once with our models and once with keras-hub's, which is what a Keras user has without us; PyTorch
pads to the longest example of each batch. Our Adam updates the rows of the word-embedding table that a batch reads, the others' AdamW
all rows (see `live_step.py` for the gain). The time is everything from models and ids in memory to the last evaluation of dev, with
tracing and the teacher's work. Each runs in its own process, alternately, --repeats times; medians are compared.
`--rows 320 --epochs 1 --repeats 1` is a quick trial.

`--recipe tinybert --student DIR` trains a TinyBERT (such as the student of a general stage) for --epochs on the transformer layers and
for the same number on the predictions, without augmentation; keras.distillation cannot sum over a list of layers and is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from keras_hub_peer import as_keras_hub
from rich.console import Console
from rich.table import Table

from tfdistill.system.files import atomic_write

PEER = Path(__file__).with_name("torch_peer.py")
NAMES = {
    "tfdistill": "tfdistill",
    "bf16": "tfdistill --precision bf16",
    "keras": "keras.distillation, our models",
    "keras_hub": "keras.distillation, keras-hub's models",
    "pytorch": "PyTorch loop",
}


def prepare_directory(
    teacher: str, student: str | None, data: str, out: Path, settings: dict[str, Any], rows: int | None
) -> None:
    """Teacher and student as directories, tokenized texts, and the settings."""
    from tfdistill.distill.mapping import uniform
    from tfdistill.models.load import data_for, load, save
    from tfdistill.models.predict import encode
    from tfdistill.models.presets import student_from_layers

    model = load(teacher)
    text = data_for(model, teacher, data)
    save(model, out / "teacher")
    small = student_from_layers(model, 3)
    if student is not None:
        small = load(student, num_outputs=model.num_outputs, task=model.task, label_names=model.label_names)
    save(small, out / "student")
    if settings["recipe"] == "tinybert":
        settings = {**settings, "layers": [list(pair) for pair in uniform(small.num_layers, model.num_layers)]}
    for name in ("train", "dev"):
        split = text.splits[name]
        encoded, labels = encode(model, split, settings["length"]), np.asarray(split.known_labels)
        if name == "train" and rows is not None and rows < len(labels):
            end = int(encoded.offsets[rows])
            arrays = encoded.token_ids[:end], encoded.segment_ids[:end], encoded.offsets[: rows + 1], labels[:rows]
        else:
            arrays = encoded.token_ids, encoded.segment_ids, encoded.offsets, labels
        np.savez(out / f"{name}.npz", **dict(zip(("ids", "segments", "offsets", "labels"), arrays, strict=True)))
    (out / "settings.json").write_text(json.dumps({**settings, "data": data, "rows": rows}))


def tfdistill_run(directory: Path, result: dict[str, Any], precision: str = "float32") -> list[list[float]]:
    """The recipe, as `tfdistill train` runs it."""
    from dataclasses import replace

    from tfdistill.models.load import data_for, load
    from tfdistill.recipes import find
    from tfdistill.training.execution import set_precision
    from tfdistill.training.rows import prepare
    from tfdistill.training.runner import train
    from tfdistill.training.settings import parse_settings

    set_precision(precision)
    teacher = load(str(directory / "teacher"))
    text = data_for(teacher, str(directory / "teacher"), result["data"])
    if result["rows"] is not None:
        text = replace(text, splits={**text.splits, "train": text.splits["train"].take(range(result["rows"]))})
    words = [f"{name}={result[name]}" for name in ("epochs", "learning_rate", "batch_size")]
    words += [f"max_length={result['length']}", f"evaluations={result['epochs']}"]
    if result["recipe"] == "tinybert":
        words += [f"student=hf:{directory / 'student'}", f"transformer.epochs={result['epochs']}", "copies=0"]
        words += [f"transformer.learning_rate={result['learning_rate']}"]
    else:
        words += [f"{name}={result[name]}" for name in ("temperature", "soft_weight")]
    module = find(result["recipe"])
    recipe = module.recipe(teacher, text, parse_settings(module.Settings, words))
    prepared = prepare(recipe, 1)
    with tempfile.TemporaryDirectory() as out:
        started = time.time()
        train(recipe, seed=1, out=Path(out), prepared=prepared, score_test=False)
        lines = [json.loads(line) for line in Path(out, "log.jsonl").read_text("utf-8").splitlines()]
    scored = [[line["time"] - started, line["dev_accuracy"]] for line in lines if "dev_accuracy" in line]
    return scored[-result["epochs"] :]  # of the last stage, as the others


def keras_run(directory: Path, result: dict[str, Any], hub: bool = False) -> list[list[float]]:
    """keras.distillation.Distiller on padded arrays, with its own loss for logits; models of keras-hub, if requested."""
    import keras
    from keras.distillation import Distiller, LogitsDistillation

    from tfdistill.models.load import load
    from tfdistill.optim.schedule import WarmupLinear

    keras.utils.set_random_seed(1)
    teacher, student = (load(str(directory / name)) for name in ("teacher", "student"))
    if hub:
        teacher, student = as_keras_hub(teacher), as_keras_hub(student)
    (x, y), dev = (_padded(directory / f"{name}.npz", result["length"]) for name in ("train", "dev"))
    steps = -(-len(y) // result["batch_size"]) * result["epochs"]
    warm = max(1, steps // 10)
    rate = WarmupLinear(result["learning_rate"], warm, steps)
    distiller = Distiller(
        teacher, student, LogitsDistillation(result["temperature"]), student_loss_weight=1 - result["soft_weight"]
    )
    distiller.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    curve: list[list[float]] = []
    started = time.time()

    class Curve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            logits = student.predict(dev[0], batch_size=64, verbose=0)
            curve.append([time.time() - started, float(np.mean(logits.argmax(-1) == dev[1]))])

    distiller.fit(x, y, batch_size=result["batch_size"], epochs=result["epochs"], verbose=0, callbacks=[Curve()])
    return curve


def _padded(path: Path, length: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    from tfdistill.export.convert.convert import padded
    from tfdistill.text.encoded import Encoded

    with np.load(path) as rows:
        encoded = Encoded(rows["ids"], rows["segments"], rows["offsets"])
        return padded(encoded, length, len(encoded)), rows["labels"]


def one(name: str, directory: Path) -> None:
    """Run a contender in this process and print a line of JSON."""
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    result = json.loads((directory / "settings.json").read_text("utf-8"))
    runs = {
        "tfdistill": tfdistill_run,
        "bf16": partial(tfdistill_run, precision="bf16"),
        "keras": keras_run,
        "keras_hub": partial(keras_run, hub=True),
    }
    curve = runs[name](directory, result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"curve": curve, "peak_memory_mb": peak}))


def contender(
    name: str, directory: Path, python: Path, threads: int, script: str = __file__, **environment: str
) -> dict[str, Any]:
    """What a contender's process prints last, of PyTorch's peer or of `script --one NAME DIRECTORY`.

    Raises SystemExit with its last line of error.
    """
    command = [sys.executable, script, "--one", name, str(directory)]
    if name == "pytorch":
        command = [str(python), str(PEER), str(directory), "--threads", str(threads)]
    variables = {**os.environ, "KERAS_BACKEND": "tensorflow", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        raise SystemExit(f"{name} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", help="directory of a fine-tuned BERT")
    parser.add_argument("--recipe", choices=("soft_targets", "tinybert"), default="soft_targets")
    parser.add_argument(
        "--student", help="directory of a student, for tinybert; by default three of the teacher's layers"
    )
    parser.add_argument("--data", default="demo:movie-snippets")
    parser.add_argument(
        "--python", type=Path, default=Path(".venv-fidelity/bin/python"), help="with PyTorch and transformers"
    )
    parser.add_argument("--rows", type=int, help="training rows; all by default")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--accuracy", type=float, default=0.8, help="of dev, the time to which is compared")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(NAMES), help="some of the contenders")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]))
        return
    names = options.only or [name for name in NAMES if options.recipe == "soft_targets" or not name.startswith("keras")]
    if options.recipe == "tinybert" and any(name.startswith("keras") for name in names):
        raise SystemExit("--only keras --recipe tinybert: keras.distillation sums no list of layers; leave keras out")
    settings = {name: getattr(options, name) for name in ("recipe", "epochs", "length", "batch_size", "learning_rate")}
    settings |= {"temperature": 2.0, "soft_weight": 0.5}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        prepare_directory(options.teacher, options.student, options.data, directory, settings, options.rows)
        with np.load(directory / "train.npz") as rows:
            examples = len(rows["labels"]) * options.epochs
        for repeat in range(options.repeats):
            for name in names:
                reply = contender(name, directory, options.python, options.threads)
                results[name].append({key: reply[key] for key in ("curve", "peak_memory_mb")})
                print(
                    f"{repeat + 1}/{options.repeats} {NAMES[name]}: {results[name][-1]['curve'][-1]}", file=sys.stderr
                )
    report = {
        "settings": {**settings, "rows": options.rows, "examples": examples, "accuracy": options.accuracy},
        "runs": results,
    }
    if options.out:
        atomic_write(options.out, json.dumps(report, indent=2) + "\n")
    show(report)


def time_to(run: dict[str, Any], accuracy: float) -> float | None:
    return next((seconds for seconds, score in run["curve"] if score >= accuracy), None)


def show(report: dict[str, Any]) -> None:
    accuracy, examples = report["settings"]["accuracy"], report["settings"]["examples"]
    table = Table(title=f"{examples:,} examples, the teacher's work included")
    for column in (
        "",
        "seconds",
        "examples/s",
        f"seconds to {100 * accuracy:g} % on dev",
        "dev at the end",
        "peak MB",
        "tfdistill is",
    ):
        table.add_column(column, justify="right" if column else "left")
    whole = {
        name: statistics.median(run["curve"][-1][0] for run in runs) for name, runs in report["runs"].items() if runs
    }
    for name, runs in report["runs"].items():
        times = [time_to(run, accuracy) for run in runs]
        reached = f"{statistics.median(t for t in times if t):.1f}" if all(times) else "not reached"
        end = statistics.median(run["curve"][-1][1] for run in runs)
        peak = statistics.median(run["peak_memory_mb"] for run in runs)
        faster = f"{whole[name] / whole['tfdistill']:.2f}× as fast" if "tfdistill" in whole else "–"
        table.add_row(
            NAMES[name],
            f"{whole[name]:.1f}",
            f"{examples / whole[name]:.1f}",
            reached,
            f"{100 * end:.1f} %",
            f"{peak:.0f}",
            faster,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
