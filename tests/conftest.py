"""Settings that have to stand before TensorFlow is imported, and fixed seeds."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def forgotten_graphs() -> Iterator[None]:
    """TensorFlow keeps every use of a custom gradient for ever, and with it the graph it stands in: 0.2 GB a training."""
    yield
    if find_spec("tensorflow"):
        from tensorflow.python.framework.ops import gradient_registry

        for name in [name for name in gradient_registry.list() if name.startswith("CustomGradient-")]:
            del gradient_registry._registry[name]


@pytest.fixture(autouse=True, scope="session")
def own_teacher_caches(tmp_path_factory) -> Iterator[None]:
    """No test leaves the outputs of its teachers in the user's cache folder, or finds them there."""
    if not find_spec("tensorflow"):
        yield
        return
    from tfdistill.training import teacher_cache

    place = tmp_path_factory.mktemp("teacher-caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher_cache, "folder", lambda: place)
        yield


@pytest.fixture
def tfdistill(monkeypatch, capsys):
    """Run the command in this process; returns (exit code, stdout, stderr)."""
    from tfdistill.commands import app as cli

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfdistill", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call
