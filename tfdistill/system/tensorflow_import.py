"""Importing TensorFlow without the lines it writes to stderr by itself."""

from __future__ import annotations

import os
import sys

from tfdistill.errors import UserError


def import_tensorflow(use: bool = True) -> None:
    """Import TensorFlow with its native start-up messages (CUDA, oneDNN) swallowed; Python errors still surface.

    They come from C++ before any log level is read, so stderr itself is turned away while the import runs. Some come at the first
    use, which is therefore part of it unless `use` is false: a strategy has to be made before. Raises UserError for another
    backend of Keras.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND is '{backend}', expected 'tensorflow'. Unset it, or set KERAS_BACKEND=tensorflow."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        if use:
            tf.constant(0)  # the device list is made now, and its messages with it
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
