"""Write a model directory again with its weights in one safetensors file, under transformers' present names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tfdistill.errors import UserError
from tfdistill.models.google_config import with_architecture
from tfdistill.models.hf_check import check_shapes
from tfdistill.models.hf_config import CONFIG, config_of, read_config
from tfdistill.models.repository import SIDE_FILES
from tfdistill.models.weight_files.choose import WEIGHTS, open_weights
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.files import atomic_directory, atomic_write, require_regular
from tfdistill.text.tokenizer import Tokenizer

# Output tables that transformers ties to another tensor; with the same numbers they need not be in the file.
_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "vocab_projector.weight": "embeddings.word_embeddings.weight",
}
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")


def rewrite(source: Path, out: Path) -> Path:
    """Read a model directory with weights in any form, and write one with model.safetensors.

    Numbers and their dtype stay as they are. `gamma` and `beta` of a LayerNorm get their present
    names; buffers, and copies of tied tables, are left out.

    Args:
        source: the directory to read.
        out: the directory to write, as a whole or not at all.

    Returns:
        The file that the weights were read from.

    Raises:
        UserError: a file is missing or damaged, the architecture is not supported, or shapes do not fit.
    """
    if not source.is_dir():
        raise UserError(f"{source} is not a directory. Use one with the weights, {CONFIG} and vocab.txt.")
    raw = read_config(source)
    tensors = open_weights(source)
    raw = with_architecture(raw, tensors)
    check_shapes(config_of(raw, source, tensors), tensors, source)
    Tokenizer.from_directory(source)
    with atomic_directory(out) as temporary:
        weights = {name: np.ascontiguousarray(tensors[old]) for name, old in _names(tensors).items()}
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        atomic_write(temporary / CONFIG, json.dumps(_with_classes(raw, tensors), indent=2) + "\n")
        for name in SIDE_FILES:
            if (source / name).exists():
                require_regular(source / name, "Remove it.")
                shutil.copyfile(source / name, temporary / name)
    return tensors.path


def _names(tensors: Tensors) -> dict[str, str]:
    """Return the names of the tensors to write, with those in the file that was read."""
    names = {}
    for old in tensors:
        new = old.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if not old.endswith(_BUFFERS) and not _is_copy(old, tensors):
            names[old if new in tensors else new] = old
    return names


def _is_copy(name: str, tensors: Tensors) -> bool:
    tied = _TIED.get(name)
    other = next((each for each in tensors if tied and each.endswith(tied) and each != name), None)
    if other is None or tensors.shape(name) != tensors.shape(other):
        return False
    return np.array_equal(tensors[name], tensors[other])


def _with_classes(raw: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """Return a config with a name for each class: without them, transformers takes two."""
    if "classifier.weight" not in tensors or raw.get("id2label") or raw.get("num_labels"):
        return raw
    names = [f"LABEL_{n}" for n in range(tensors.shape("classifier.weight")[0])]
    ids = {"id2label": {str(n): name for n, name in enumerate(names)}}
    return {**raw, **ids, "label2id": {name: n for n, name in enumerate(names)}}
