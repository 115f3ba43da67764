"""The `tfdistill` command: the same objects as the library, one verb each."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tfdistill.commands.augment import augment
from tfdistill.commands.bench import bench
from tfdistill.commands.cache import cache
from tfdistill.commands.compress import compress
from tfdistill.commands.corpus import corpus
from tfdistill.commands.doctor import _check_backend, doctor
from tfdistill.commands.evaluate import evaluate, show_scores
from tfdistill.commands.export import export, verify
from tfdistill.commands.trim import trim
from tfdistill.errors import UserError
from tfdistill.system.files import student_directory
from tfdistill.system.signals import exits_on_signals

app = typer.Typer(
    name="tfdistill",
    help="Distil BERT into phone-sized text models and ship them as quantized TFLite.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
out_console = Console()

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="a .tsv, .csv or .jsonl file, a directory with train/dev/test, tfds:glue/TASK, conll:DIR, squad:DIR, "
        "demo:movie-snippets",
    ),
]
OptionalDataOption = Annotated[str | None, *DataOption.__metadata__]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task", help="glue/TASK: its data (tfds:glue/TASK unless --data says where) and its published settings"
    ),
]
OutOption = Annotated[Path, typer.Option("--out", help="directory to write")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value, changes one setting; may be repeated")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="seed of everything random")]
DebugOption = Annotated[bool, typer.Option("--debug", help="a few rows and steps of each stage, in seconds")]
ForceOption = Annotated[bool, typer.Option("--force", help="replace a former run at --out")]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="go on with the run at --out, which has to be there; one of the same recipe goes on anyway"
    ),
]
CheckpointOption = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, help="between checkpoints, beside those at each scoring")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="of matrix products: float32, bf16, fp16, or auto, bf16 on TPUs and GPUs that have it; weights and losses stay in "
        "float32",
    ),
]
JitOption = Annotated[bool, typer.Option("--jit", help="compile the training step with XLA")]
BucketsOption = Annotated[
    str | None,
    typer.Option(
        "--buckets",
        help="widths of batches, such as 16,32,64; auto: a few from the data; none: the longest row of each",
    ),
]
KeepOption = Annotated[int, typer.Option("--keep-checkpoints", min=1, help="how many of the last checkpoints stay")]
MicroBatchesOption = Annotated[
    int,
    typer.Option(
        "--micro-batches",
        min=1,
        help="parts of a batch, computed one after the other: the memory of a part",
    ),
]
StrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy",
        help="one, mirrored (all GPUs), mirrored:N, multiworker (TF_CONFIG) or tpu; batch_size is of all devices",
    ),
]


@app.callback()
def _prepare(context: typer.Context) -> None:
    if context.invoked_subcommand in ("verify", "bench", "compare", "cache") or "--help" in sys.argv:
        return
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow(use=not any(word.startswith("--strategy") for word in sys.argv))


def _load_model(source: str, data: Any = None) -> Any:
    from tfdistill.models.load import load

    if data is None:
        return load(source)
    return load(source, num_outputs=data.num_outputs, task=data.task, label_names=data.label_names)


def _student_of(teacher: str) -> str:
    """A run directory stands for its student."""
    directory = student_directory(teacher)
    return str(directory) if directory.is_dir() else teacher


@app.command()
def quickstart(
    fast: Annotated[
        bool, typer.Option("--fast", help="less data and fewer steps: minutes instead of a quarter of an hour")
    ] = False,
    out: OutOption = Path("quickstart"),
    seed: SeedOption = 1,
) -> None:
    """From a real BERT to quantized TFLite files, a table and a page that compare them.

    Example: `tfdistill quickstart --fast --out quickstart`
    """
    from tfdistill.commands.quickstart import quickstart as run_quickstart

    run_quickstart(out, fast=fast, seed=seed, command=" ".join(["tfdistill", *sys.argv[1:]]))


@app.command()
def finetune(
    model: Annotated[str, typer.Argument(help="hf:DIR, hub:PRESET or demo:minilm")],
    out: OutOption,
    data: OptionalDataOption = None,
    task: TaskOption = None,
    settings: SetOption = None,
    seed: SeedOption = 1,
    debug: DebugOption = False,
    force: ForceOption = False,
    resume: ResumeOption = False,
    checkpoint_seconds: CheckpointOption = 300.0,
    keep_checkpoints: KeepOption = 2,
    strategy: StrategyOption = "one",
    precision: PrecisionOption = "auto",
    jit: JitOption = False,
    buckets: BucketsOption = None,
    micro_batches: MicroBatchesOption = 1,
) -> None:
    """Fine-tune a BERT on labelled text: makes a teacher.

    Example: `tfdistill finetune demo:minilm --data demo:movie-snippets --out TEACHER --set epochs=2`
    """
    import keras

    from tfdistill.commands.task_option import data_and_settings
    from tfdistill.data.dataset import load_any
    from tfdistill.recipes import finetune as module
    from tfdistill.system.devices import training_on
    from tfdistill.training.execution import make_execution, set_precision
    from tfdistill.training.run_directory import run
    from tfdistill.training.settings import parse_settings

    data, settings = data_and_settings(task, data, settings or [], module)
    chosen = parse_settings(module.Settings, settings)
    execution = make_execution(precision, jit, buckets, micro_batches, strategy)
    set_precision(execution.precision)
    with training_on(strategy):
        text = load_any(data)
        keras.utils.set_random_seed(seed)
        made = module.recipe(_load_model(model, text), text, chosen)
        made = replace(made, settings={**made.settings, "model": model}, execution=execution)
        result = run(
            made,
            out,
            seed=seed,
            debug=debug,
            force=force,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
            keep=keep_checkpoints,
        )
    show_scores(f"{out / 'student'}", result.scores)
    out_console.print(
        f"next: tfdistill train soft_targets --teacher {out / 'student'} --data {data} --out RUN", highlight=False
    )


@app.command()
def pretrain(
    model: Annotated[str, typer.Argument(help="a preset such as tinybert_4l_312, or hf:DIR, hub:PRESET, demo:minilm")],
    text: Annotated[
        str, typer.Option("--text", help="a .txt or .txt.gz file, a directory of them, or demo:plain-text")
    ],
    out: OutOption,
    objective: Annotated[str, typer.Option("--objective", help="mlm, or mlm+nsp")] = "mlm",
    steps: Annotated[int | None, typer.Option("--steps", help="optimizer steps")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="passes over the text; 1 if nothing is said")] = None,
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
    seed: SeedOption = 1,
    debug: DebugOption = False,
    force: ForceOption = False,
    resume: ResumeOption = False,
    checkpoint_seconds: CheckpointOption = 300.0,
    keep_checkpoints: KeepOption = 2,
    precision: PrecisionOption = "auto",
    jit: JitOption = False,
    strategy: StrategyOption = "one",
) -> None:
    """Train a masked language model (and next-sentence prediction) on plain text.

    Example: `tfdistill pretrain demo:minilm --text demo:plain-text --out MLM --minutes 10`
    """
    import keras

    from tfdistill.system.devices import training_on
    from tfdistill.training import pretrain as module
    from tfdistill.training.execution import make_execution, set_precision
    from tfdistill.training.masked_lm import make_model
    from tfdistill.training.settings import parse_settings

    if strategy.startswith("multiworker"):
        raise UserError(
            f"--strategy {strategy}: pre-training runs on the devices of one machine; expected one, mirrored or tpu"
        )
    chosen = parse_settings(module.Settings, settings or [])
    duration = module.Duration(steps, epochs, minutes)
    execution = make_execution(precision, jit, "none", strategy=strategy)
    set_precision(execution.precision)
    with training_on(strategy):
        keras.utils.set_random_seed(seed)
        made, trained_before = make_model(
            _student_of(model),
            objective,
            encoder=None if encoder is None else _student_of(encoder),
            tokenizer=tokenizer,
            changes=module.parse_config(config or []),
        )
        result = module.pretrain(
            made,
            text,
            out,
            objective=objective,
            duration=duration,
            settings=chosen,
            freeze_encoder=freeze_encoder,
            trained_before=trained_before,
            seed=seed,
            resume=resume,
            debug=debug,
            force=force,
            named=model if encoder is None else f"{model} from {encoder}",
            execution=execution,
            checkpoint_seconds=checkpoint_seconds,
            keep=keep_checkpoints,
        )
    show_scores(
        f"{out / 'student'}, {result.steps} steps",
        {"held out, before": result.before, "held out, after": result.after},
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="name of a recipe (tfdistill recipes lists them)")],
    teachers: Annotated[
        list[str],
        typer.Option(
            "--teacher",
            help="fine-tuned teacher: a directory or run made by finetune; of several the logits are averaged",
        ),
    ],
    out: OutOption,
    data: OptionalDataOption = None,
    task: TaskOption = None,
    settings: SetOption = None,
    seed: SeedOption = 1,
    debug: DebugOption = False,
    force: ForceOption = False,
    resume: ResumeOption = False,
    checkpoint_seconds: CheckpointOption = 300.0,
    keep_checkpoints: KeepOption = 2,
    strategy: StrategyOption = "one",
    precision: PrecisionOption = "auto",
    jit: JitOption = False,
    buckets: BucketsOption = None,
    micro_batches: MicroBatchesOption = 1,
    teacher_cache: Annotated[
        str,
        typer.Option(
            "--teacher-cache",
            help="of the teacher's outputs kept on disk, as far as the recipe reads them: off, logits, cls ([CLS] states too), all "
            "(hidden states and attention too)",
        ),
    ] = "logits",
    cache_format: Annotated[
        str, typer.Option("--cache-format", help="of what is kept beside logits: fp16 or bf16")
    ] = "fp16",
    on_labels: Annotated[
        bool, typer.Option("--on-labels", help="the undistilled baseline: same steps and texts, labels only")
    ] = False,
    teacher_weights: Annotated[
        list[float] | None, typer.Option("--teacher-weight", min=0, help="of each --teacher in turn; alike by default")
    ] = None,
    gradient_norms: Annotated[
        bool, typer.Option("--gradient-norms", help="write each term's gradient norm at the first step to run.json")
    ] = False,
) -> None:
    """Distil a student from a teacher.

    Example: `tfdistill train bilstm --teacher TEACHER --data demo:movie-snippets --out RUN --set copies=4`
    """
    import keras

    from tfdistill.commands.task_option import data_and_settings
    from tfdistill.data.dataset import load_any
    from tfdistill.recipes import find
    from tfdistill.system.devices import training_on
    from tfdistill.training.baseline import on_labels_alone
    from tfdistill.training.execution import make_execution, set_precision
    from tfdistill.training.run_directory import run
    from tfdistill.training.settings import parse_settings
    from tfdistill.training.teacher_cache import TeacherCache

    module, kept = find(recipe), TeacherCache(teacher_cache, cache_format)
    data, settings = data_and_settings(task, data, settings or [], module)
    chosen = parse_settings(module.Settings, settings)
    execution = make_execution(precision, jit, buckets, micro_batches, strategy)
    set_precision(execution.precision)
    with training_on(strategy):
        keras.utils.set_random_seed(seed)
        teacher_model, *others = [_load_model(_student_of(each)) for each in teachers]
        names = None if teacher_model.task == "regression" else teacher_model.label_names
        text = load_any(data, label_names=names, separate_unlabelled=True)
        keras.utils.set_random_seed(seed)
        made = module.recipe(teacher_model, text, chosen.for_debug() if debug else chosen)
        weights = tuple(teacher_weights) if teacher_weights else None
        made = (
            on_labels_alone(made) if on_labels else replace(made, other_teachers=tuple(others), teacher_weights=weights)
        )
        made = replace(made, execution=execution)
        result = run(
            made,
            out,
            seed=seed,
            debug=debug,
            force=force,
            gradient_norms=gradient_norms,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
            keep=keep_checkpoints,
            teacher_cache=kept,
        )
    show_scores(f"{out / 'student'}", result.scores)
    mode = f"int8 --data {data}" if recipe == "quantization_aware" else "dynamic_int8"
    out_console.print(f"next: tfdistill export {out / 'student'} --quantize {mode} --out BUNDLE", highlight=False)


app.command()(augment)
app.command()(trim)
app.command()(compress)
app.command()(cache)
app.command(context_settings={"allow_extra_args": True})(corpus)


app.command()(evaluate)
app.command()(doctor)
app.command()(export)
app.command()(verify)
app.command()(bench)


@app.command()
def compare(
    sources: Annotated[list[Path] | None, typer.Argument(help="runs and bundles")] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="run of the teacher; by default the run of finetune among them")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="test or dev; by default test if all have it")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="score to compare; by default each run's first")
    ] = None,
    bench: Annotated[Path | None, typer.Option("--bench", help="file with the output of bench --json")] = None,
    published: Annotated[bool, typer.Option("--published", help="also the papers' results on MRPC")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="picture to write, .png, .svg or .pdf")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Set runs and bundles side by side: compression factor, score, share of the teacher's score kept, files, latency.

    Example: `tfdistill compare TEACHER RUN1 RUN2 BUNDLE --plot compare.png`
    """
    from tfdistill.commands import compare as module

    rows = module.compare(sources or [], teacher=teacher, split=split, metric=metric, bench=bench, published=published)
    if as_json:
        print(module.as_json(rows))
    else:
        out_console.print(module.as_table(rows))
    if plot is not None:
        module.plot(rows, plot)


