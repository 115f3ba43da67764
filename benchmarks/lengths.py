"""Compare files with signatures for several lengths with a file of one length, on real texts.

    python benchmarks/lengths.py runs/quickstart/models/student-3-layers --lengths 16,32,64 16,32,64,128

All files get the same texts of the test split (by default the quickstart's movie-review snippets), cut to --single tokens, one at
a time: --block texts with one file, then with the next; the order changes at every block. (With --block 1 the files evict each
other's weights from the processor's cache at every text.) Prints and writes the mean and median latency of each, how many times as
fast as the single length it is (the median over `--repeats` passes), sizes, the number of texts for each signature, and the accuracy
on the whole split.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tfdistill.commands.options import numbers
from tfdistill.export.bench.host import machine
from tfdistill.export.convert.convert import convert_models
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.models.load import data_for, load
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write

SETS = ("16,32,64", "16,24,32,48,64", "16,24,32,40,48,64", "16,20,24,28,32,40,48,64", "16,32,64,128")


def one_pass(
    files: dict[str, TFLiteModel], rows: Any, order: np.ndarray, block: int, advance: Any
) -> dict[str, list[float]]:
    """Milliseconds of each text in each file, the choice of the signature included."""
    times: dict[str, list[float]] = {name: [] for name in files}
    for turn, start in enumerate(range(0, len(order), block)):
        for name in np.roll(list(files), turn):
            for row in order[start : start + block].tolist():
                span = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
                before = time.perf_counter()
                files[name].row(rows.token_ids[span], rows.segment_ids[span])
                times[name].append((time.perf_counter() - before) * 1e3)
        advance(len(order[start : start + block]))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="demo:movie-snippets")
    parser.add_argument("--single", type=int, default=64, help="length of the file with one")
    parser.add_argument("--lengths", nargs="+", default=SETS)
    parser.add_argument("--mode", default="dynamic_int8")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--block", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lengths.json"))
    options = parser.parse_args()
    model, single = load(str(options.model)), str(options.single)
    data = data_for(model, str(options.model), options.data)
    split = data.splits["test"]
    read = data.encode(split, model.tokenizer, options.single)
    rows = read.encoded
    with tempfile.TemporaryDirectory() as directory, task("converting", 1 + len(options.lengths)) as advance:
        files = {}
        for name in (single, *options.lengths):
            made = convert_models([(model, name)], directory, length=numbers("--lengths", name), modes=[options.mode])
            files[name] = TFLiteModel(made[0][options.mode].path)
            advance()
        sizes = {name: file.path.stat().st_size for name, file in files.items()}
    with task("scoring", len(files)) as advance:
        scores = {}
        for name, file in files.items():
            scores[name] = read.score(file.predict(rows))["accuracy"]
            advance()
    order = np.random.default_rng(0).permutation(len(rows))[: options.texts]
    passes = []
    with task("measuring", len(order) * (options.repeats + 1)) as advance:
        one_pass(files, rows, order, options.block, advance)  # warm-up
        for _ in range(options.repeats):
            passes.append(one_pass(files, rows, order, options.block, advance))
    tokens = np.diff(rows.offsets)[order]
    results = {}
    for name, file in files.items():
        means = [statistics.fmean(times[name]) for times in passes]
        ratios = [statistics.fmean(times[single]) / mean for times, mean in zip(passes, means, strict=True)]
        used = Counter(file.fitting(int(size)) for size in tokens)
        results[name] = {
            "bytes": sizes[name],
            "accuracy": scores[name],
            "mean_ms": statistics.median(means),
            "median_ms": statistics.median(ms for times in passes for ms in times[name]),
            "faster": statistics.median(ratios),
            "faster_of_each_pass": ratios,
            "texts_by_signature": {str(length): used[length] for length in sorted(used)},
        }
    report = {
        "model": options.model.name,
        "mode": options.mode,
        "data": options.data,
        "texts": len(order),
        "scored_texts": len(rows),
        "block": options.block,
        "repeats": options.repeats,
        "single": options.single,
        "files": results,
        "machine": machine(),
    }
    atomic_write(options.out, json.dumps(report, indent=2) + "\n")
    table = Table(title=f"{options.model.name}, {options.mode}, {len(order)} texts")
    for heading in ("lengths", "MB", "accuracy", "mean ms", "median ms", "times as fast"):
        table.add_column(heading, justify="right")
    for name, each in results.items():
        shown = f"{each['bytes'] / 1e6:.2f}", f"{each['accuracy']:.4f}", f"{each['mean_ms']:.2f}"
        table.add_row(name, *shown, f"{each['median_ms']:.2f}", f"{each['faster']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
