"""Load data of any kind by its name."""

from __future__ import annotations

from collections.abc import Sequence

from tfdistill.data.conll import load_conll
from tfdistill.data.dataset import Data
from tfdistill.data.question_data import load_squad_directory
from tfdistill.data.text_sources import load_data


def needs_tensorflow(spec: str) -> bool:
    """Return whether data are read by TensorFlow: those of TensorFlow Datasets."""
    return spec.startswith("tfds:")


def load_any(
    spec: str,
    *,
    label_names: Sequence[str] | None = None,
    task: str | None = None,
    separate_unlabelled: bool = False,
) -> Data:
    """Load `conll:DIR` (see `load_conll`), `squad:DIR` (see `load_squad_directory`), or any name that `load_data` accepts.

    The arguments and errors are those of `load_data`.
    """
    kind, _, name = spec.partition(":")
    if kind == "conll":
        return load_conll(name, label_names=label_names)
    if kind == "squad":
        return load_squad_directory(name)
    return load_data(spec, label_names=label_names, task=task, separate_unlabelled=separate_unlabelled)
