"""Measure how long commands and mistakes take to be answered, of several installations in turn.

    python benchmarks/startup.py BEFORE/.venv/bin/python .venv/bin/python --repeats 5

Each command runs in a folder with small data and models. Prints a table of medians: seconds, and seconds of the processor,
which other processes on the machine change less.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = Path(__file__).parents[1] / "tests" / "models" / "tiny_bert"
TRAIN = ["train", "soft_targets", "--data", "data.tsv", "--out", "new"]
COMMANDS = {
    "--version": ["--version"],
    "train --hlep": ["train", "--hlep"],
    "recipes": ["recipes"],
    "recipes tinybert": ["recipes", "tinybert"],
    "doctor": ["doctor"],
    "train without --teacher": TRAIN,
    "train --set epoch=1": [*TRAIN, "--teacher", "T", "--set", "epoch=1"],
    "train tinybert, teacher too shallow": ["train", "tinybert", *TRAIN[2:], "--teacher", "T"],
    "export --length 4": ["export", "T", "--out", "new", "--length", "4"],
    "export --quantize int3": ["export", "T", "--out", "new", "--quantize", "int3"],
    "augment --p-mask 7": ["augment", "--data", "data.tsv", "--out", "new", "--p-mask", "7"],
    "quickstart --out data": ["quickstart", "--out", "taken"],
    "finetune, wrong columns": ["finetune", "T", "--data", "columns.csv", "--out", "new"],
    "verify nothing": ["verify", "nothing"],
    "compare nothing": ["compare", "nothing"],
}


def prepare(folder: Path) -> None:
    """Write data, a model and an occupied directory."""
    shutil.copytree(TINY, folder / "T")
    rows = ["a b\tLABEL_0", "b c\tLABEL_1", "c d\tLABEL_2"] * 20
    (folder / "data.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (folder / "columns.csv").write_text("utterance,intent\na b,x\nb c,y\n")
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.txt").write_text("mine")


def seconds(python: str, words: list[str], folder: Path) -> tuple[float, float]:
    """Run a command and return its seconds and those of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([python, "-m", "tfdistill", *words], cwd=folder, capture_output=True, check=False, env=os.environ)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="*", default=[sys.executable])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="measure only the commands whose names contain this")
    options = parser.parse_args()
    options.pythons = [os.path.abspath(python) for python in options.pythons]  # commands run in another folder
    print("| command | " + " | ".join(f"{python}: s | processor s" for python in options.pythons) + " |")
    print("|---|" + "---:|---:|" * len(options.pythons))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        for name, words in COMMANDS.items():
            if options.only not in name:
                continue
            runs = [[seconds(python, words, folder) for python in options.pythons] for _ in range(options.repeats)]
            medians = [statistics.median(each) for run in zip(*runs, strict=True) for each in zip(*run, strict=True)]
            print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in medians) + " |", flush=True)


if __name__ == "__main__":
    main()
