"""Recipes: one module for each paper, with `Settings` and `recipe(teacher, data, settings) -> Recipe`.

Fine-tuning and pre-training, which distil nothing, are recipes too; they have commands of their own. Recipes may import
`training` and the rooms below it.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from tfdistill.errors import UserError, nearest

WITHOUT_A_TEACHER = ("finetune", "pretrain")


def names() -> list[str]:
    """Return the names of all recipes that distil."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_") and name not in WITHOUT_A_TEACHER)


def find(name: str) -> ModuleType:
    """Return the module of a recipe.

    Raises:
        UserError: there is no such recipe; the message names the nearest one.
    """
    if name not in names():
        raise UserError(f"there is no recipe '{name}'. Choose from {', '.join(names())}{nearest(name, names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def docstring(name: str) -> str:
    """Return the docstring of a recipe without importing it, which would import TensorFlow."""
    (folder,) = __path__
    return ast.get_docstring(ast.parse(Path(folder, f"{name}.py").read_text("utf-8"))) or ""
