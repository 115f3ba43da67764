"""Load data of any kind by its name."""

from __future__ import annotations

from collections.abc import Sequence

from tfdistill.data.conll import load_conll
from tfdistill.data.dataset import Data
from tfdistill.data.question_data import load_squad_directory
from tfdistill.data.text_sources import load_data


def load_any(spec: str, *, label_names: Sequence[str] | None = None, separate_unlabelled: bool = False) -> Data:
    """Load `conll:DIR` (see `load_conll`), `squad:DIR` (see `load_squad_directory`), or any name that `load_data` knows.

    Args:
        spec: the name of the data.
        label_names: classes or tags in the order to number them, such as a teacher's.
        separate_unlabelled: move rows without a label to the split "unlabelled".

    Raises:
        UserError: as these functions.
    """
    kind, _, name = spec.partition(":")
    if kind == "conll":
        return load_conll(name, label_names=label_names)
    if kind == "squad":
        return load_squad_directory(name)
    return load_data(spec, label_names=label_names, separate_unlabelled=separate_unlabelled)