@app.command()
def recipes(name: Annotated[str | None, typer.Argument(help="show this recipe whole")] = None) -> None:
    """List the recipes, or show one: paper, command, published score, settings.

    Example: `tfdistill recipes bilstm`
    """
    from tfdistill.recipes import find, names

    if name is not None:
        module = find(name)
        # Prose as wide as the terminal is; formulas and what is said line by line stay as they are.
        paragraphs = (module.__doc__ or "").strip().split("\n\n")
        prose = [part if part.startswith((" ", "Idea:")) else part.replace("\n", " ") for part in paragraphs]
        out_console.print("\n\n".join(prose), highlight=False, markup=False)
        table = Table(title="settings (--set key=value)")
        for column in ("key", "default", "meaning"):
            table.add_column(column)
        for key, info in module.Settings.model_fields.items():
            table.add_row(key, str(info.default), info.description or "")
        out_console.print(table)
        return
    table = Table(title="recipes")
    for column in ("name", "paper", "idea", "published"):
        table.add_column(column)
    for each in names():
        doc = find(each).__doc__ or ""
        said = {line.partition(":")[0]: line.partition(":")[2].strip() for line in doc.splitlines()}
        paper = " ".join(doc.strip().split("\n\n")[0].split())
        table.add_row(each, paper, said.get("Idea", ""), said.get("Published", ""))
    out_console.print(table)


# Typer has Click within it or needs it beside it, by its version; this is the same class in both.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point: every error a user can mend is one line on stderr and exit code 2; Ctrl-C is 130, SIGTERM 143."""
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        _check_backend()
        with exits_on_signals():
            said = app(prog_name="tfdistill", standalone_mode=False)
            code = said if isinstance(said, int) else 0
    except _UsageError as error:  # commands and options that are none, or are missing
        if len(sys.argv) < 2:
            error.show()  # the list of commands
        else:
            context = getattr(error, "ctx", None)
            verb = "tfdistill" if context is None else context.command_path
            errors.print(f"tfdistill: {' '.join(error.format_message().split()).rstrip('.')}; see {verb} --help")
        code = error.exit_code
    except typer.Abort:
        code = 130
    except BrokenPipeError:
        code = 1
    except UserError as error:
        errors.print(f"tfdistill: {' '.join(str(error).split())}")
        code = error.exit_code
    except KeyboardInterrupt:
        errors.print("tfdistill: stopped")
        code = 130
    except OSError as error:
        if os.environ.get("TFDISTILL_DEBUG"):
            raise
        errors.print(
            f"tfdistill: {error.strerror or error}: {error.filename or 'a file'}; free some room or choose another place"
        )
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
