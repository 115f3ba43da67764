"""Make data for methods with special needs from other data.

    python benchmarks/variants.py DATA OUT --words 4      # text: the first four words; text_extra_rest: the others, for a teacher
    python benchmarks/variants.py DATA OUT --labels 10    # ten labelled examples of each class; the other training texts unlabelled
    python benchmarks/variants.py DATA OUT --rows 30      # thirty examples of each class and no others
    python benchmarks/variants.py DATA OUT --words 4 --labels 10    # both; the teacher reads all of the unlabelled texts

DATA is a directory with train.tsv, dev.tsv and test.tsv, columns text and label. The first is what a phone knows while somebody is
still typing; the second is what most people have; the third is for quick experiments.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import Counter
from pathlib import Path
from typing import Any

SEED = 13
TSV: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, **TSV))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", **TSV)
        writer.writeheader()
        writer.writerows(rows)


def first_words(row: dict[str, str], count: int) -> dict[str, str]:
    words = row["text"].split()
    return {"text": " ".join(words[:count]), "label": row["label"], "text_extra_rest": " ".join(words[count:])}


def few_labels(rows: list[dict[str, str]], count: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """`count` rows of each class, and all others without their labels."""
    seen: Counter[str] = Counter()
    kept, others = [], []
    for row in random.Random(SEED).sample(rows, len(rows)):
        seen[row["label"]] += 1
        if seen[row["label"]] <= count:
            kept.append(row)
        else:
            others.append({name: value for name, value in row.items() if name != "label"})
    return kept, others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--words", type=int, help="of each text that the student sees")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--labels", type=int, help="rows of each class that keep theirs")
    which.add_argument("--rows", type=int, help="rows of each class that are kept")
    options = parser.parse_args()
    if not (options.words or options.labels or options.rows):
        parser.error("expected --words, --labels or --rows")
    options.out.mkdir(parents=True)
    for name in ("train", "dev", "test"):
        rows = read(options.data / f"{name}.tsv")
        if options.words:
            rows = [first_words(row, options.words) for row in rows]
        if name == "train" and (options.labels or options.rows):
            rows, others = few_labels(rows, options.labels or options.rows)
            if options.labels:
                write(options.out / "unlabelled.tsv", others)
        write(options.out / f"{name}.tsv", rows)


if __name__ == "__main__":
    main()
