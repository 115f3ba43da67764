"""Measure `tfdistill corpus` on 10 MB, 100 MB and 1 GB of text: seconds, and the memory of all its processes.

    python benchmarks/corpus.py --sizes 10 100 1000 --workers 2 --out benchmarks/results/corpus.json
    python benchmarks/corpus.py --python .venv-beam/bin/python --runner direct --sizes 10 100 --out …   # with Apache Beam

The text is demo:plain-text, repeated with the words of each sentence in another order, so that no sentence is dropped as a
duplicate except those that the demo itself repeats. `--teacher DIR` makes `--rows` with that teacher's logits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from tfdistill.system.console import task
from tfdistill.system.files import atomic_write


def write_text(path: Path, megabytes: float, one_a_line: bool) -> None:
    """So much text, in documents of the demo's lengths; with `one_a_line` each sentence by itself."""
    from tfdistill.corpora.plain_text import documents, sentences, text_files

    texts = [sentences(document) for file in text_files("demo:plain-text") for document in documents(file)]
    left, rng, again = megabytes * 1e6, np.random.default_rng(0), 0
    with path.open("w", encoding="utf-8") as file, task(f"writing {megabytes:g} MB", left) as advance:
        while left > 0:
            for runs in texts:
                made = [runs[0], *runs[1:]] if not again else [_shuffled(sentence, rng) for sentence in runs]
                size = file.write(("\n" if one_a_line else " ").join(made) + ("\n" if one_a_line else "\n\n"))
                left -= size
                advance(size)
                if left <= 0:
                    break
            again += 1


def _shuffled(sentence: str, rng: np.random.Generator) -> str:
    words = sentence.split()
    return " ".join(words[n] for n in rng.permutation(len(words))).rstrip(".") + "."


def measured(command: list[str]) -> dict[str, Any]:
    """Seconds, processor seconds, and the largest sum of resident memory of the command and all that it starts."""
    peak, ended = 0, threading.Event()
    started = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while not ended.wait(0.2):
            total = 0
            try:
                for each in (root, *root.children(recursive=True)):
                    total += each.memory_info().rss
            except psutil.Error:
                continue
            peak = max(peak, total)

    before = os.times()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    _, errors = process.communicate()
    ended.set()
    thread.join()
    after = os.times()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {(errors.strip().splitlines() or ['?'])[-1]}")
    busy = after.children_user - before.children_user + after.children_system - before.children_system
    return {"seconds": time.monotonic() - started, "processor_seconds": busy, "peak_memory_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[10, 100], help="megabytes of text")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runner", default="local")
    parser.add_argument(
        "--python", default=sys.executable, help="of an environment with Apache Beam, for --runner direct"
    )
    parser.add_argument("--teacher", help="directory of a fine-tuned teacher; makes --rows")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as place:
        for size in options.sizes:
            text, out = Path(place, f"{size:g}.txt"), Path(place, "corpus")
            write_text(text, size, options.teacher is not None)
            command = [options.python, "-m", "tfdistill", "corpus", str(text), "--out", str(out)]
            command += ["--workers", str(options.workers), "--runner", options.runner]
            command += ["--rows", "--teacher", options.teacher] if options.teacher else []
            made = measured(command)
            totals = json.loads((out / "manifest.json").read_text("utf-8"))["totals"]
            bytes_out = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
            runs.append({"megabytes": size, **made, "out_megabytes": bytes_out / 1e6, "totals": totals})
            subprocess.run(["rm", "-rf", str(out), str(text)], check=True)
            report = {
                "workers": options.workers,
                "runner": options.runner,
                "labelled": bool(options.teacher),
                "runs": runs,
            }
            if options.out:
                atomic_write(options.out, json.dumps(report, indent=1) + "\n")
    table = Table(title=f"tfdistill corpus, runner {options.runner}, {options.workers} workers")
    for column in ("MB of text", "seconds", "processor s", "MB/s", "peak memory MB", "MB written", "repeated"):
        table.add_column(column, justify="right")
    for each in runs:
        table.add_row(
            f"{each['megabytes']:g}",
            f"{each['seconds']:.1f}",
            f"{each['processor_seconds']:.1f}",
            f"{each['megabytes'] / each['seconds']:.2f}",
            f"{each['peak_memory_mb']:.0f}",
            f"{each['out_megabytes']:.1f}",
            f"{each['totals']['repeated_sentences']:,}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
