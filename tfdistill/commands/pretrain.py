"""`tfdistill pretrain`: train a masked language model on plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tfdistill.commands.options import SetOption
from tfdistill.commands.run_options import RunOptions, run_recipe, student_of, with_run_options
from tfdistill.commands.tables import new_name, show_next_of_run, show_scores
from tfdistill.errors import UserError

if TYPE_CHECKING:
    from tfdistill.training.recipe import Recipe


@with_run_options
def pretrain(
    model: Annotated[
        str,
        typer.Argument(help="a preset such as tinybert_4l_312, or a directory, hf:ORG/NAME, hub:PRESET, demo:minilm"),
    ],
    text: Annotated[
        str, typer.Option("--text", help="a .txt or .txt.gz file, a directory of them, or demo:plain-text")
    ],
    objective: Annotated[str, typer.Option("--objective", help="mlm, or mlm+nsp")] = "mlm",
    steps: Annotated[int | None, typer.Option("--steps", help="optimizer steps")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="passes over the text; 1 by default")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="minutes of training")] = None,
    encoder: Annotated[
        str | None, typer.Option("--from", help="for a preset: a directory whose encoder gives weights and vocabulary")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="for a preset with random weights: a directory with the vocabulary")
    ] = "demo:minilm",
    config: Annotated[
        list[str] | None, typer.Option("--config", help="key=value, changes the preset; may be repeated")
    ] = None,
    freeze_encoder: Annotated[bool, typer.Option("--freeze-encoder", help="train the head alone")] = False,
    settings: SetOption = None,
    *,
    options: RunOptions,
) -> None:
    """Train a masked language model (and next-sentence prediction) on plain text.

    Example: `tfdistill pretrain demo:minilm --text demo:plain-text --out MLM --minutes 10`
    """
    from tfdistill.corpora.shards import require_text
    from tfdistill.recipes import pretrain as module
    from tfdistill.training.masked_lm import make_model, open_start
    from tfdistill.training.settings import parse_settings

    if options.strategy == "multiworker" and minutes is not None:
        raise UserError(
            "`--minutes` needs one machine, since workers have clocks of their own. Use `--steps` or `--epochs`."
        )
    chosen = parse_settings(module.Settings, settings or [])
    duration, changes = module.Duration(steps, epochs, minutes), module.parse_config(config or [])
    options.check()
    start, weights = student_of(model), None if encoder is None else student_of(encoder)
    opened = open_start(start, objective, encoder=weights, changes=changes)
    require_text(text)

    def make() -> Recipe:
        loaded, trained_before = make_model(
            start,
            objective,
            encoder=weights,
            tokenizer=tokenizer,
            changes=changes,
            opened=opened,
        )
        return module.recipe(
            loaded,
            text,
            chosen.for_debug(text) if options.debug else chosen,
            objective=objective,
            duration=duration,
            freeze_encoder=freeze_encoder,
            trained_before=trained_before,
            seed=options.seed,
            source=model if encoder is None else f"{model} from {encoder}",
        )

    result = run_recipe(make, options)
    before, after = result.scores["held_out_before"], result.scores["held_out"]
    scores = {"held out, before": before, "held out, after": after}
    show_scores(f"{options.out / 'student'}, {result.steps} steps", scores)
    words = ["finetune", options.out, "--data", "DATA", "--out", new_name("TEACHER")]
    show_next_of_run(options.debug, "tfdistill", *words)
