"""tfdistill: distil BERT into phone-sized text models with Keras and ship them as quantized TFLite.

Names are imported when they are first used, so that `import tfdistill` needs no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdistill.data.text_sources import load_data
    from tfdistill.distill import losses, mapping
    from tfdistill.distill.distiller import Distiller
    from tfdistill.distill.features import Features
    from tfdistill.distill.label_terms import HardLabels
    from tfdistill.distill.match import Match
    from tfdistill.errors import UserError
    from tfdistill.export.classifier import Classifier
    from tfdistill.models import presets
    from tfdistill.models.load import load, save
    from tfdistill.models.text_model import TextModel
    from tfdistill.text.tokenizer import Tokenizer
    from tfdistill.training.answers import AnswersTeacher
    from tfdistill.training.recipe import Recipe
    from tfdistill.training.run_directory import run
    from tfdistill.training.stage import Stage

_HOMES = {
    "AnswersTeacher": "tfdistill.training.answers",
    "Classifier": "tfdistill.export.classifier",
    "Distiller": "tfdistill.distill.distiller",
    "Features": "tfdistill.distill.features",
    "HardLabels": "tfdistill.distill.label_terms",
    "Match": "tfdistill.distill.match",
    "Recipe": "tfdistill.training.recipe",
    "Stage": "tfdistill.training.stage",
    "TextModel": "tfdistill.models.text_model",
    "Tokenizer": "tfdistill.text.tokenizer",
    "UserError": "tfdistill.errors",
    "load": "tfdistill.models.load",
    "load_data": "tfdistill.data.text_sources",
    "losses": "tfdistill.distill.losses",
    "mapping": "tfdistill.distill.mapping",
    "presets": "tfdistill.models.presets",
    "run": "tfdistill.training.run_directory",
    "save": "tfdistill.models.load",
}

__all__ = [
    "AnswersTeacher",
    "Classifier",
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
