"""Compare one product for query, key and value with three: size, latency, and largest difference of logits.

    taskset -c 0 python benchmarks/graph_rewrites.py --models RUN/student

Both files have the same weights, for each of `--lengths` and `--quantize`. They are measured alternately with one thread, each time
in its own process; latencies are medians over `--repeats`. A difference counts if it exceeds the range of one file's repeats, which
is printed as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tfdistill.export.bench.host import bench_file, machine
from tfdistill.export.convert.jobs import Job, run_jobs
from tfdistill.export.convert.modes import MODES, TF
from tfdistill.export.tflite.operators import operators, read_file
from tfdistill.export.tflite.runtime import Rows, TFLiteModel
from tfdistill.models.hf import write_model
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write

KINDS = {"apart": False, "together": True}
COUNTED = ("FULLY_CONNECTED", "TRANSPOSE", "RESHAPE", "SPLIT")


def converted(model: TextModel, directory: Path, length: int, mode: str) -> dict[str, Path]:
    """The two files, by kind."""
    jobs, paths = [], {}
    for number, (kind, fuses) in enumerate(KINDS.items()):
        place = directory / f"{kind}-{length}-{mode}"
        place.mkdir()
        write_model(model, place)
        jobs.append(
            Job(number, place, (length,), MODES[mode].table, {mode: TF}, None, model.count_params(), fuses=fuses)
        )
        paths[kind] = place / f"{mode}.tflite"
    run_jobs(jobs, 1, lambda *_: None)
    return paths


def difference(paths: dict[str, Path], pieces: int, length: int) -> float:
    """The largest between the logits of the two files, on 20 rows of random ids."""
    random = np.random.default_rng(0)
    rows = Rows([random.integers(0, pieces, size) for size in np.linspace(2, length, 20).astype(int)])
    first, second = (TFLiteModel(path).predict(rows, workers=1) for path in paths.values())
    return float(np.abs(first - second).max())


def measured(paths: dict[str, Path], runs: int, repeats: int, advance: Any) -> dict[str, dict[str, Any]]:
    """Latency of each file, measured alternately, the order changed at every repeat."""
    medians: dict[str, list[float]] = {kind: [] for kind in paths}
    for repeat in range(repeats):
        for kind in list(paths) if repeat % 2 else list(paths)[::-1]:
            medians[kind].append(bench_file(paths[kind], runs=runs)["latency_ms"]["median"])
            advance(1)
    results = {}
    for kind, path in paths.items():
        counts = operators(read_file(path))
        results[kind] = {
            "ms": statistics.median(medians[kind]),
            "ms_of_each_repeat": medians[kind],
            "bytes": path.stat().st_size,
            "operators": {name: counts.get(name, 0) for name in COUNTED},
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="directories of transformers")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--quantize", nargs="+", default=["fp32", "dynamic_int8"])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/graph_rewrites.json"))
    options = parser.parse_args()
    cells = []
    count = len(options.models) * len(options.lengths) * len(options.quantize)
    with tempfile.TemporaryDirectory() as directory, task("measuring", count * options.repeats * 2) as advance:
        for number, source in enumerate(options.models):
            model, name = (
                load(source),
                Path(source).parent.name if Path(source).name == "student" else Path(source).name,
            )
            place = Path(directory, str(number))
            place.mkdir()
            for length in options.lengths:
                for mode in options.quantize:
                    paths = converted(model, place, length, mode)
                    cells.append(
                        {
                            "model": name,
                            "length": length,
                            "mode": mode,
                            "difference": difference(paths, model.config.vocab_size, length),
                            **measured(paths, options.runs, options.repeats, advance),
                        }
                    )
                    report = {"machine": machine(), "runs": options.runs, "repeats": options.repeats, "cells": cells}
                    atomic_write(options.out, json.dumps(report, indent=2) + "\n")
    table = Table(title="query, key and value by three products and by one: milliseconds, median of repeats (range)")
    for heading in ("model", "length", "mode", "apart", "together", "faster", "logits differ by"):
        table.add_column(heading, justify="left" if heading in ("model", "mode") else "right")
    for cell in cells:
        shown = [
            f"{cell[kind]['ms']:.2f} ({min(each):.2f} to {max(each):.2f})"
            for kind, each in ((kind, cell[kind]["ms_of_each_repeat"]) for kind in KINDS)
        ]
        ratio = f"{cell['apart']['ms'] / cell['together']['ms']:.3f}×"
        table.add_row(cell["model"], str(cell["length"]), cell["mode"], *shown, ratio, f"{cell['difference']:.2g}")
    Console().print(table)


if __name__ == "__main__":
    main()
