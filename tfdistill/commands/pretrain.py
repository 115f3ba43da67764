"""`tfdistill pretrain`: train a masked language model on plain text."""

from __future__ import annotations

from typing import Annotated

import typer

from tfdistill.commands.options import SetOption
from tfdistill.commands.run_options import RunOptions, student_of, with_run_options
from tfdistill.commands.tables import show_scores
from tfdistill.errors import UserError
from tfdistill.system.tensorflow_import import import_tensorflow


@with_run_options
def pretrain(
    model: Annotated[str, typer.Argument(help="a preset such as tinybert_4l_312, or hf:DIR, hub:PRESET, demo:minilm")],
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
    import_tensorflow(use=options.strategy == "one")
    import keras

    from tfdistill.system.devices import training_on
    from tfdistill.training import pretrain as module
    from tfdistill.training.execution import set_precision
    from tfdistill.training.masked_lm import make_model
    from tfdistill.training.settings import parse_settings

    if options.strategy.startswith("multiworker"):
        raise UserError(
            f"--strategy {options.strategy}: pre-training runs on one machine; expected one, mirrored or tpu"
        )
    if options.micro_batches > 1:
        raise UserError("--micro-batches has no effect on pre-training. Remove it.")
    chosen = parse_settings(module.Settings, settings or [])
    duration = module.Duration(steps, epochs, minutes)
    execution = options.execution()
    set_precision(execution.precision)
    with training_on(options.strategy):
        keras.utils.set_random_seed(options.seed)
        made, trained_before = make_model(
            student_of(model),
            objective,
            encoder=None if encoder is None else student_of(encoder),
            tokenizer=tokenizer,
            changes=module.parse_config(config or []),
        )
        result = module.pretrain(
            made,
            text,
            options.out,
            objective=objective,
            duration=duration,
            settings=chosen,
            freeze_encoder=freeze_encoder,
            trained_before=trained_before,
            seed=options.seed,
            resume=options.resume,
            debug=options.debug,
            force=options.force,
            named=model if encoder is None else f"{model} from {encoder}",
            execution=execution,
            checkpoint_seconds=options.checkpoint_seconds,
            keep=options.keep_checkpoints,
        )
    show_scores(
        f"{options.out / 'student'}, {result.steps} steps",
        {"held out, before": result.before, "held out, after": result.after},
    )
