"""The `tfdistill` command: the same objects as the library, one verb each."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from tfdistill.commands.augment import augment
from tfdistill.commands.bench import bench
from tfdistill.commands.cache import cache
from tfdistill.commands.compare import compare
from tfdistill.commands.compress import compress
from tfdistill.commands.convert import convert
from tfdistill.commands.corpus import corpus
from tfdistill.commands.doctor import doctor
from tfdistill.commands.evaluate import evaluate
from tfdistill.commands.example_data import example_data
from tfdistill.commands.export import export, verify
from tfdistill.commands.finetune import finetune
from tfdistill.commands.predict import predict
from tfdistill.commands.pretrain import pretrain
from tfdistill.commands.quickstart import quickstart
from tfdistill.commands.recipes import recipes
from tfdistill.commands.train import train
from tfdistill.commands.trim import trim
from tfdistill.errors import UserError
from tfdistill.system.console import say_error, show
from tfdistill.system.leftovers import sweep
from tfdistill.system.signals import exits_on_signals

app = typer.Typer(
    name="tfdistill",
    help="Distil BERT into phone-sized text models and ship them as quantized TFLite.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        show(f"tfdistill {metadata.version('tfdistill')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


# The order is that of `tfdistill --help`. A verb that needs TensorFlow imports it itself, by `import_tensorflow()`.
for verb in (quickstart, example_data, finetune, pretrain, train, augment, trim, compress, convert, cache):
    app.command()(verb)
app.command(context_settings={"allow_extra_args": True})(corpus)
for verb in (evaluate, doctor, export, verify, predict, bench, compare, recipes):
    app.command()(verb)


# Options by their former names.
_RENAMED = {
    "--p": "--p-replace",
    "--k": "--candidates",
    "--mlm": "--masked-lm",
    "--mlm-minutes": "--minutes",
    "--mlm-steps": "--steps",
    "--mask-pieces": "--mask-tokens",
    "--pieces": "--keep-tokens",
    "--length": "--max-length",
}

# Some versions of Typer include Click, others depend on it; the base class of their usage errors is the same in both.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line and exit.

    Every error that the user can fix is one line on stderr with exit code 2. Ctrl-C exits with 130, SIGTERM with 143.
    """
    for folder in (Path(tempfile.gettempdir()), Path()):
        sweep(folder)
    try:
        with exits_on_signals():
            outcome = app(prog_name="tfdistill", standalone_mode=False)
            code = outcome if isinstance(outcome, int) else 0
    except _UsageError as error:  # an unknown or a missing command or option
        if len(sys.argv) < 2:
            error.show()  # the list of commands
        else:
            if renamed := _RENAMED.get(getattr(error, "option_name", "")):
                error.possibilities = [renamed]
            context = error.ctx
            verb = "tfdistill" if context is None else context.command_path
            say_error(f"{error.format_message().strip().rstrip('.')}; see {verb} --help")
        code = error.exit_code
    except typer.Abort:
        code = 130
    except BrokenPipeError:
        code = 1
    except UserError as error:
        say_error(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        say_error("stopped")
        code = 130
    except OSError as error:
        if os.environ.get("TFDISTILL_DEBUG"):
            raise
        place = error.filename or "a file"
        say_error(f"{error.strerror or error}: {place}. Free some room or choose another place.")
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
