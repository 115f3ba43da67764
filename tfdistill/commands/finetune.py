"""`tfdistill finetune`: train a model on labels, to make a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tfdistill.commands.options import DataOption, SetOption, TaskOption, with_column_options
from tfdistill.commands.run_options import RunOptions, run_recipe, with_run_options
from tfdistill.commands.tables import new_name, show_next_of_run, show_scores
from tfdistill.system.lazy import keras

if TYPE_CHECKING:
    from tfdistill.training.recipe import Recipe


@with_column_options
@with_run_options
def finetune(
    model: Annotated[
        str,
        typer.Argument(help="a directory, hf:ORG/NAME[@REVISION] of the Hugging Face hub, hub:PRESET or demo:minilm"),
    ],
    data: DataOption | None = None,
    task: TaskOption = None,
    settings: SetOption = None,
    *,
    options: RunOptions,
) -> None:
    """Fine-tune a BERT on labelled text, to make a teacher.

    Example: `tfdistill finetune demo:minilm --data demo:movie-snippets --out TEACHER --set epochs=2`
    """
    from tfdistill.commands.task_option import data_and_settings
    from tfdistill.data.load import load_any, needs_tensorflow
    from tfdistill.models.load import load, open_model
    from tfdistill.recipes import finetune as module
    from tfdistill.training.settings import parse_settings

    source, assignments = data_and_settings(task, data, settings or [], module)
    chosen = parse_settings(module.Settings, assignments)

    options.check()
    stored, dataset = open_model(model), None if needs_tensorflow(source) else load_any(source)

    def make() -> Recipe:
        data = dataset if dataset is not None else load_any(source)
        keras.utils.set_random_seed(options.seed)
        loaded = load(
            stored or model,
            num_outputs=data.num_outputs,
            task=data.task,
            label_names=data.label_names,
            new_head=True,
        )
        recipe = module.recipe(loaded, data, chosen)
        return replace(recipe, settings={**recipe.settings, "model": model})

    result = run_recipe(make, options)
    show_scores(f"{options.out}", result.scores)
    words = ["train", "soft_targets", "--teacher", options.out, "--data", source, "--out", new_name("STUDENT")]
    show_next_of_run(options.debug, "tfdistill", *words)
