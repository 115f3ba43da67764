"""Import TensorFlow without the lines that it writes to stderr."""

from __future__ import annotations

import os
import sys

from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.native_output import without_native_stderr


def import_tensorflow(use: bool = True) -> None:
    """Import TensorFlow and hide its native start-up messages (CUDA, oneDNN); Python errors still appear.

    It takes several seconds, so a line comes first. Check before what can be checked without it.

    Args:
        use: make a first tensor too, which prints further messages. False if a strategy has to be made before.

    Raises:
        UserError: KERAS_BACKEND names another backend.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND is '{backend}', expected 'tensorflow'. Unset it, or set KERAS_BACKEND=tensorflow."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules:
        say("starting TensorFlow …")
    with without_native_stderr():
        import tensorflow as tf

        if use:
            tf.constant(0)  # the device list is made now, and its messages with it
