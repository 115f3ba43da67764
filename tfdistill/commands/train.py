"""`tfdistill train`: distil a student with a recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tfdistill.commands.options import DataOption, SetOption, TaskOption
from tfdistill.commands.run_options import RunOptions, run_recipe, student_of, with_run_options
from tfdistill.commands.tables import show_next, show_scores
from tfdistill.system.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from tfdistill.training.recipe import Recipe


@with_run_options
def train(
    recipe: Annotated[str, typer.Argument(help="name of a recipe (tfdistill recipes lists them)")],
    teachers: Annotated[
        list[str],
        typer.Option(
            "--teacher", help="a fine-tuned model, or a run of finetune; the logits of several teachers are averaged"
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
    import_tensorflow(use=options.strategy == "one")
    import keras

    from tfdistill.commands.task_option import data_and_settings
    from tfdistill.data.load import load_any
    from tfdistill.models.load import load
    from tfdistill.models.quantization_aware import QuantizationAware
    from tfdistill.recipes import find
    from tfdistill.training.baseline import on_labels_alone
    from tfdistill.training.settings import parse_settings
    from tfdistill.training.teacher_cache import TeacherCache

    module, cache = find(recipe), TeacherCache(teacher_cache, cache_format)
    source, assignments = data_and_settings(task, data, settings or [], module)
    chosen = parse_settings(module.Settings, assignments)

    def make() -> Recipe:
        teacher, *others = [load(student_of(each), new_head=False) for each in teachers]
        named = (each.label_names for each in (teacher, *others) if each.task != "regression")
        names = next((names for names in named if names is not None), None)
        dataset = load_any(source, label_names=names, separate_unlabelled=True)
        keras.utils.set_random_seed(options.seed)
        made = module.recipe(teacher, dataset, chosen.for_debug() if options.debug else chosen)
        if on_labels:
            return on_labels_alone(made)
        weights = tuple(teacher_weights) if teacher_weights else None
        return replace(made, other_teachers=tuple(others), teacher_weights=weights)

    result = run_recipe(make, options, gradient_norms=gradient_norms, teacher_cache=cache)
    student = options.out / "student"
    show_scores(f"{student}", result.scores)
    learned_ranges = isinstance(result.student, QuantizationAware)
    mode = f"int8 --data {source}" if learned_ranges else "dynamic_int8"
    show_next(f"tfdistill export {student} --quantize {mode} --out BUNDLE")
