"""Train every recipe on your data, and the same students on labels alone.

    python benchmarks/recipes.py DATA --runs runs/clinc150 --seeds 1 2 --table docs/results-clinc150.md

DATA is a directory with train, dev and test. One recipe and seed, distilled and on labels alone with the same start, steps, examples
and candidate learning rates, runs in its own process unless its result exists, so the same command resumes after an interruption.
Models go to --runs, small results to --results. `--only` chooses recipes, `--show` writes the table and trains nothing.

A learning rate is chosen on dev with the first seed; later seeds use it, and where whole trainings would choose, `--rates-of RESULTS`
uses the rates chosen on other data. `privileged` needs data with columns text_extra… and `--teacher-settings privileged=true`; see
variants.py for such data, and for data with few labels.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfdistill.system.files import atomic_write

SEARCH_STEPS, FIRST_SEED = 160, 1
TRANSFORMER, SMALL, THIN = (1e-4, 3e-4), (1e-3, 3e-3), (3e-4, 1e-3)
BOTH = ("distilled", "labels")


@dataclass(frozen=True)
class Cell:
    """Settings of a recipe that a laptop's processor trains in minutes, and learning rates to choose from.

    Args:
        whole: each rate is tried by a whole training, for students that still guess after a short one.
        float32: whatever --precision says, for students that stay at guessing in bf16.
    """

    settings: Sequence[str]
    rates: Sequence[float] = TRANSFORMER
    whole: bool = False
    float32: bool = False
    general: bool = False  # needs plain text and a masked-LM teacher
    general_student: bool = False  # starts from the student of --general-student, where there is one


# Three passes over the rows for each student, in all stages together, and twelve for the BiLSTM of Tang, which is that much cheaper.
# A rate by itself is not searched: pruning cuts the student before it trains.
GENERAL = ("general.epochs=1", "general.length=64", "general.batch_size=32", "general.megabytes=2")
CELLS = {
    "soft_targets": Cell(("epochs=3",)),
    "pkd": Cell(("epochs=3",)),
    "tinybert": Cell(
        ("copies=1", "transformer.epochs=0.75", "epochs=0.75"), THIN, whole=True, float32=True, general_student=True
    ),
    "distilbert": Cell((*GENERAL, "general.kl_on=masked", "epochs=3", "soft_weight=0.5"), general=True),
    "mobilebert": Cell(("schedule=auxiliary", "epochs=3"), SMALL, whole=True),
    "bilstm": Cell(("epochs=4", "copies=2"), SMALL),
    "xtremedistil": Cell(("epochs=0.5", "logit_target=logits"), SMALL),
    "layerdrop": Cell(("epochs=3", "soft_weight=0.5")),
    "head_pruning": Cell(("epochs=1", "soft_weight=0.5"), (1e-4,)),
    "neuron_pruning": Cell(("epochs=3",), (1e-4,)),
    "dualtrain_sharedproj": Cell(
        (*GENERAL, "epochs=3"),
        (3e-4,),
        general=True,
    ),
}
EXTRA = {"privileged": Cell(("epochs=3",))}  # where there is something that only the teacher may read


def make_teacher(data: str, out: Path, base: str, settings: Sequence[str], precision: str) -> None:
    """Fine-tune `base` on the data."""
    command = ["finetune", base, "--data", data, "--out", str(out), "--precision", precision, "--force"]
    command += [word for setting in settings for word in ("--set", setting)]
    subprocess.run([sys.executable, "-m", "tfdistill", *command], check=True)


def run_cell(
    data: str,
    teacher: str | Path,
    name: str,
    cell: Cell,
    seed: int,
    out: Path,
    models: Path,
    methods: Sequence[str] = BOTH,
    precision: str = "float32",
    chosen: dict[str, float] | None = None,
) -> None:
    """Train the recipe `name`, write its scores to `out` and its student, distilled by the first of `methods`, below `models`.

    `chosen` are the learning rates of the methods where they are known from another seed.
    """
    import keras

    from tfdistill.commands.quickstart_job import Trained, both_ways
    from tfdistill.data.text_sources import load_data
    from tfdistill.errors import DivergedError
    from tfdistill.models.load import load, save
    from tfdistill.recipes import find
    from tfdistill.system.console import say
    from tfdistill.training.execution import Execution, set_precision
    from tfdistill.training.recipe import Recipe
    from tfdistill.training.rows import prepare
    from tfdistill.training.settings import parse_settings
    from tfdistill.training.teacher_outputs import with_teacher_logits

    set_precision(precision)
    started, module, settings = time.monotonic(), find(name), list(cell.settings)
    model = load(teacher)
    text = load_data(data, label_names=model.label_names)

    def make() -> Recipe:
        made: Recipe = module.recipe(model, text, parse_settings(module.Settings, settings))
        return replace(made, execution=Execution(precision))

    def trained_by(method: str) -> Trained:
        """At the best of the rates on dev; `searched` says what each of them gave."""
        rates = [chosen[method]] if chosen else cell.rates
        if not cell.whole or len(rates) == 1:
            return both_ways(name, make, rates, SEARCH_STEPS, prepared, seed, [method])[0]
        tried, scores = {}, dict.fromkeys(rates, 0.0)
        for rate in rates:
            try:
                tried[rate] = both_ways(name, make, [rate], 0, prepared, seed, [method])[0]
            except DivergedError as error:
                say(f"{name}, {method}, {rate:g}: {error}")
                continue
            scores[rate] = next(iter(tried[rate].result.scores["dev"].values()))
        best = tried[max(tried, key=lambda rate: scores[rate])]
        best.result.searched = scores
        return best

    keras.utils.set_random_seed(seed)
    first = make()
    prepared = prepare(first, seed)
    if any("logits" in stage.reads_teacher for stage in first.stages):
        prepared = with_teacher_logits(first, prepared)
    trained = [trained_by(method) for method in methods]
    outcome: dict[str, Any] = {
        each.method: {
            "scores": each.result.scores,
            "learning_rate": each.result.learning_rate,
            "searched": each.result.searched,
            "seconds": each.result.seconds,
        }
        for each in trained
    }
    report = {
        "recipe": name,
        "seed": seed,
        "settings": [re.sub("=hf:.*", "=hf:DIR", setting) for setting in settings],  # a result names no machine's paths
        "precision": precision,
        "rows": len(prepared),
        "parameters": trained[0].result.student.count_params(),
        "methods": outcome,
        "seconds": time.monotonic() - started,
    }
    save(trained[0].result.student, models / out.stem)
    atomic_write(out, json.dumps(report, indent=2) + "\n")


def chosen_rates(results: Path, name: str) -> dict[str, float] | None:
    """The learning rate of each method in the result of the first seed, if it is there."""
    first = results / f"{name}-{FIRST_SEED}.json"
    if not first.is_file():
        return None
    return {
        method: report["learning_rate"] for method, report in json.loads(first.read_text("utf-8"))["methods"].items()
    }


def table(cells: Sequence[dict[str, Any]], teacher: dict[str, Any]) -> str:
    """Markdown: a row for each recipe, means over its seeds, in percent or points of the main metric."""

    def test(cell: dict[str, Any], method: str) -> float:
        return 100 * next(iter(cell["methods"][method]["scores"]["test"].values()))

    best = 100 * next(iter(teacher["scores"]["test"].values()))
    lines = [
        "| recipe | parameters | seeds | distilled | labels alone | gain | of the teacher's | minutes |",
        "|---|---|---|---|---|---|---|---|",
        f"| teacher | {teacher['parameters'] / 1e6:.1f} M | 1 | – | {best:.1f} | – | 100 % | {teacher['seconds'] / 60:.1f} |",
    ]
    for name in dict.fromkeys(cell["recipe"] for cell in cells):
        own = [cell for cell in cells if cell["recipe"] == name]
        distilled, labels = ([test(cell, method) for cell in own] for method in ("distilled", "labels"))
        gains = [a - b for a, b in zip(distilled, labels, strict=True)]
        each = f" ({', '.join(f'{gain:+.1f}' for gain in gains)})" if len(own) > 1 else ""
        mean = statistics.fmean(distilled)
        lines.append(
            f"| `{name}` | {own[0]['parameters'] / 1e6:.1f} M | {', '.join(str(cell['seed']) for cell in own)} | {mean:.1f} "
            f"| {statistics.fmean(labels):.1f} | {statistics.fmean(gains):+.1f}{each} | {100 * mean / best:.1f} % "
            f"| {statistics.fmean(cell['seconds'] for cell in own) / 60:.1f} |"
        )
    return "\n".join(lines) + "\n"


def add_common(parser: argparse.ArgumentParser, choices: Iterable[str], what: str) -> None:
    """Options of benchmarks whose cells can be taken up again."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of matrix products")
    parser.add_argument("--only", nargs="+", choices=list(choices), default=list(choices), help=f"some of the {what}")
    parser.add_argument("--results", type=Path, help="directory for the cells' results; RUNS/cells if not given")
    parser.add_argument("--table", type=Path, help="Markdown file for the table")
    parser.add_argument("--show", action="store_true", help="train nothing")


