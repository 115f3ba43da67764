"""Read and write model directories as Hugging Face lays them out, with a labels.txt added.

A directory holds config.json, weights in one of the forms of `tfdistill.models.weight_files`, and vocab.txt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tfdistill.errors import UserError
from tfdistill.models.class_order import checked_names
from tfdistill.models.hf_config import CONFIG, config_json
from tfdistill.models.hf_labels import LABELS
from tfdistill.models.hf_names import PREFIXES, encoder_names, head_names, pooler_names
from tfdistill.models.hf_weights import RANGES, fill, read_ranges, write_ranges
from tfdistill.models.stored_head import fill_head
from tfdistill.models.stored_model import StoredModel, open_directory
from tfdistill.models.tasks import HEADS
from tfdistill.models.text_model import TextModel
from tfdistill.models.weight_files.choose import WEIGHTS
from tfdistill.system.files import atomic_directory, atomic_write, sha256


def load_directory(
    directory: str | Path | StoredModel,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    lower_case: bool | None = None,
    new_head: bool | None = None,
    name: str | None = None,
) -> TextModel:
    """Read a Hugging Face directory of a model of one of the families, or a student directory.

    Args:
        directory: holds config.json, model.safetensors and vocab.txt; or what `open_directory` returned for it.
        num_outputs: the size of the logits' last axis; by default that of the stored head.
        task: one of `tfdistill.models.tasks.HEADS`; by default the one in the directory, or classification.
        label_names: class names, in the order to have the logits in.
        lower_case: overrides tokenizer_config.json.
        new_head: whether the head may have new random weights, as for `tfdistill.models.load.load`.
        name: the model, for messages; the directory by default.

    Returns:
        The model, with its tokenizer in `tokenizer` and the directory in `loaded_from`.

    Raises:
        UserError: a file is missing or damaged, the architecture is not supported, shapes do not fit, a head is missing
            that config.json promises, or the head has other classes than `label_names`.
        MissingHead: there is no head for this task and size, and `new_head` is False.
    """
    opened = (
        directory if isinstance(directory, StoredModel) else open_directory(directory, lower_case=lower_case, name=name)
    )
    directory, tensors, stored = opened.directory, opened.tensors, opened.head
    task, names, problem = task or stored.task or "classification", label_names, ""
    if task in HEADS and HEADS[task].labelled:
        problem = stored.misfit(task, num_outputs, label_names if new_head else None)
        if not problem:
            assert stored.size is not None
            num_outputs, names = stored.size, checked_names(stored.label_names, stored.size, str(directory))
        elif new_head and label_names is not None:
            num_outputs = num_outputs or len(label_names)
    model = TextModel(opened.config, num_outputs, task, names)
    model.tokenizer, model.loaded_from = opened.tokenizer, opened.name
    fill(encoder_names(model), tensors, PREFIXES[model.family])
    new = fill_head(model, stored, tensors, problem, new_head)
    if "head" not in new and HEADS[task].over_vocabulary and opened.raw.get("tie_word_embeddings") is False:
        raise UserError(f"{directory}/{CONFIG}: `tie_word_embeddings` is false. Only tied heads can be read.")
    if (directory / RANGES).exists():
        model.learned_ranges = read_ranges(directory / RANGES)
    if "head" not in new and label_names is not None:
        _order(model, label_names, directory)
    model.loaded_from = str(directory)
    return model


def _order(model: TextModel, label_names: Sequence[str], directory: Path) -> None:
    """Put the outputs in the order of `label_names`. Learned activation ranges, which have no classes, stay valid."""
    both = (directory / RANGES).is_file() and (directory / WEIGHTS).is_file()
    belong = both and model.learned_ranges[0] == sha256(directory / WEIGHTS)
    model.order_outputs(label_names, "the requested classes")
    if belong:
        model.learned_ranges = hashlib.sha256(_weights(model)).hexdigest(), model.learned_ranges[1]


def save_directory(model: TextModel, directory: str | Path, *, recipe: dict[str, Any] | None = None) -> Path:
    """Write `model` and its tokenizer to a directory, as a whole or not at all.

    `load_directory` reads it; transformers' `from_pretrained` as well, if it knows the architecture.

    Args:
        model: the model.
        directory: replaced as a whole if it exists.
        recipe: how the model was made, for recipe.json.
    """
    with atomic_directory(directory) as temporary:
        write_model(model, temporary, recipe)
    return Path(directory)


def write_model(model: TextModel, directory: Path, recipe: dict[str, Any] | None = None) -> None:
    """Write the files of a student directory into an existing directory; arguments as for `save_directory`."""
    content = _weights(model)
    atomic_write(directory / WEIGHTS, content)
    write_ranges(model, directory / RANGES, hashlib.sha256(content).hexdigest())
    atomic_write(directory / CONFIG, json.dumps(config_json(model), indent=2) + "\n")
    if model.tokenizer is not None:
        model.tokenizer.save(directory)
    if model.label_names:
        atomic_write(directory / LABELS, "\n".join(model.label_names) + "\n")
    if recipe is not None:
        atomic_write(directory / "recipe.json", json.dumps(recipe, indent=2, default=str) + "\n")


def _weights(model: TextModel) -> bytes:
    """Return the content of model.safetensors."""
    tensors = {}
    for name, variable, transpose in chain(encoder_names(model), pooler_names(model), head_names(model)):
        value = np.asarray(variable.numpy(), "float32")
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    return save(tensors, metadata={"format": "pt"})
