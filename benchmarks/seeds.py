"""Accuracies of the main job over several seeds: `python benchmarks/seeds.py --seeds 1 2 3 --out benchmarks/results/seeds.json`.

Trains everything that `tfdistill quickstart` trains, without export. One line a seed is written as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from tfdistill.files import atomic_write
from tfdistill.quiet import import_tensorflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/seeds.json"))
    options = parser.parse_args()
    import_tensorflow()
    from tfdistill.quickstart import Plan, train_all

    runs = []
    for seed in options.seeds:
        _, lowest, trained, rows = train_all(Plan(), seed)
        found = {
            f"{each.model}, {each.method}": {
                "dev": each.result.scores["dev"]["accuracy"],
                "test": each.result.scores["test"]["accuracy"],
                "learning_rate": each.result.learning_rate,
                "seconds": round(each.result.seconds, 1),
            }
            for each in trained
        }
        floor = {"dev": lowest["dev"], "test": lowest["test"]}
        runs.append({"seed": seed, "student_rows": rows, "scores": {**found, "TF-IDF + logistic regression": floor}})
        print(json.dumps(runs[-1]), flush=True)
        means = {
            name: {split: statistics.fmean(run["scores"][name][split] for run in runs) for split in ("dev", "test")}
            for name in runs[0]["scores"]
        }
        atomic_write(options.out, json.dumps({"plan": vars(Plan()), "runs": runs, "means": means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
