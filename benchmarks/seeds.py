"""Run the quickstart with several seeds: `python benchmarks/seeds.py --seeds 1 2 3 --out benchmarks/results/seeds.json`.

Runs `tfdistill quickstart` once for each seed into --runs, unless the seed's report exists. Writes each seed's numbers, their means
and the differences that matter, and prints them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tfdistill.system.files import atomic_write


def accuracies(report: dict[str, Any]) -> dict[str, float]:
    """Test accuracy in percent of each model and way of training, of the Keras model where there are files too."""
    results = {}
    for row in report["rows"]:
        name = f"{row['model']}, {row['method']}"
        results.setdefault(name, 100 * (row.get("keras_test_accuracy") or row["test_accuracy"]))
    return results


def differences(results: dict[str, float]) -> dict[str, float]:
    """In points: what the issue asks of the main job."""
    student, bilstm = "student 3 layers, distilled", "BiLSTM, distilled"
    return {
        "teacher above TF-IDF": results["teacher, labels"] - results["TF-IDF + logistic regression, labels"],
        "3-layer student below teacher": results["teacher, labels"] - results[student],
        "3-layer student above labels alone": results[student] - results["student 3 layers, labels"],
        "BiLSTM above labels alone": results[bilstm] - results["BiLSTM, labels"],
    }


def train_only(seed: int, directory: Path) -> None:
    """Write a report of the accuracies alone: no files are made of the models."""
    import time

    from tfdistill.commands.quickstart_job import Plan, train_all

    started = time.monotonic()
    _, lowest, trained, _ = train_all(Plan(), seed)
    rows = [
        {"model": each.model, "method": each.method, "test_accuracy": each.result.scores["test"]["accuracy"]}
        for each in trained
    ]
    rows.append({"model": lowest.model, "method": lowest.method, "test_accuracy": lowest.test_accuracy})
    report = {"rows": rows, "seconds": time.monotonic() - started, "train_only": True}
    atomic_write(directory / "report.json", json.dumps(report, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"), help="directory for the runs themselves")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/seeds.json"))
    parser.add_argument("--train-only", action="store_true", help="accuracies alone, without export")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        directory = options.runs / f"seed-{seed}"
        if options.train_only and not (directory / "report.json").is_file():
            train_only(seed, directory)
        if not (directory / "report.json").is_file():
            command = ["-m", "tfdistill", "quickstart", "--seed", str(seed), "--out", str(directory)]
            subprocess.run([sys.executable, *command], check=True)
        report = json.loads((directory / "report.json").read_text("utf-8"))
        results = accuracies(report)
        # Training alone, perhaps several side by side, is no time of the main job.
        minutes = None if report.get("train_only") else round(report["seconds"] / 60, 1)
        runs.append({"seed": seed, "test_accuracy": results, "points": differences(results), "minutes": minutes})
    means = {
        kind: {name: statistics.fmean(run[kind][name] for run in runs) for name in runs[0][kind]}
        for kind in ("test_accuracy", "points")
    }
    atomic_write(options.out, json.dumps({"runs": runs, "means": means}, indent=2) + "\n")

    table = Table(title="test accuracy in %, differences in points")
    for heading in ("", *(f"seed {run['seed']}" for run in runs), "mean"):
        table.add_column(heading, justify="right" if heading else "left")
    for kind in ("test_accuracy", "points"):
        for name, mean in means[kind].items():
            table.add_row(name, *(f"{run[kind][name]:.1f}" for run in runs), f"{mean:.1f}")
        table.add_section()
    table.add_row("minutes", *("–" if run["minutes"] is None else f"{run['minutes']:.1f}" for run in runs), "")
    Console().print(table)


if __name__ == "__main__":
    main()
