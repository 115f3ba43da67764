"""Options of the verbs that train into a run directory, and the way from a recipe to its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfdistill.commands.options import OutOption, SeedOption
from tfdistill.system.files import require_place, student_directory
from tfdistill.system.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from tfdistill.training.execution import Execution
    from tfdistill.training.recipe import Recipe
    from tfdistill.training.runner import Result


@dataclass(frozen=True)
class RunOptions:
    """Hold the options that `train`, `finetune` and `pretrain` share; each field is one option."""

    out: OutOption
    seed: SeedOption = 1
    debug: Annotated[bool, typer.Option("--debug", help="a few examples and steps of each stage, in seconds")] = False
    force: Annotated[bool, typer.Option("--force", help="replace a run at --out")] = False
    resume: Annotated[
        bool,
        typer.Option("--resume", help="require a run at --out; a stopped run of the same recipe resumes anyway"),
    ] = False
    checkpoint_seconds: Annotated[
        float,
        typer.Option(
            "--checkpoint-seconds", min=0, help="longest time without a checkpoint; each evaluation writes one too"
        ),
    ] = 300.0
    keep_checkpoints: Annotated[
        int, typer.Option("--keep-checkpoints", min=1, help="number of the latest checkpoints to keep")
    ] = 2
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help="one, mirrored (all GPUs), mirrored:N, multiworker (TF_CONFIG) or tpu; batch_size is the global batch",
        ),
    ] = "one"
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="of matrix products: float32, bf16, fp16, or auto, which is bf16 on TPUs and on GPUs that support it; "
            "weights and losses stay in float32",
        ),
    ] = "auto"
    jit: Annotated[bool, typer.Option("--jit", help="compile the training step with XLA")] = False
    buckets: Annotated[
        str | None,
        typer.Option(
            "--buckets",
            help="lengths to which batches are padded, such as 16,32,64; auto: a few chosen from the data; none: the "
            "longest example of each batch",
        ),
    ] = None
    micro_batches: Annotated[
        int,
        typer.Option(
            "--micro-batches", min=1, help="parts of a batch that are computed one after the other, to save memory"
        ),
    ] = 1

    def check(self) -> None:
        """Check the options and `--out` without TensorFlow. Raises UserError."""
        from tfdistill.system.devices import check_strategy
        from tfdistill.training.execution import make_execution
        from tfdistill.training.run_identity import require_run

        check_strategy(self.strategy)
        named = "float32" if self.precision == "auto" else self.precision  # what auto means depends on the devices
        make_execution(named, self.jit, self.buckets, self.micro_batches)
        if self.strategy != "multiworker":  # whose first worker writes for all
            require_run(self.out, self.resume, self.force)
            require_place(self.out)

    def execution(self) -> Execution:
        """Return how steps are computed."""
        from tfdistill.training.execution import make_execution

        return make_execution(self.precision, self.jit, self.buckets, self.micro_batches, self.strategy)


def with_run_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb that takes `options: RunOptions` show each field as an option of the command line."""
    signature = inspect.signature(verb, eval_str=True)
    shared = inspect.signature(RunOptions, eval_str=True).parameters
    own = [parameter for name, parameter in signature.parameters.items() if name != "options"]

    @wraps(verb)
    def call(**values: Any) -> None:
        options = RunOptions(**{name: values.pop(name) for name in shared})
        verb(**values, options=options)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *shared.values())]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def run_recipe(make: Callable[[], Recipe], options: RunOptions, **more: Any) -> Result:
    """Import TensorFlow, build a recipe on the devices of `--strategy`, and train it into `--out`.

    Call `options.check()` and check all else that needs no TensorFlow before.

    Args:
        make: builds the recipe; it is called in the scope of the strategy, with seeded random numbers.
        options: the options of the command line.
        more: further arguments of `tfdistill.training.run_directory.run`.
    """
    import_tensorflow(use=options.strategy == "one")
    import keras

    from tfdistill.system.devices import training_on
    from tfdistill.training.execution import set_precision
    from tfdistill.training.run_directory import run

    execution = options.execution()
    set_precision(execution.precision)
    with training_on(options.strategy):
        keras.utils.set_random_seed(options.seed)
        return run(
            replace(make(), execution=execution),
            options.out,
            seed=options.seed,
            debug=options.debug,
            force=options.force,
            resume=options.resume,
            checkpoint_seconds=options.checkpoint_seconds,
            keep=options.keep_checkpoints,
            **more,
        )


def student_of(source: str) -> str:
    """Return the student of a run directory; other names of models stay as they are."""
    directory = student_directory(source)
    return str(directory) if directory.is_dir() else source
