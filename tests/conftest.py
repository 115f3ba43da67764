"""Set up every test: TensorFlow on two logical CPUs, fixed seeds, caches of the test session, and the rule of the fast tier."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

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

# No deadline, because shared machines pause. The same examples in every run, so that a failure comes back.
hypothesis.settings.register_profile("tfdistill", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("tfdistill")


# --- the fast tier: `make check` runs what is neither heavy nor slow -------------------------------------------------

_running: list[pytest.Item] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """Remember the test that runs."""
    _running[:] = [item]
    return (yield)


def _only_in_heavy_tests(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    def wrapped(*args: Any, **options: Any) -> Any:
        item = _running[0] if _running else None
        if item and not any(item.get_closest_marker(name) for name in ("heavy", "slow")):
            pytest.fail(f"{item.nodeid} {what}: mark it with @pytest.mark.heavy", pytrace=False)
        return method(*args, **options)

    return wrapped


@pytest.fixture(autouse=True, scope="session")
def heavy_tests_are_marked() -> Iterator[None]:
    """Fail every test that trains or starts a process (as conversion does) without the marker `heavy` or `slow`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", _only_in_heavy_tests(subprocess.Popen.__init__, "starts a process"))
        if find_spec("tensorflow"):
            import keras

            patch.setattr(keras.Model, "fit", _only_in_heavy_tests(keras.Model.fit, "trains a model"))
        yield


# --- every test -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Start each test from the same seeds."""
    random.seed(0)
    np.random.seed(0)
    if find_spec("tensorflow"):
        import keras

        keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def forgotten_graphs() -> Iterator[None]:
    """Drop custom gradients after each test: TensorFlow keeps each with its graph forever, 0.2 GB per training."""
    yield
    if find_spec("tensorflow"):
        from tensorflow.python.framework.ops import gradient_registry

        for name in [name for name in gradient_registry.list() if name.startswith("CustomGradient-")]:
            del gradient_registry._registry[name]


@pytest.fixture(autouse=True, scope="session")
def own_teacher_caches(tmp_path_factory) -> Iterator[None]:
    """Keep the teacher outputs of tests out of the user's cache folder."""
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
    """Return a function that runs the command in this process: words -> (exit code, stdout, stderr)."""
    from tfdistill.commands import app as cli

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfdistill", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call
