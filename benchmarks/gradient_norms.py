"""Norm of each loss term's gradient at the first step of each stage, for every recipe: which terms pull, and how hard.

    python benchmarks/gradient_norms.py DATA --teacher hf:TEACHER --results benchmarks/results/gradient_norms.json --table TABLE.md \\
        --general text=demo:plain-text general_teacher=hf:MLM megabytes=0.2

Weighted terms, over all trainable variables, on the first batch of 32 rows. Students and settings are those of recipes.py.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import keras

from recipes import CELLS
from tfdistill.data.sources import load_data
from tfdistill.files import atomic_write
from tfdistill.load import load
from tfdistill.recipe import parse_settings
from tfdistill.recipes import find
from tfdistill.runner import train

MORE = {
    "xtremedistil, joint": ("xtremedistil", ("version=joint",)),
    "mobilebert, all at once": ("mobilebert", ("schedule=auxiliary",)),
}


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| recipe | stage | norm of each term's gradient |", "|---|---|---|"]
    for recipe, stages in found.items():
        for stage, norms in stages.items():
            said = ", ".join(f"{name.replace('_', ' ')} {norm:.3g}" for name, norm in norms.items())
            lines.append(f"| `{recipe}` | {stage} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="directory with train, dev and test")
    parser.add_argument("--teacher", required=True, help="hf:DIR of the fine-tuned teacher")
    parser.add_argument("--general", nargs="+", default=[], help="settings of general stages: text=… general_teacher=…")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    teacher = load(options.teacher)
    data = load_data(options.data, label_names=teacher.label_names)
    splits = {name: split.take(range(min(options.rows, len(split)))) for name, split in data.splits.items()}
    data = replace(data, splits={name: splits[name] for name in ("train", "dev")})
    wanted = {name: (name, cell.settings) for name, cell in CELLS.items()} | MORE
    found: dict[str, dict[str, dict[str, float]]] = {}
    for label, (name, settings) in wanted.items():
        if name in CELLS and CELLS[name].general and not options.general:
            continue
        module = find(name)
        more = options.general if name in CELLS and CELLS[name].general and label == name else []
        keras.utils.set_random_seed(1)
        made = module.recipe(teacher, data, parse_settings(module.Settings, [*settings, *more]))
        found[label] = train(made, seed=1, max_steps=1, gradient_norms=True, score_test=False).gradient_norms
        atomic_write(options.results, json.dumps(found, indent=1) + "\n")
    print(table(found))
    if options.table:
        atomic_write(options.table, table(found))


if __name__ == "__main__":
    main()
