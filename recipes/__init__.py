"""One module per paper. Each has `Settings` and `recipe(teacher, data, settings) -> tfdistill.training.recipe.Recipe`."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from tfdistill.errors import UserError, nearest


def names() -> list[str]:
    """Names of all recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> ModuleType:
    """The module of a recipe. Raises UserError with the nearest name for an unknown one."""
    if name not in names():
        raise UserError(f"recipe '{name}' is unknown; expected one of {', '.join(names())}{nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name}")


def docstring(name: str) -> str:
    """Return the docstring of a recipe without importing it, which would import TensorFlow."""
    (folder,) = __path__
    return ast.get_docstring(ast.parse(Path(folder, f"{name}.py").read_text("utf-8"))) or ""
