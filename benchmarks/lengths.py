"""One file with signatures for several lengths beside a file with the longest alone, on real texts.

    python benchmarks/lengths.py runs/quickstart/models/student-3-layers --lengths 16 32 64

Both files get the same texts of the data's test split (by default the quickstart's movie-review snippets), one at a time and
each text by both files in turn, with the order changed at every text. Prints and writes the mean and median latency of each, their
ratio (the median over `--repeats` passes), sizes, and how many texts went to which signature.
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

from tfdistill.export.bench.host import machine
from tfdistill.export.convert import convert_models
from tfdistill.export.runtime import TFLiteModel
from tfdistill.files import atomic_write
from tfdistill.load import data_for, load
from tfdistill.predict import encode
from tfdistill.progress import task


def one_pass(files: dict[str, TFLiteModel], rows: Any, order: np.ndarray, advance: Any) -> dict[str, list[float]]:
    """Milliseconds of each text in each file, the choice of the signature included."""
    times: dict[str, list[float]] = {name: [] for name in files}
    for turn, row in enumerate(order.tolist()):
        span = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
        names = list(files) if turn % 2 else list(files)[::-1]
        for name in names:
            start = time.perf_counter()
            files[name].row(rows.token_ids[span], rows.segment_ids[span])
            times[name].append((time.perf_counter() - start) * 1e3)
        advance(1)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="demo:movie-snippets")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--mode", default="dynamic_int8")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lengths.json"))
    options = parser.parse_args()
    model, longest = load(str(options.model)), max(options.lengths)
    split = data_for(model, str(options.model), options.data).splits["test"]
    rows = encode(model, split, longest)
    with tempfile.TemporaryDirectory() as directory, task("converting", 2) as advance:
        files = {}
        for name, lengths in (("one length", [longest]), ("several lengths", options.lengths)):
            made = convert_models([(model, name)], directory, length=lengths, modes=[options.mode])[0][options.mode]
            files[name] = TFLiteModel(made.path)
            advance()
        sizes = {name: file.path.stat().st_size for name, file in files.items()}
    order = np.random.default_rng(0).permutation(len(rows))[: options.texts]
    passes = []
    with task("measuring", len(order) * (options.repeats + 1)) as advance:
        one_pass(files, rows, order, advance)  # warm-up
        for _ in range(options.repeats):
            passes.append(one_pass(files, rows, order, advance))
    used = Counter(files["several lengths"].fitting(int(size)) for size in np.diff(rows.offsets)[order])
    means = {name: [statistics.fmean(times[name]) for times in passes] for name in files}
    ratios = [one / several for one, several in zip(*means.values(), strict=True)]
    found = {
        "model": options.model.name,
        "mode": options.mode,
        "data": options.data,
        "texts": len(order),
        "repeats": options.repeats,
        "lengths": sorted(options.lengths),
        "texts_by_signature": {str(length): used[length] for length in sorted(used)},
        "bytes": sizes,
        "mean_ms": {name: statistics.median(values) for name, values in means.items()},
        "median_ms": {name: statistics.median(ms for times in passes for ms in times[name]) for name in files},
        "faster": statistics.median(ratios),
        "faster_of_each_pass": ratios,
        "machine": machine(),
    }
    atomic_write(options.out, json.dumps(found, indent=2) + "\n")
    table = Table(
        title=f"{options.model.name}, {options.mode}, {len(order)} texts: signatures {dict(sorted(used.items()))}"
    )
    for heading in ("", "MB", "mean ms", "median ms"):
        table.add_column(heading, justify="right" if heading else "left")
    for name in files:
        table.add_row(
            name,
            f"{sizes[name] / 1e6:.2f}",
            f"{found['mean_ms'][name]:.2f}",
            f"{found['median_ms'][name]:.2f}",
        )
    Console().print(table)
    Console().print(f"{found['faster']:.2f} times as fast")


if __name__ == "__main__":
    main()
