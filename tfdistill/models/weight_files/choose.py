"""Find the weights of a model directory, in the order in which transformers looks for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tfdistill.errors import UserError
from tfdistill.models.weight_files.safetensors_file import open_safetensors
from tfdistill.models.weight_files.sharded import open_sharded
from tfdistill.models.weight_files.tensors import Tensors

WEIGHTS = "model.safetensors"

_FORMS: dict[str, Callable[[Path], Tensors]] = {
    WEIGHTS: open_safetensors,
    f"{WEIGHTS}.index.json": partial(open_sharded, open_one=open_safetensors),
}


def open_weights(directory: Path) -> Tensors:
    """Open the weights of a model directory.

    Raises:
        UserError: there are none, or they are damaged.
    """
    for name, open_form in _FORMS.items():
        if (directory / name).exists():
            return open_form(directory / name)
    raise UserError(f"{directory / WEIGHTS} is missing. Use a directory with one of {', '.join(_FORMS)}.")
