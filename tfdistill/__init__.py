"""tfdistill: distil BERT into phone-sized text models with Keras and ship them as quantized TFLite.

Names are imported when they are first used, so that `import tfdistill` needs no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdistill import losses, mapping
    from tfdistill.data.sources import load_data
    from tfdistill.data.tokenize import Tokenizer
    from tfdistill.distiller import Distiller
    from tfdistill.errors import UserError
    from tfdistill.features import Features
    from tfdistill.load import load, save
    from tfdistill.match import HardLabels, Match
    from tfdistill.models import presets
    from tfdistill.models.text import TextModel
    from tfdistill.recipe import Recipe
    from tfdistill.run_directory import run
    from tfdistill.stages import Stage

_HOMES = {
    "Distiller": "tfdistill.distiller",
    "Features": "tfdistill.features",
    "HardLabels": "tfdistill.match",
    "Match": "tfdistill.match",
    "Recipe": "tfdistill.recipe",
    "Stage": "tfdistill.stages",
    "TextModel": "tfdistill.models.text",
    "Tokenizer": "tfdistill.data.tokenize",
    "UserError": "tfdistill.errors",
    "load": "tfdistill.load",
    "load_data": "tfdistill.data.sources",
    "losses": "tfdistill.losses",
    "mapping": "tfdistill.mapping",
    "presets": "tfdistill.models.presets",
    "run": "tfdistill.run_directory",
    "save": "tfdistill.load",
}

__all__ = [
    "Distiller",
    "Features",
    "HardLabels",
    "Match",
    "Recipe",
    "Stage",
    "TextModel",
    "Tokenizer",
    "UserError",
    "load",
    "load_data",
    "losses",
    "mapping",
    "presets",
    "run",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfdistill' has no attribute '{name}'")
    home = importlib.import_module(_HOMES[name])
    value = home if name in ("losses", "mapping", "presets") else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
