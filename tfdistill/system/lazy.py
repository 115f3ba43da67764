"""Keras and TensorFlow, imported when they are first used.

Modules that use them inside functions only take them from here: they can then be imported to check a request, which
takes a fraction of a second, before TensorFlow, which takes several. Modules whose classes inherit from Keras import it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from keras import ops
else:

    class _Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.__name__), name)

    keras, ops, tf = _Lazy("keras"), _Lazy("keras.ops"), _Lazy("tensorflow")

__all__ = ["keras", "ops", "tf"]
