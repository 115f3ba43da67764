"""Every recipe for a few steps, for test_devices.py: devices.py STRATEGY OUT TEXT. The chief writes OUT/NAME.npz: weights and losses.

Dropout is off and the optimizer SGD, so that what is left between devices is the order of sums.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from tiny_recipes import SMALL, data, make, teacher, with_general_stage, without_chance

from tfdistill.system.devices import training_on
from tfdistill.system.workers import is_chief
from tfdistill.training.runner import train

STEPS = 3


def cases(place: Path, text: Path) -> dict[str, tuple[str, list[str]]]:
    """Name: (recipe, settings). Those with a stage on plain text have it."""
    place.mkdir(parents=True, exist_ok=True)
    made = {name: (name, ["rate=0"] if name == "layerdrop" else []) for name in SMALL}
    for name in ("tinybert", "distilbert", "dualtrain_sharedproj"):
        made[name] = (name, with_general_stage(name, place, text))
    return made


def main(spec: str, out: Path, text: Path) -> None:
    with training_on(spec):
        for number, (name, (recipe, settings)) in enumerate(cases(out / f"models-{is_chief():d}", text).items()):
            keras.utils.set_random_seed(1)
            made = without_chance(make(recipe, data(36), settings, teacher(layers=2)), "sgd")
            result = train(made, seed=1, max_steps=STEPS)
            losses = [point["loss"] for point in result.curve if "loss" in point]
            if is_chief():
                np.savez(out / f"{name}.npz", *result.student.get_weights(), losses=losses)
                print(f"{number + 1}: {name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