def finish(report: str, place: Path | None, failed: Sequence[str]) -> None:
    """Print the table, write it where requested, and end with what failed."""
    print(report)
    if place:
        atomic_write(place, report)
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="directory with train, dev and test")
    parser.add_argument("--runs", type=Path, required=True, help="directory for teacher and cells")
    add_common(parser, CELLS | EXTRA, "recipes")
    parser.set_defaults(only=list(CELLS))
    parser.add_argument("--teacher-base", default="demo:minilm", help="what the teacher is fine-tuned from")
    parser.add_argument("--teacher-settings", nargs="+", default=["epochs=4"], help="of its fine-tuning")
    parser.add_argument(
        "--general", nargs="+", default=[], help="settings of general stages: general.text=… general.teacher=…"
    )
    parser.add_argument("--general-student", help="hf:DIR of a generally distilled student, from which tinybert starts")
    parser.add_argument(
        "--rates-of", type=Path, help="results whose learning rates are taken where whole trainings would choose"
    )
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    teacher, models = options.runs / "teacher", options.runs / "cells"
    results = options.results or models

    def place(name: str, seed: int) -> Path:
        return results / f"{name}-{seed}.json"

    if options.cell:
        seed = options.seeds[0]
        cell = (CELLS | EXTRA)[options.cell]
        if cell.general:
            cell = replace(cell, settings=(*cell.settings, *options.general))
        if cell.general_student and options.general_student:
            cell = replace(cell, settings=(f"student={options.general_student}", *cell.settings))
        run_cell(
            options.data,
            teacher / "student",
            options.cell,
            cell,
            seed,
            place(options.cell, seed),
            models,
            precision="float32" if cell.float32 else options.precision,
            chosen=chosen_rates((options.rates_of if cell.whole else None) or results, options.cell),
        )
        return
    if not options.show and not (teacher / "student").is_dir():
        make_teacher(options.data, teacher, options.teacher_base, options.teacher_settings, options.precision)
    if not (results / "teacher.json").is_file():
        report = json.loads((teacher / "run.json").read_text("utf-8"))
        kept = {name: report[name] for name in ("scores", "parameters", "seconds")}
        results.mkdir(parents=True, exist_ok=True)
        atomic_write(results / "teacher.json", json.dumps(kept, indent=2) + "\n")
    failed = []
    for seed in () if options.show else options.seeds:
        for name in options.only:
            if place(name, seed).is_file() or ((CELLS | EXTRA)[name].general and not options.general):
                continue
            same = [
                options.data,
                "--runs",
                str(options.runs),
                "--results",
                str(results),
                "--precision",
                options.precision,
                *(["--general", *options.general] if options.general else []),
                *(["--general-student", options.general_student] if options.general_student else []),
                *(["--rates-of", str(options.rates_of)] if options.rates_of else []),
            ]
            command = [sys.executable, __file__, *same, "--seeds", str(seed), "--cell", name]
            if subprocess.run(command).returncode:
                failed.append(f"{name}, seed {seed}")
    cells = [
        json.loads(place(name, seed).read_text("utf-8"))
        for name in CELLS | EXTRA
        for seed in options.seeds
        if place(name, seed).is_file()
    ]
    finish(table(cells, json.loads((results / "teacher.json").read_text("utf-8"))), options.table, failed)


if __name__ == "__main__":
    main()
