"""Test conclusions of the papers by controlled pairs: two students that differ in one thing.

    python benchmarks/variants.py DATA LESS --rows 30
    python benchmarks/ablations.py LESS --runs runs/ablations --teacher hf:TEACHER --small-teacher hf:SMALL \\
        --language-model hf:MLM --general-student hf:GENERAL --seeds 1 2 --table TABLE.md

DATA is a directory with train, dev and test; TEACHER is fine-tuned on it, SMALL is a student of TEACHER, MLM a masked LM of the
teacher's size, GENERAL a student of tinybert's general stage. Pairs that need a missing model are left out. Both students of a
pair have the same steps, examples and candidate learning rates (each tried by a whole training with the first seed). One student
and seed is trained in its own process, unless its result exists. `--only` chooses pairs, `--show` trains nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recipes import BOTH, Cell, add_common, chosen_rates, finish, run_cell

NARROW = 168  # width of the BERT that has as many parameters as MiniLM's thin student
LAYERS, SCRATCH = (
    (1e-4, 3e-4),
    (3e-4, 1e-3),
)  # learning rates for layers that are trained already, and for random weights


@dataclass(frozen=True)
class Student:
    """A recipe with settings, and what must be given for it.

    `{general}` and `{language_model}` in the settings are replaced by the directories of the command line.
    """

    recipe: str
    settings: tuple[str, ...]
    rates: tuple[float, ...] = LAYERS
    needs: tuple[str, ...] = ()
    teacher: str = "teacher"
    float32: bool = False  # whatever --precision says, for students that stay at guessing in bf16


def _soft(*settings: str) -> Student:
    return Student("soft_targets", ("epochs=3", "soft_weight=0.9", *settings))


def _tiny(*settings: str, **changes: Any) -> Student:
    return Student(
        "tinybert",
        ("copies=0", "transformer.epochs=3", "epochs=3", *settings),
        **{"rates": SCRATCH, "float32": True} | changes,
    )


def _distilbert(*settings: str) -> Student:
    general = (
        "general.text=demo:plain-text",
        "general.megabytes=1",
        "general.teacher={language_model}",
        "general.epochs=1",
    )
    sizes = ("general.length=64", "general.batch_size=32", "general.kl_on=masked", "epochs=3")
    return Student("distilbert", (*general, *sizes, *settings), needs=("language_model",))


def _mobile(*settings: str) -> Student:
    return Student("mobilebert", settings, (1e-3, 3e-3))


STUDENTS = {
    "three_layers": _soft("dropout=0"),
    "one_layer": _soft("dropout=0", "num_layers=1"),
    "hidden_states": _soft("dropout=0", "hidden_weight=1"),
    "soft_then_hard": Student("soft_targets", ("epochs=1.5", "dropout=0", "pretrain_on_soft_targets=true")),
    "soft_and_hard": Student("soft_targets", ("epochs=3", "dropout=0", "soft_weight=0.5")),
    "with_dropout": _soft("dropout=0.2"),
    "pkd": Student("pkd", ("epochs=3", "num_layers=3", "temperature=2", "beta=10")),
    "pkd_without_layers": Student("pkd", ("epochs=3", "num_layers=3", "temperature=2", "beta=0")),
    "bilstm": Student("bilstm", ("epochs=8", "copies=2"), (1e-3, 3e-3)),
    "bilstm_small_teacher": Student(
        "bilstm", ("epochs=8", "copies=2"), (1e-3, 3e-3), ("small_teacher",), "small_teacher"
    ),
    "tinybert": _tiny(),
    "tinybert_no_attention": _tiny("transformer.attention_weight=0"),
    "tinybert_predictions": _tiny(
        "transformer.hidden_weight=0",
        "transformer.embedding_weight=0",
        "transformer.attention_weight=0",
        "transformer.epochs=0",
        "epochs=6",
    ),
    "tinybert_general": _tiny("student={general}", needs=("general",)),
    "uniform": Student("tinybert", ("copies=0", "transformer.epochs=2", "epochs=1", "student=layers", "num_layers=2")),
    "top": Student(
        "tinybert",
        ("copies=0", "transformer.epochs=2", "epochs=1", "student=layers", "num_layers=2", "transformer.mapping=top"),
    ),
    "progressive": _mobile("transfer.epochs=0.5", "epochs=3"),
    "all_at_once": _mobile("schedule=auxiliary", "epochs=6"),
    "projection": _tiny("student={narrow}", needs=("narrow",)),
    "projection_no_attention": _tiny("student={narrow}", "transformer.attention_weight=0", needs=("narrow",)),
    "distilbert": _distilbert(),
    "distilbert_no_kl": _distilbert("general.kl_weight=0"),
    "distilbert_no_mlm": _distilbert("general.mlm_weight=0"),
    "distilbert_no_cosine": _distilbert("general.cosine_weight=0"),
    "distilbert_random": _distilbert("initialization=random"),
}


@dataclass(frozen=True)
class Pair:
    """A conclusion, and the two students whose difference speaks for it.

    Args:
        claim: in words; what it says of `first` is that it is the better one.
        measure: "score"; "gain": what distillation adds to the score of labels alone; "labels": the second one learned from
            labels alone.
    """

    claim: str
    source: str
    first: str
    second: str
    measure: Literal["score", "gain", "labels"] = "score"


PAIRS = {
    "compression": Pair("more compression costs score", "all", "three_layers", "one_layer"),
    "teacher_size": Pair(
        "a larger teacher is better", "not always: Mirzadeh et al. 2020", "bilstm", "bilstm_small_teacher"
    ),
    "intermediate": Pair(
        "intermediate representations beat predictions alone", "Patient KD, TinyBERT", "hidden_states", "three_layers"
    ),
    "intermediate_scratch": Pair(
        "the same, from random weights", "TinyBERT, table 3", "tinybert", "tinybert_predictions"
    ),
    "patient": Pair("the [CLS] states of several layers help", "Patient KD", "pkd", "pkd_without_layers"),
    "attention": Pair("the attention loss helps", "TinyBERT, table 3", "tinybert", "tinybert_no_attention"),
    "uniform": Pair("a uniform mapping beats the top layers", "TinyBERT, table 4", "uniform", "top"),
    "bottleneck": Pair(
        "a bottleneck beats a projection for narrow students", "MobileBERT", "progressive", "projection"
    ),
    "bottleneck_at_once": Pair(
        "the same, losses all at once, no attention loss for the projection",
        "MobileBERT",
        "all_at_once",
        "projection_no_attention",
    ),
    "progressive": Pair(
        "progressive transfer beats the losses all at once", "MobileBERT, table 8", "progressive", "all_at_once"
    ),
    "staged": Pair("a general stage before the task's helps", "TinyBERT, table 2", "tinybert_general", "tinybert"),
    "across": Pair(
        "distillation across architectures helps a BiLSTM", "Tang et al. 2019", "bilstm", "bilstm", "labels"
    ),
    "soft_first": Pair(
        "soft targets as pre-training beat mixing them with labels", "seeds", "soft_then_hard", "soft_and_hard"
    ),
    "regulariser": Pair(
        "distillation gains more without dropout", "seeds", "three_layers", "with_dropout", measure="gain"
    ),
    "distilbert_kl": Pair(
        "the soft targets of the general stage help", "DistilBERT, table 4", "distilbert", "distilbert_no_kl"
    ),
    "distilbert_mlm": Pair("so does its masked LM", "DistilBERT, table 4", "distilbert", "distilbert_no_mlm"),
    "distilbert_cosine": Pair("so does its cosine", "DistilBERT, table 4", "distilbert", "distilbert_no_cosine"),
    "distilbert_start": Pair(
        "the teacher's layers are a better start", "DistilBERT, table 4", "distilbert", "distilbert_random"
    ),
}


def methods_of(name: str) -> tuple[str, ...]:
    """What is trained of a student: it alone, or labels alone too where a pair wants them."""
    wanted = any(pair.measure != "score" and name in (pair.first, pair.second) for pair in PAIRS.values())
    return BOTH if wanted else BOTH[:1]


def scores(pair: Pair, first: dict[str, Any], second: dict[str, Any]) -> tuple[float, float]:
    """Of the two students: test scores in percent, or by how many points distillation raises them."""

    def test(cell: dict[str, Any], method: str) -> float:
        return 100 * next(iter(cell["methods"][method]["scores"]["test"].values()))

    if pair.measure == "labels":
        return test(first, "distilled"), test(second, "labels")
    if pair.measure == "gain":
        return tuple(test(cell, "distilled") - test(cell, "labels") for cell in (first, second))  # type: ignore[return-value]
    return test(first, "distilled"), test(second, "distilled")


def table(outcome: dict[str, list[tuple[int, float, float]]]) -> str:
    """Markdown: a row for each pair, and one for the settings of each student."""
    lines = [
        "| conclusion | from | first | second | seeds | first | second | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    named: dict[str, None] = {}
    for name, cells in outcome.items():
        pair = PAIRS[name]
        named |= dict.fromkeys((pair.first, pair.second))
        differences = [first - second for _, first, second in cells]
        each = f" ({', '.join(f'{value:+.1f}' for value in differences)})" if len(cells) > 1 else ""
        unit = " points of gain" if pair.measure == "gain" else ""
        second = f"{pair.second}, labels alone" if pair.measure == "labels" else pair.second
        lines.append(
            f"| {pair.claim} | {pair.source} | {pair.first} | {second} "
            f"| {', '.join(str(seed) for seed, _, _ in cells)} | {statistics.fmean(c[1] for c in cells):.1f}{unit} "
            f"| {statistics.fmean(c[2] for c in cells):.1f}{unit} | {statistics.fmean(differences):+.1f}{each} |"
        )
    lines += ["", "| student | recipe and settings |", "|---|---|"]
    lines += [f"| {name} | `{STUDENTS[name].recipe} {' '.join(STUDENTS[name].settings)}` |" for name in named]
    return "\n".join(lines) + "\n"


def make_narrow(teacher: str, out: Path) -> None:
    """A BERT as deep and as large as the thin student of the recipe mobilebert, its table of word pieces begun in the same way."""
    from tfdistill.models import presets
    from tfdistill.models.load import load, save

    like = load(teacher)
    sizes = {"hidden_size": NARROW, "intermediate_size": 4 * NARROW, "num_hidden_layers": like.num_layers}
    student = presets.student("minilm_l6_384", like, **sizes)
    table = like.encoder.embedding.embeddings.numpy()
    student.encoder.embedding.embeddings.assign(presets.reduced_table(table, NARROW))
    save(student, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="directory with train, dev and test")
    parser.add_argument("--runs", type=Path, required=True, help="directory for the cells")
    parser.add_argument("--teacher", required=True, help="hf:DIR of the fine-tuned teacher")
    parser.add_argument("--small-teacher", help="hf:DIR of a smaller one, itself a student")
    parser.add_argument("--language-model", help="hf:DIR of a masked LM of the teacher's size")
    parser.add_argument("--general-student", help="hf:DIR of a generally distilled TinyBERT")
    add_common(parser, PAIRS, "pairs")
    parser.add_argument("--cell", choices=STUDENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()

    models = options.runs / "cells"
    results = options.results or models
    inputs = {
        "teacher": options.teacher,
        "small_teacher": options.small_teacher,
        "language_model": options.language_model,
        "general": options.general_student,
        "narrow": f"hf:{options.runs / 'narrow'}",
    }

    def place(name: str, seed: int) -> Path:
        return results / f"{name}-{seed}.json"

    if options.cell:
        name, (seed,) = options.cell, options.seeds
        student = STUDENTS[name]
        settings = tuple(setting.format_map(inputs) for setting in student.settings)
        run_cell(
            options.data,
            inputs[student.teacher],
            student.recipe,
            Cell(settings, student.rates, whole=True),
            seed,
            place(name, seed),
            models,
            methods_of(name),
            "float32" if student.float32 else options.precision,
            chosen_rates(results, name),
        )
        return
    wanted = dict.fromkeys(name for pair in options.only for name in (PAIRS[pair].first, PAIRS[pair].second))
    ready = [name for name in wanted if all(inputs[need] for need in STUDENTS[name].needs)]
    if (
        not options.show
        and any("narrow" in STUDENTS[name].needs for name in ready)
        and not (options.runs / "narrow").is_dir()
    ):
        make_narrow(options.teacher, options.runs / "narrow")
    failed: list[str] = []
    for seed in () if options.show else options.seeds:
        for name in ready:
            if place(name, seed).is_file():
                continue
            command = [
                sys.executable,
                __file__,
                *sys.argv[1:],
                "--cell",
                name,
                "--seeds",
                str(seed),
            ]  # the last word counts
            if subprocess.run(command).returncode:
                failed.append(f"{name}, seed {seed}")
    outcome: dict[str, list[tuple[int, float, float]]] = {}
    for name, pair in PAIRS.items():
        for seed in options.seeds:
            places = [place(student, seed) for student in (pair.first, pair.second)]
            if all(path.is_file() for path in places):
                first, second = (json.loads(path.read_text("utf-8")) for path in places)
                outcome.setdefault(name, []).append((seed, *scores(pair, first, second)))
    finish(table(outcome), options.table, failed)


if __name__ == "__main__":
    main()
