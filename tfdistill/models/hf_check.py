"""Check a foreign model directory before anything is built: config.json against the header of the weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, listing
from tfdistill.models.distilbert_config import NAMES_IN_BERT
from tfdistill.models.hf_config import CONFIG
from tfdistill.models.hf_names import PREFIXES, Named, encoder_names, pooler_names, static_pooler_names
from tfdistill.models.hf_weights import found_name, require_numbers
from tfdistill.models.outline import outline
from tfdistill.models.tasks import NOT_TRANSFORMERS
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.console import say
from tfdistill.text.tokenizer import Tokenizer

_IN_DISTILBERT = {bert: own for own, bert in NAMES_IN_BERT.items()}
_LAYER = re.compile(r"(?:\blayer\.|^forward_|^backward_|^convolution_)(\d{1,9})\.")
# Tensors of heads, which a model for another task does not need, and buffers; and those of poolers.
_HEADS = re.compile(
    r"^(\w+\.)?(cls|classifier|qa_outputs|vocab_\w+|head|lm_head|predictions|sop_classifier|generator_\w+"
    r"|discriminator_\w+)\.|position_ids$|token_type_ids$"
)
_HEADS_AND_POOLER = re.compile(rf"{_HEADS.pattern}|^(\w+\.)?(pre_classifier|pooler|dense|dense_\d|token_score)\.")


def check_shapes(config: Any, tensors: Tensors, directory: Path) -> None:
    """Check that the file has each tensor of the encoder, with the shape that the config gives it.

    A line names tensors that have no place in the model.

    Args:
        config: the sizes.
        tensors: the weights; only their header is read.
        directory: the model's directory, for messages.

    Raises:
        UserError: a tensor is missing, or has another shape or type.
    """
    _check_layers(config, tensors, directory)
    model, prefix = outline(config), PREFIXES[config.family]
    used = set()
    for name, variable, transpose in encoder_names(model):
        found = found_name(tensors, name, prefix)
        if found is None:
            raise UserError(f"{tensors.path} has no tensor '{name}'{_under_another_name(name, tensors, prefix)}.")
        _check(found, variable.shape[::-1] if transpose else variable.shape, tensors, directory, config.family)
        used.add(found)
    for name, variable, transpose in _pooler(model):
        found = found_name(tensors, name, prefix)
        if found is not None:
            _check(found, variable.shape[::-1] if transpose else variable.shape, tensors, directory, config.family)
            used.add(found)
    optional = _HEADS if model.encoder.pooler is None else _HEADS_AND_POOLER
    others = [name for name in tensors if name not in used and not optional.search(name)]
    if others:
        say(
            f"{tensors.path}: {len(others)} tensors have no place in a {config.family} model of this {CONFIG} "
            f"and are not used: {listing((name[:80] for name in others), 3)}."
        )


def _under_another_name(name: str, tensors: Tensors, prefix: str) -> str:
    """Return what a file has in place of a tensor, and what to do, to end a message."""
    if any(".lora_" in each or ".base_layer." in each or each.startswith("base_model.model.") for each in tensors):
        return ", but those of a PEFT adapter. Merge it into the model (merge_and_unload) and save that"
    ending = name.removeprefix(prefix)
    other = next((each for each in tensors if each.endswith(ending)), None)
    if other is None:
        return f". Use the {CONFIG} of this model"
    advice = "Rename the tensors"
    if any(start and other.startswith(start) for start in PREFIXES.values() if start != prefix):
        advice = f"Correct `model_type` in {CONFIG}, or rename the tensors"
    return f", but {other[:120]}. {advice}"


def check_vocabulary(tokenizer: Tokenizer, config: Any, directory: Path) -> None:
    """Compare the number of tokens with the rows of the word table; a line names rows without a token.

    Raises:
        UserError: there are more tokens than rows.
    """
    tokens, rows = len(tokenizer.vocabulary), config.vocab_size
    if tokens > rows:
        raise UserError(
            f"{directory}: the vocabulary has {tokens} entries, the embedding {rows}. Use the vocabulary of this model."
        )
    if tokens < rows:
        say(f"{directory}: the vocabulary has {tokens} entries, the embedding {rows}: the other rows are never used.")


def _pooler(model: Any) -> Named:
    """Yield the tensors that only models for whole texts have."""
    if model.family == "static":
        yield from static_pooler_names(model.encoder.pooler)
    elif model.family != "bilstm":
        yield from pooler_names(model)
    elif model.encoder.pooler is not None:
        yield "dense.kernel", model.encoder.pooler.kernel, False
        yield "dense.bias", model.encoder.pooler.bias, False


def _check_layers(config: Any, tensors: Tensors, directory: Path) -> None:
    """Compare the number of layers, so that a wrong one is answered by its name and at once."""
    if config.family == "albert":  # whose weights do not show the number of layers
        return
    starts_at_1 = config.family in NOT_TRANSFORMERS
    numbers = [int(match[1]) for match in map(_LAYER.search, tensors) if match]
    stored = max(numbers, default=-1) + (0 if starts_at_1 else 1)
    fields = {"bilstm": "num_layers", "static": "convolution_layers", "distilbert": "n_layers"}
    field = fields.get(config.family, "num_hidden_layers")
    wanted = getattr(config, field)
    if wanted > max(stored, 0):
        raise UserError(
            f"{directory}: `{field}` is {wanted} in {CONFIG}, the weights have {max(stored, 0)} layers. "
            f"Use the {CONFIG} of this model."
        )


def _check(name: str, expected: tuple[Any, ...], tensors: Tensors, directory: Path, family: str) -> None:
    require_numbers(tensors, name)
    shape = tensors.shape(name)
    if shape == tuple(expected):
        return
    if len(shape) == len(expected):
        size, stored = next((size, stored) for size, stored in zip(expected, shape, strict=True) if size != stored)
        field = _IN_DISTILBERT.get(size.field, size.field) if family == "distilbert" else size.field
        raise UserError(
            f"{directory}: `{field}` gives '{name}' {size} in {CONFIG}, the weights have {stored}. "
            f"Use the {CONFIG} of this model."
        )
    raise UserError(
        f"{tensors.path}: '{name}' has shape {shape}, expected {tuple(map(int, expected))}. "
        f"Use the {CONFIG} of this model."
    )
