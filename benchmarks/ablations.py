"""Conclusions of the papers, each tried by one controlled pair: two students that differ in one thing.

    python benchmarks/ablations.py DATA --runs runs/ablations --teacher runs/clinc150/teacher/student --seeds 1 2

DATA is a directory with train, dev and test. Start, steps, texts and learning-rate candidates are those of the pair's other half.
A cell is one half and seed, in a process of its own; one whose result is there is not run again. `--only` takes some of the
pairs, `--show` writes the table and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes import BOTH, SMALL, Cell, add_common, finish, run_cell

RATES = (3e-4, 6e-4)


@dataclass(frozen=True)
class Half:
    """One of the two students: a recipe with settings."""

    recipe: str
    settings: tuple[str, ...]
    rates: tuple[float, ...] = RATES
    small_teacher: bool = False  # the student of `three_layers`, in place of the teacher


@dataclass(frozen=True)
class Pair:
    """A conclusion, and the two students whose difference speaks for it.

    Args:
        claim: in words; what it says of `first` is that it is the better one.
        gain: the scores compared are gains over labels alone, not the scores themselves.
    """

    claim: str
    source: str
    first: Half
    second: Half
    gain: bool = False


def _soft(*settings: str, **changes: Any) -> Half:
    return Half("soft_targets", ("epochs=2", "dropout=0", "soft_weight=0.9", *settings), **changes)


def _thin(*settings: str) -> Half:
    return Half("mobilebert", ("epochs=1", "transfer_epochs=0.17", *settings), SMALL)


PAIRS = {
    "compression": Pair("more compression costs score", "all", _soft("num_layers=3"), _soft("num_layers=1")),
    "teacher_size": Pair(
        "a larger teacher is better (the seeds say: not always)",
        "Mirzadeh et al. 2020 and others",
        Half("bilstm", ("epochs=1", "copies=2", "dropout=0.3"), SMALL),
        Half("bilstm", ("epochs=1", "copies=2", "dropout=0.3"), SMALL, small_teacher=True),
    ),
    "intermediate": Pair(
        "intermediate representations beat predictions alone",
        "Patient KD, TinyBERT",
        _soft("num_layers=3", "hidden_weight=1"),
        _soft("num_layers=3"),
    ),
    "patient": Pair(
        "the [CLS] states of several layers help",
        "Patient KD",
        Half("pkd", ("epochs=2", "num_layers=3", "temperature=2", "beta=10")),
        Half("pkd", ("epochs=2", "num_layers=3", "temperature=2", "beta=0")),
    ),
    "attention": Pair(
        "the attention loss helps",
        "TinyBERT, table 3",
        Half("tinybert", ("copies=0", "intermediate_epochs=2", "epochs=1"), SMALL),
        Half("tinybert", ("copies=0", "intermediate_epochs=2", "epochs=1", "attention_weight=0"), SMALL),
    ),
    "uniform": Pair(
        "a uniform mapping beats the top layers",
        "TinyBERT, table 4",
        Half("tinybert", ("copies=0", "intermediate_epochs=2", "epochs=1", "student=layers", "num_layers=2")),
        Half(
            "tinybert",
            ("copies=0", "intermediate_epochs=2", "epochs=1", "student=layers", "num_layers=2", "mapping=top"),
        ),
    ),
    "progressive": Pair(
        "progressive transfer beats the losses all at once",
        "MobileBERT, table 8",
        _thin(),
        _thin("schedule=auxiliary"),
    ),
    "soft_first": Pair(
        "soft targets as pre-training beat mixing them with labels",
        "seeds, section 11",
        _soft("num_layers=3", "pretrain_on_soft_targets=true", "epochs=1"),
        _soft("num_layers=3", "soft_weight=0.5"),
    ),
    "regulariser": Pair(
        "distillation gains more without dropout",
        "seeds, section 11",
        _soft("num_layers=3", "dropout=0"),
        _soft("num_layers=3", "dropout=0.2"),
        gain=True,
    ),
}


def score_of(cell: dict[str, Any], gain: bool) -> float:
    """Test score in percent, or by how many points distillation raises it."""
    test = {name: 100 * next(iter(said["scores"]["test"].values())) for name, said in cell["methods"].items()}
    return test["distilled"] - test["labels"] if gain else test["distilled"]


def table(found: dict[str, list[tuple[int, float, float]]]) -> str:
    """Markdown: a row for each pair."""
    lines = [
        "| conclusion | from | first | second | seeds | first | second | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cells in found.items():
        pair = PAIRS[name]
        differences = [first - second for _, first, second in cells]
        each = f" ({', '.join(f'{value:+.1f}' for value in differences)})" if len(cells) > 1 else ""
        unit = " points of gain" if pair.gain else ""
        lines.append(
            f"| {pair.claim} | {pair.source} | {_words(pair.first)} | {_words(pair.second)} "
            f"| {', '.join(str(seed) for seed, _, _ in cells)} | {statistics.fmean(c[1] for c in cells):.1f}{unit} "
            f"| {statistics.fmean(c[2] for c in cells):.1f}{unit} | {statistics.fmean(differences):+.1f}{each} |"
        )
    return "\n".join(lines) + "\n"


def _words(half: Half) -> str:
    return f"`{half.recipe} {' '.join(half.settings)}`" + (", small teacher" if half.small_teacher else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="directory with train, dev and test")
    parser.add_argument("--runs", type=Path, required=True, help="directory for the cells")
    parser.add_argument("--teacher", type=Path, required=True, help="directory of the fine-tuned teacher")
    parser.add_argument("--small-teacher", type=Path, help="of the pair teacher_size: a smaller one, itself a student")
    add_common(parser, PAIRS, "pairs")
    parser.add_argument("--half", choices=("first", "second"), help=argparse.SUPPRESS)
    options = parser.parse_args()

    models = options.runs / "cells"
    results = options.results or models

    def place(name: str, half: str, seed: int) -> Path:
        return results / f"{name}-{half}-{seed}.json"

    if options.half:
        (name,), (seed,) = options.only, options.seeds
        half: Half = getattr(PAIRS[name], options.half)
        teacher = options.small_teacher if half.small_teacher else options.teacher
        methods = BOTH if PAIRS[name].gain else BOTH[:1]
        out = place(name, options.half, seed)
        run_cell(options.data, teacher, half.recipe, Cell(half.settings, half.rates), seed, out, models, methods)
        return
    failed: list[str] = []
    for seed in () if options.show else options.seeds:
        for name in options.only:
            if PAIRS[name].second.small_teacher and options.small_teacher is None:
                continue
            for half_name in ("first", "second"):
                if place(name, half_name, seed).is_file():
                    continue
                command = [sys.executable, __file__, options.data, "--runs", options.runs, "--teacher", options.teacher]
                command += ["--results", results]
                command += ["--small-teacher", options.small_teacher] if options.small_teacher else []
                command += ["--seeds", str(seed), "--only", name, "--half", half_name]
                if subprocess.run(list(map(str, command))).returncode:
                    failed.append(f"{name} {half_name}, seed {seed}")
    found: dict[str, list[tuple[int, float, float]]] = {}
    for name in PAIRS:
        for seed in options.seeds:
            places = [place(name, half_name, seed) for half_name in ("first", "second")]
            if all(path.is_file() for path in places):
                first, second = (score_of(json.loads(p.read_text("utf-8")), PAIRS[name].gain) for p in places)
                found.setdefault(name, []).append((seed, first, second))
    finish(table(found), options.table, failed)


if __name__ == "__main__":
    main()
