"""Settings that have to stand before TensorFlow is imported, and fixed seeds."""

from __future__ import annotations

import os
import random
from importlib.util import find_spec

# The suite runs on CPUs only, so that its numbers are the same everywhere. Subprocesses inherit this.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("TF_USE_LEGACY_KERAS", None)

import hypothesis
import numpy as np
import pytest

if find_spec("tensorflow"):
    import tensorflow as tf

    # MirroredStrategy needs two devices to be tested; this is refused once TensorFlow has used the first one.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    )

    # Tiny graphs run for milliseconds, and Grappler works on each for a second.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# No deadline: shared machines pause. The same examples on every run: a failure has to come back.
hypothesis.settings.register_profile("tfdistill", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("tfdistill")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Each test starts from the same seeds, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if find_spec("tensorflow"):
        import keras

        keras.utils.set_random_seed(0)
