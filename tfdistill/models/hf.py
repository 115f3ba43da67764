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
from tfdistill.models.heads import HEADS
from tfdistill.models.hf_check import check_shapes
from tfdistill.models.hf_config import CONFIG, config_json, config_of, read_config
from tfdistill.models.hf_labels import LABELS, label_names_in
from tfdistill.models.hf_names import PREFIXES, encoder_names, head_names, pooler_names
from tfdistill.models.hf_weights import RANGES, fill, find, head_size, read_ranges, write_ranges
from tfdistill.models.text_model import TextModel
from tfdistill.models.weight_files.choose import WEIGHTS, open_weights
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.files import atomic_directory, atomic_write
from tfdistill.text.tokenizer import Tokenizer


def load_directory(
    directory: str | Path,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    lower_case: bool | None = None,
) -> TextModel:
    """Read a Hugging Face directory of a BERT, DistilBERT or MobileBERT model, or a student directory.

    The head is the one in the directory. If the directory has none, or one for another task or
    number of outputs than requested, the model gets a new head with random weights.

    Args:
        directory: holds config.json, model.safetensors and vocab.txt.
        num_outputs: the size of the logits' last axis.
        task: one of `tfdistill.models.heads.HEADS`; by default the one in the directory, or classification.
        label_names: class names, in the order of the logits.
        lower_case: overrides tokenizer_config.json.

    Returns:
        The model, with its tokenizer in `tokenizer` and the directory in `loaded_from`.

    Raises:
        UserError: a file is missing or damaged, the architecture is not supported, or shapes do not fit.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory. Use one with {CONFIG}, {WEIGHTS} and vocab.txt.")
    raw = read_config(directory)
    tensors = open_weights(directory)
    config = config_of(raw, directory, tensors)
    check_shapes(config, tensors, directory)
    tokenizer = Tokenizer.from_directory(directory, lower_case=lower_case)
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise UserError(
            f"{directory}: the vocabulary has {len(tokenizer.vocabulary)} entries, the embedding {config.vocab_size}. "
            "Use the vocabulary of this model."
        )
    stored = _task(raw, tensors)
    task = task or stored or "classification"
    size, same_head = None, False
    if task in HEADS and HEADS[task].labelled:
        if stored is not None and HEADS[stored].architecture == HEADS[task].architecture:
            size = head_size(tensors)
        same_head = size is not None and num_outputs in (None, size)
        if same_head:
            num_outputs, label_names = size, label_names or label_names_in(directory, raw)
    model = TextModel(config, num_outputs, task, label_names)
    if not HEADS[task].labelled:
        same_head = all(find(tensors, name, "") is not None for name, _, _ in head_names(model))
        if same_head and raw.get("tie_word_embeddings") is False and HEADS[task].over_vocabulary:
            raise UserError(f"{directory}/{CONFIG}: `tie_word_embeddings` is false. Only tied heads can be read.")
    prefix = PREFIXES[model.family]
    fill(encoder_names(model), tensors, prefix)
    # A base or token-level checkpoint has no pooler. It starts with random weights, as the head does.
    poolers = list(pooler_names(model))
    if all(find(tensors, name, prefix) is not None for name, _, _ in poolers):
        fill(iter(poolers), tensors, prefix)
    if same_head:
        fill(head_names(model), tensors, prefix)
    model.tokenizer, model.loaded_from = tokenizer, str(directory)
    if (directory / RANGES).exists():
        model.learned_ranges = read_ranges(directory / RANGES)
    return model


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
    tensors = {}
    for name, variable, transpose in chain(encoder_names(model), pooler_names(model), head_names(model)):
        value = np.asarray(variable.numpy(), "float32")
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    content = save(tensors, metadata={"format": "pt"})
    atomic_write(directory / WEIGHTS, content)
    write_ranges(model, directory / RANGES, hashlib.sha256(content).hexdigest())
    atomic_write(directory / CONFIG, json.dumps(config_json(model), indent=2) + "\n")
    if model.tokenizer is not None:
        model.tokenizer.save(directory)
    if model.label_names:
        atomic_write(directory / LABELS, "\n".join(model.label_names) + "\n")
    if recipe is not None:
        atomic_write(directory / "recipe.json", json.dumps(recipe, indent=2, default=str) + "\n")


def _task(raw: dict[str, Any], tensors: Tensors) -> str | None:
    """Return the task that the directory was saved for; None for an encoder without a head."""
    architecture = str((raw.get("architectures") or [""])[0])
    for name, head in HEADS.items():
        if architecture.endswith(head.architecture) and head.problem_type is None:
            return name
    if head_size(tensors) is None:
        return None
    problems = {head.problem_type: name for name, head in HEADS.items()}
    return problems.get(raw.get("problem_type") or "", "classification")
