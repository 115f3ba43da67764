"""Measure how long a million answers take to read, and the memory that they need.

    python benchmarks/answers.py            # 1,000,000 answers of 2 classes, as .jsonl
    python benchmarks/answers.py --suffix .parquet --classes 20

The file is written first; the data have all of its texts. Prints the seconds of `AnswersTeacher`, the peak of the process's
memory before and after, and checks the logits of some texts.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import tfdistill
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData

WORDS = [f"word{number}" for number in range(5000)]


def peak() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def write(path: Path, texts: list[str], probs: np.ndarray, names: list[str]) -> None:
    """Write the answers: objects {class: p} in JSONL, lists in CSV and Parquet."""
    rows = ((text, row.tolist()) for text, row in zip(texts, probs, strict=True))
    if path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            for text, row in rows:
                file.write(json.dumps({"text": text, "probs": dict(zip(names, row, strict=True))}) + "\n")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "probs")])
            csv.writer(file).writerows((text, json.dumps(row)) for text, row in rows)
    else:
        import pyarrow
        from pyarrow import parquet

        lists = pyarrow.FixedSizeListArray.from_arrays(probs.ravel(), len(names))
        parquet.write_table(pyarrow.table({"text": texts, "probs": lists}), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--suffix", default=".jsonl", choices=[".jsonl", ".csv", ".parquet"])
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    words = rng.integers(0, len(WORDS), (args.rows, 10), np.int16)
    texts = [f"{number} {' '.join(WORDS[word] for word in row)}" for number, row in enumerate(words)]
    del words
    names = [f"class{number}" for number in range(args.classes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"answers{args.suffix}")
        probs = rng.dirichlet(np.ones(args.classes), args.rows)
        write(path, texts, probs, names)
        some = probs[:100].copy()
        del probs
        data = TextData("made", {"train": Split(texts, None, np.zeros(args.rows, np.int64))}, tuple(names))
        before, start, work = peak(), time.perf_counter(), time.process_time()
        teacher = tfdistill.AnswersTeacher(path, data)
        seconds, work = time.perf_counter() - start, time.process_time() - work
        size = path.stat().st_size / 1e6
    logits = teacher.logits(data.splits["train"].take(range(100)))
    exponents = np.exp(np.float64(logits))
    np.testing.assert_allclose(exponents / exponents.sum(axis=1, keepdims=True), some, atol=1e-6)
    print(
        f"{args.rows:,} answers of {args.classes} classes, {args.suffix} of {size:.0f} MB: {seconds:.1f} s, "
        f"{work:.1f} s of processor time; "
        f"peak memory {before:.0f} MB before, {peak():.0f} MB after"
    )


if __name__ == "__main__":
    main()
