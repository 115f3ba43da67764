"""A masked language model as augmentation asks for it: the most probable pieces at a masked position."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors import safe_open

from tfdistill.augment.glove import GloVe
from tfdistill.augment.tinybert import Finder, MaskedLM
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.hf_names import head_names
from tfdistill.models.load import load, recipe_of
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import say
from tfdistill.system.files import student_directory
from tfdistill.training.task_masked_lm import masked_lm_of_task

TASKS = ("masked_lm", "pretraining")


def fill_mask(model: TextModel) -> MaskedLM:
    """The `k` most probable ids (B, k) at the first of `masked_positions` (B, 1) of each row, most probable first.

    The head is computed at that position only, so its cost does not grow with the length.
    Raises UserError for a model without a masked-language-model head.
    """
    if model.task not in TASKS:
        raise UserError(f"got a {model.task} model; expected one with a masked-language-model head (masked_lm)")
    ids = tf.TensorSpec((None, None), tf.int32)
    names = ("token_ids", "padding_mask", "segment_ids", "masked_positions")

    def best(inputs: dict[str, tf.Tensor], k: tf.Tensor) -> tf.Tensor:
        return tf.math.top_k(model(inputs, training=False)[:, 0], k).indices

    compiled = tf.function(best, input_signature=[dict.fromkeys(names, ids), tf.TensorSpec((), tf.int32)])
    size = model.config.vocab_size

    def ask(inputs: dict[str, np.ndarray], k: int) -> np.ndarray:
        return compiled({name: tf.constant(inputs[name], tf.int32) for name in names}, min(k, size)).numpy()

    return ask


def finder(model: TextModel, glove: GloVe | None = None, *, k: int = 15) -> Finder:
    """What finds candidates for TinyBERT's augmentation with `model`, in queries as long as the model can read."""
    longest = getattr(model.config, "max_position_embeddings", 512)
    return Finder(model.tokenizer, fill_mask(model), glove, k=k, max_length=min(512, longest))


def load_masked_lm(source: str | os.PathLike) -> TextModel:
    """A model with the masked-language-model head that its Hugging Face directory, or run directory, holds.

    Raises UserError when there is none: a head made at random would predict noise.
    """
    model = load(student_directory(source), task="masked_lm")
    missing = _missing(model, student_directory(source))
    if missing:
        raise UserError(
            f"{source} has no masked-language-model head (no '{missing[0]}'); expected a pre-trained directory with one: "
            "give it with --mlm DIR, or train one on top of this encoder with tfdistill pretrain"
        )
    return model


def has_masked_lm(source: str | os.PathLike) -> bool:
    """Whether a directory, or run directory, holds a masked-language-model head.

    Raises UserError for one that cannot be loaded, or whose family has no such head.
    """
    directory = student_directory(source)
    return directory.is_dir() and not _missing(load(directory, task="masked_lm"), directory)


def masked_lm_for(
    teacher: TextModel, split: Split, *, minutes: float | None = None, steps: int | None = None, seed: int = 1
) -> Path:
    """The directory of the masked LM that goes with a teacher: `own_masked_lm`, if it has one; else one trained on the texts of
    `split`, for so many minutes or `steps`.

    Raises UserError as `masked_lm_of_task`, and for a family that has no such head.
    """
    found = own_masked_lm(teacher)
    if found is None:
        return masked_lm_of_task(teacher, split, minutes=minutes, steps=steps, seed=seed)
    if teacher.loaded_from is None or found != student_directory(teacher.loaded_from):
        say(f"the texts are augmented by {found}, of which the teacher was made")
    return found


def own_masked_lm(teacher: TextModel) -> Path | None:
    """The teacher's directory, if it has the head; else the one that `tfdistill finetune` made it of, which is the pre-trained BERT of
    TinyBERT's paper; else None.

    Raises UserError for a family that has no such head.
    """
    own = teacher.loaded_from
    if own is not None:
        if has_masked_lm(own):
            return student_directory(own)
        before = recipe_of(own).get("settings", {}).get("model")
        if before is not None and _is_there(before) and has_masked_lm(before):
            return student_directory(before)
    return None


def _is_there(source: str) -> bool:
    """Whether what a run of former days names is still a model's directory."""
    return all(
        (student_directory(source) / name).is_file() for name in ("config.json", "model.safetensors", "vocab.txt")
    )


def _missing(model: TextModel, directory: Path) -> list[str]:
    """Tensors of the head that the file lacks."""
    with safe_open(directory / "model.safetensors", "numpy") as file:
        there = {name.replace(".gamma", ".weight").replace(".beta", ".bias") for name in file.keys()}  # noqa: SIM118
    return [name for name, _, _ in head_names(model) if name not in there]
