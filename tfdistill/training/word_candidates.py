"""Find candidates for masked words with a masked language model, for augmentation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.augment.glove import GloVe
from tfdistill.augment.tinybert import Finder, MaskedLM
from tfdistill.errors import UserError
from tfdistill.models.limits import most_tokens
from tfdistill.models.load import load
from tfdistill.models.names import HF, kept_directory
from tfdistill.models.stored_head import MissingHead
from tfdistill.models.training_record import recipe_of
from tfdistill.models.weight_files.choose import weights_in
from tfdistill.system.files import student_directory
from tfdistill.system.lazy import tf

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

MASKED_LM_HEADS = ("masked_lm", "pretraining")


def fill_mask(model: TextModel) -> MaskedLM:
    """Return a function for the `k` most probable ids (B, k), the best first, at `masked_positions` (B, 1).

    The head is computed at that position only, so its cost does not grow with the length.
    Raises UserError for a model without a masked-language-model head.
    """
    if model.task not in MASKED_LM_HEADS:
        raise UserError(f"The model has the head {model.task}. Use one with a masked-language-model head (masked_lm).")
    ids = tf.TensorSpec((None, None), tf.int32)
    names = ("token_ids", "padding_mask", "segment_ids", "masked_positions")

    def best(inputs: dict[str, tf.Tensor], k: tf.Tensor) -> tf.Tensor:
        return tf.math.top_k(model(inputs, training=False)[:, 0], k).indices

    compiled = tf.function(best, input_signature=[dict.fromkeys(names, ids), tf.TensorSpec((), tf.int32)])
    size = model.config.vocab_size

    def candidates(inputs: dict[str, np.ndarray], k: int) -> np.ndarray:
        return compiled({name: tf.constant(inputs[name], tf.int32) for name in names}, min(k, size)).numpy()

    return candidates


def finder(model: TextModel, glove: GloVe | None = None, *, k: int = 15) -> Finder:
    """Make a finder of candidates for TinyBERT's augmentation, with queries as long as the model can read."""
    longest = most_tokens(model.config, 512)
    return Finder(model.tokenizer, fill_mask(model), glove, k=k, max_length=min(512, longest))


def load_masked_lm(source: str | os.PathLike) -> TextModel:
    """Load a model with its masked-language-model head from a Hugging Face directory or run directory.

    Raises UserError if there is none: a random head would predict noise.
    """
    try:
        return load(source, task="masked_lm", new_head=False)
    except MissingHead as error:
        raise UserError(
            f"{source} has no masked-language-model head. Use `--masked-lm DIR` with a pre-trained directory that "
            "has one, or train one on top of this encoder (tfdistill pretrain)."
        ) from error


def has_masked_lm(source: str | os.PathLike) -> bool:
    """Return whether a directory, or run directory, holds a masked-language-model head.

    Raises UserError for a directory that cannot be loaded, or whose family has no such head.
    """
    directory = kept_directory(source)
    try:
        return directory is not None and load(directory, task="masked_lm", new_head=False) is not None
    except MissingHead:
        return False


def own_masked_lm(teacher: TextModel) -> Path | None:
    """Return the directory of a teacher's masked LM: its own, or that of the model it was fine-tuned from; else None.

    The latter is the pre-trained BERT of TinyBERT's paper. Raises UserError for a family that has no such head.
    """
    own = teacher.loaded_from
    if own is not None:
        if has_masked_lm(own):
            return student_directory(own)
        before = _model_before(recipe_of(own))
        if before is not None and has_masked_lm(before):
            return before
    return None


def _model_before(recipe: dict[str, Any]) -> Path | None:
    """Return the directory of the model that an earlier run fine-tuned, if it is still on this machine."""
    commit = recipe.get("revisions", {}).get("student")
    name = f"{HF}{commit}" if commit else recipe.get("settings", {}).get("model")
    directory = kept_directory(name) if isinstance(name, str) else None
    if directory is None or not (directory / "config.json").is_file() or weights_in(directory) is None:
        return None
    return directory
