"""`tfdistill train`: distil a student with a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfdistill.commands.options import DataOption, SetOption, TaskOption, with_column_options
from tfdistill.commands.run_options import RunOptions, run_recipe, with_run_options
from tfdistill.commands.tables import new_name, show_next_of_run, show_scores
from tfdistill.system.lazy import keras

if TYPE_CHECKING:
    from tfdistill.data.dataset import Data
    from tfdistill.models.stored_model import StoredModel
    from tfdistill.training.recipe import Recipe


@with_column_options
@with_run_options
def train(
    recipe: Annotated[str, typer.Argument(help="name of a recipe (tfdistill recipes lists them)")],
    teachers: Annotated[
        list[str],
        typer.Option(
            "--teacher",
            help="a fine-tuned model, a run of finetune, or answers:FILE (a file of predictions: .jsonl, .csv or .parquet); "
            "the logits of several teachers are averaged",
        ),
    ],
    data: DataOption | None = None,
    task: TaskOption = None,
    settings: SetOption = None,
    teacher_cache: Annotated[
        str,
        typer.Option(
            "--teacher-cache",
            help="teacher outputs to keep on disk, as far as the recipe reads them: off, logits, cls ([CLS] states too), "
            "all (hidden states and attention too)",
        ),
    ] = "logits",
    cache_format: Annotated[
        str, typer.Option("--cache-format", help="number format of cached features: fp16 or bf16; logits are float32")
    ] = "fp16",
    on_labels: Annotated[
        bool, typer.Option("--on-labels", help="the undistilled baseline: same steps and examples, labels only")
    ] = False,
    teacher_weights: Annotated[
        list[float] | None,
        typer.Option("--teacher-weight", min=0, help="weight of each --teacher in turn; equal by default"),
    ] = None,
    gradient_norms: Annotated[
        bool, typer.Option("--gradient-norms", help="write each term's gradient norm at the first step to run.json")
    ] = False,
    *,
    options: RunOptions,
) -> None:
    """Distil a student from a teacher.

    Example: `tfdistill train bilstm --teacher TEACHER --data demo:movie-snippets --out RUN --set copies=4`
    """
    from tfdistill.commands.task_option import data_and_settings
    from tfdistill.data.load import needs_tensorflow
    from tfdistill.models.stored_model import StoredModel
    from tfdistill.recipes import find
    from tfdistill.training.settings import parse_settings
    from tfdistill.training.teacher_cache import TeacherCache

    module, cache = find(recipe), TeacherCache(teacher_cache, cache_format)
    source, assignments = data_and_settings(task, data, settings or [], module)
    chosen = parse_settings(module.Settings, assignments)
    options.check()
    stored = [_open(name) for name in teachers]
    dataset = None if needs_tensorflow(source) else _read(stored, source)
    chosen.like(*(teacher for teacher in stored if isinstance(teacher, StoredModel)))  # raises if they do not fit

    def make() -> Recipe:
        data = dataset if dataset is not None else _read(stored, source)
        teacher, *others = _teachers(stored, data)
        keras.utils.set_random_seed(options.seed)
        read = chosen.like(teacher, *others)
        made = module.recipe(teacher, data, read.for_debug() if options.debug else read)
        if on_labels:
            from tfdistill.training.baseline import on_labels_alone

            return on_labels_alone(made)
        weights = tuple(teacher_weights) if teacher_weights else None
        return replace(made, other_teachers=tuple(others), teacher_weights=weights)

    result = run_recipe(make, options, gradient_norms=gradient_norms, teacher_cache=cache)
    from tfdistill.models.quantization_aware import QuantizationAware

    show_scores(f"{options.out}", result.scores)
    mode = "int8" if isinstance(result.student, QuantizationAware) else "dynamic_int8"  # with learned ranges
    words = ["export", options.out, "--quantize", mode, "--data", source, "--out", new_name("BUNDLE")]
    show_next_of_run(options.debug, "tfdistill", *words)


def _open(name: str) -> StoredModel | str:
    """Check a teacher that is a model directory; other names, of files of answers and KerasHub presets, stay names."""
    from tfdistill.models.load import open_model
    from tfdistill.training.answers import PREFIX

    stored = None if name.startswith(PREFIX) else open_model(name)
    if stored is None:
        return name
    stored.require_head()
    return stored


def _read(teachers: Sequence[StoredModel | str], source: str) -> Data:
    """Return the data with the classes in the order of the first teacher that names them, and check that all fit."""
    from tfdistill.data.load import load_any
    from tfdistill.models.predict import require_fit
    from tfdistill.training.recipe import FINETUNE_FIRST

    models = [teacher for teacher in teachers if not isinstance(teacher, str)]
    classes = next((model.label_names for model in models if model.label_names is not None), None)
    data = load_any(source, label_names=classes, separate_unlabelled=True)
    for model in models:
        require_fit(model, data, "The teacher", FINETUNE_FIRST)
    return data


def _teachers(stored: Sequence[StoredModel | str], data: Any) -> list[Any]:
    from tfdistill.models.load import load
    from tfdistill.training.answers import PREFIX, AnswersTeacher

    return [
        AnswersTeacher(each, data) if isinstance(each, str) and each.startswith(PREFIX) else load(each, new_head=False)
        for each in stored
    ]
