"""`tfdistill convert`: write a model directory once with its weights as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfdistill.commands.options import ReplaceModelOption
from tfdistill.commands.tables import new_name, show_next
from tfdistill.system.console import readable, show
from tfdistill.system.files import require_new


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="a model directory with pytorch_model.bin, tf_model.h5, a TensorFlow checkpoint, or sharded weights",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="directory to write")],
    force: ReplaceModelOption = False,
) -> None:
    """Convert the weights of a model to safetensors; a pickle is read without running anything.

    Every verb reads these forms itself. The new directory opens faster, and nobody has to trust a pickle.

    Example: `tfdistill convert TinyBERT_General_4L_312D TINYBERT`
    """
    require_new(out, "config.json" if force else None, "Choose a new name, or use --force to replace a model.")
    from tfdistill.models.names import model_directory
    from tfdistill.models.rewrite import rewrite
    from tfdistill.models.weight_files.choose import WEIGHTS

    path = rewrite(model_directory(model), out)
    show(f"{path} → {out / WEIGHTS} ({readable((out / WEIGHTS).stat().st_size)})")
    show_next("tfdistill", "finetune", out, "--data", "DATA", "--out", new_name("TEACHER"))
