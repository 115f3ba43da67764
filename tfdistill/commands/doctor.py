"""Report what this machine can do."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

from tfdistill.errors import UserError


def doctor() -> None:
    """Versions, devices and optional parts.

    Example: `tfdistill doctor`
    """
    import importlib.util

    import tensorflow as tf

    from tfdistill.training.run_directory import versions

    table = Table(title="tfdistill doctor")
    table.add_column("part")
    table.add_column("state")
    for name, found in versions().items():
        table.add_row(name, found)
    for device in tf.config.list_physical_devices():
        table.add_row(device.device_type, device.name)
    optional_parts = {
        "quickstart": ("sklearn", "matplotlib"),
        "tfds": ("tensorflow_datasets",),
        "hub": ("keras_hub",),
        "tensorboard": ("tensorboard",),
        "mediapipe": ("mediapipe",),
        "augment": ("nltk", "pyarrow"),
    }
    for extra, modules in optional_parts.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        state = f"missing {', '.join(missing)}: pip install 'tfdistill[{extra}]'" if missing else "installed"
        table.add_row(f"[{extra}]".replace("[", "\\["), state)
    Console().print(table)


def _check_backend() -> None:
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND is '{backend}'; expected 'tensorflow': unset it, or set KERAS_BACKEND=tensorflow"
        )
