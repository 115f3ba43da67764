"""Print the norm of each loss term's gradient at the first step of each stage, for every recipe.

    python benchmarks/gradient_norms.py DATA --teacher hf:TEACHER --results benchmarks/results/gradient_norms.json --table TABLE.md \\
        --general text=demo:plain-text general_teacher=hf:MLM megabytes=0.2

The norms are those of weighted terms, over all trainable variables, on the first batch of 32 examples, with the students and
settings of recipes.py. `privileged` needs columns text_extra (see variants.py), stages on plain text need --general, and MobileBERT's
pre-training distillation needs --bottleneck. `--only` chooses recipes; other results are kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import keras

from recipes import CELLS, EXTRA
from tfdistill.data.text_sources import load_data
from tfdistill.models.load import load
from tfdistill.recipes import find
from tfdistill.system.files import atomic_write
from tfdistill.training.runner import train
from tfdistill.training.settings import parse_settings

GENERAL_ONLY = ("general.only=true", "general.length=64", "general.batch_size=32")
MORE = {
    "xtremedistil, joint": ("xtremedistil", ("joint=true",)),
    "mobilebert, all at once": ("mobilebert", ("schedule=auxiliary",)),
    "tinybert, general stage": ("tinybert", (*GENERAL_ONLY, "copies=0")),
    "mobilebert, general stages": ("mobilebert", GENERAL_ONLY),
}


def table(norms_of: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| recipe | stage | norm of each term's gradient |", "|---|---|---|"]
    for recipe, stages in norms_of.items():
        for stage, norms in stages.items():
            cells = ", ".join(f"{name.replace('_', ' ')} {norm:.3g}" for name, norm in norms.items())
            lines.append(f"| `{recipe}` | {stage} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="directory with train, dev and test")
    parser.add_argument("--teacher", required=True, help="hf:DIR of the fine-tuned teacher")
    parser.add_argument(
        "--general", nargs="+", default=[], help="settings of general stages: general.text=… general.teacher=…"
    )
    parser.add_argument("--bottleneck", help="hf:DIR of an IB-BERT with heads for masked words and next sentences")
    parser.add_argument("--only", nargs="+", choices=[*CELLS, *EXTRA, *MORE], help="some of them")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    teacher = load(options.teacher)
    data = load_data(options.data, label_names=teacher.label_names)
    splits = {name: split.take(range(min(options.rows, len(split)))) for name, split in data.splits.items()}
    data = replace(data, splits={name: splits[name] for name in ("train", "dev")})
    wanted = {name: (name, tuple(cell.settings)) for name, cell in (CELLS | EXTRA).items()} | MORE
    norms_of: dict[str, dict[str, dict[str, float]]] = {}
    if options.only and options.results.is_file():
        norms_of = json.loads(options.results.read_text("utf-8"))
    for label, (name, settings) in wanted.items():
        on_text = label.endswith(("general stage", "general stages")) or (label in CELLS and CELLS[label].general)
        more = options.general if on_text else []
        if name == "mobilebert" and on_text and options.bottleneck:
            more = [*(m for m in more if not m.startswith("general.teacher")), f"general.teacher={options.bottleneck}"]
        if options.only and label not in options.only:
            continue
        if (on_text and not more) or (label == "mobilebert, general stages" and not options.bottleneck):
            continue
        if name == "privileged" and not data.splits["train"].texts_extra:
            continue
        module = find(name)
        keras.utils.set_random_seed(1)
        made = module.recipe(teacher, data, parse_settings(module.Settings, [*settings, *more]))
        norms_of[label] = train(made, seed=1, max_steps=1, gradient_norms=True, score_test=False).gradient_norms
        atomic_write(options.results, json.dumps(norms_of, indent=1) + "\n")
    print(table(norms_of))
    if options.table:
        atomic_write(options.table, table(norms_of))


if __name__ == "__main__":
    main()
