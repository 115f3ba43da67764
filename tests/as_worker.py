"""A recipe trained for a few steps as one of several workers, which TF_CONFIG names: `as_worker.py OUT NAME [SETTING …]`.

The first worker writes weights and losses to OUT. The test that compares them with one device's trains the same (`trained`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np


def trained(name: str, settings: list[str]) -> tuple[list[np.ndarray], list[float]]:
    """(the student's weights, the losses) after four steps of each stage, with SGD and without dropout."""
    from tiny_recipes import data, make, without_chance

    from tfdistill.training.runner import train

    keras.utils.set_random_seed(1)
    result = train(without_chance(make(name, data(36), settings), "sgd"), seed=1, max_steps=4)
    return result.student.get_weights(), [point["loss"] for point in result.curve if "loss" in point]


def main(out: Path, name: str, settings: list[str]) -> None:
    from tfdistill.system.devices import training_on
    from tfdistill.system.workers import is_chief

    with training_on("multiworker"):
        weights, losses = trained(name, settings)
        if is_chief():
            np.savez(out, *weights, losses=losses)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
