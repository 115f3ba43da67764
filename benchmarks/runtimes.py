"""Compare families, modes and ONNX Runtime: size, accuracy, agreement with Keras and latency of every file.

    make runtimes
    make runtimes ARGS="--models runs/quickstart/models/teacher runs/quickstart/models/student-3-layers --length 64"

Without --models: presets with random weights in float32 and dynamic int8, of which only size and latency mean anything. Trained models
are also evaluated on the test split of --data, and calibrated on its train split. ONNX Runtime runs float32 and dynamic int8. Each
file is measured in its own process, alternately, --repeats times; the numbers are medians. `--both-quantizers` makes dynamic int8,
int8 and int8_int16 with TensorFlow and with ai-edge-quantizer, whichever `tfdistill export` uses.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table

from tfdistill.errors import UserError
from tfdistill.export.bench.host import bench_file, machine
from tfdistill.export.convert.convert import convert_model, padded
from tfdistill.export.convert.modes import AEQ, SUPPORT, TF
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.metrics.scores import accuracy
from tfdistill.models import presets
from tfdistill.models.load import data_for, load, save
from tfdistill.models.predict import encode, predict_logits
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write

PRESETS = ("tinybert_4l_312", "minilm_l6_384", "mobilebert", "distilbert")
FAST, EITHER = ("fp32", "dynamic_int8"), ("dynamic_int8", "int8", "int8_int16")
RATIOS = ("times_as_fast_as_onnx_runtime", "times_as_fast_as_own_fp32")
PEER = Path(__file__).with_name("onnx_peer.py")


def peer(python: Path, *arguments: str | Path) -> str:
    """What onnx_peer.py prints last. Raises SystemExit with its last line of error."""
    done = subprocess.run([python, PEER, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"onnx_peer.py {arguments[0]} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def random_models(where: Path) -> list[Path]:
    """Directories of the presets with random weights and the demo's vocabulary."""
    tokenizer = load("demo:minilm").tokenizer
    for name in PRESETS:
        save(presets.new(name, tokenizer=tokenizer, num_outputs=2), where / name)
    return [where / name for name in PRESETS]


def files_of(
    directory: Path, out: Path, length: int, python: Path, data: str | None, both: bool
) -> dict[tuple[str, str, str], Path]:
    """(runtime, what made it, mode) -> file: all modes for a model that was trained on `data`."""
    model, calibration, made = load(str(directory)), None, {}
    if data is not None:
        calibration = encode(model, data_for(model, str(directory), data).splits["train"], length)
    tools = {mode: tool for mode, tool in SUPPORT[model.family].items() if tool in (TF, AEQ)}
    chosen = {mode: tool for mode, tool in tools.items() if data is not None or mode in FAST}
    # All that `tfdistill export` would make in one go: modes with the same graph share it.
    groups = [chosen]
    if both:
        groups += [{mode: AEQ if chosen[mode] == TF else TF} for mode in EITHER if mode in chosen]
    for group in groups:
        place = out / "-".join(sorted(set(group.values())))
        with mock.patch.dict(SUPPORT, {model.family: {**SUPPORT[model.family], **group}}):
            try:
                files = convert_model(
                    model, place, length=length, modes=list(group), name=directory.name, calibration=calibration
                )
            except UserError as error:
                print(f"{directory.name}, {', '.join(group)}: {error}")
                continue
        made |= {("LiteRT", tool, mode): files[mode].path for mode, tool in group.items()}
    peer(python, "export", directory, out / "onnx" / directory.name, "--length", str(length))
    return made | {
        ("ONNX Runtime", "ONNX Runtime", mode): out / "onnx" / directory.name / f"{mode}.onnx" for mode in FAST
    }


def scores(directory: Path, data: str, files: dict[Any, Path], length: int, python: Path) -> dict[Any, Any]:
    """Accuracy of each file on test, and its agreement with Keras."""
    model = load(str(directory))
    split = data_for(model, str(directory), data).splits["test"]
    rows, results = encode(model, split, length), {}
    keras_classes = predict_logits(model, rows).argmax(-1)
    with tempfile.TemporaryDirectory() as scratch:
        ids, out = Path(scratch, "ids.npz"), Path(scratch, "logits.npy")
        np.savez(ids, **padded(rows, length, len(rows)))
        for key, path in files.items():
            if key[0] == "LiteRT":
                logits = TFLiteModel(path).predict(rows, workers=2)
            else:
                peer(python, "predict", path, ids, out)
                logits = np.load(out)
            agreement = float(np.mean(logits.argmax(-1) == keras_classes))
            results[key] = {"accuracy": accuracy(split.known_labels, logits), "agreement": agreement}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", default=[], help="directories of trained classifiers")
    parser.add_argument("--data", default="demo:movie-snippets")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--both-quantizers", action="store_true")
    parser.add_argument("--python", type=Path, default=Path(".venv-onnx/bin/python"), help="of onnx_requirements.txt")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/runtimes.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        directories = options.models or random_models(Path(scratch, "models"))
        with task("converting and scoring", len(directories)) as advance:
            for directory in directories:
                data = options.data if options.models else None
                files = files_of(
                    directory, Path(scratch, "files"), options.length, options.python, data, options.both_quantizers
                )
                known = options.models and scores(directory, options.data, files, options.length, options.python)
                rows += [
                    {
                        "model": directory.name,
                        "runtime": runtime,
                        "made_by": tool,
                        "mode": mode,
                        "path": path,
                        "times": [],
                    }
                    | (known[runtime, tool, mode] if known else {})
                    for (runtime, tool, mode), path in files.items()
                ]
                advance()
        with task("measuring alternately", len(rows) * options.repeats) as advance:
            for _ in range(options.repeats):
                for row in rows:
                    if row["runtime"] == "LiteRT":
                        result = bench_file(row["path"], threads=options.threads, runs=options.runs)
                    else:
                        numbers = ("--threads", str(options.threads), "--runs", str(options.runs))
                        result = json.loads(peer(options.python, "measure", row["path"], *numbers))
                    row["times"].append(result["latency_ms"]["median"])
                    row["bytes"] = result["bytes"]
                    advance()
    for row in rows:
        row.pop("path")
        row["latency_ms"] = statistics.median(row["times"])
    _compare(rows)
    result = {key: getattr(options, key) for key in ("length", "threads", "runs", "repeats")}
    result |= {"data": Path(options.data).name if options.models else None, "machine": machine(), "rows": rows}
    atomic_write(options.out, json.dumps(result, indent=2) + "\n")
    _print(rows, options)


def _compare(rows: list[dict[str, Any]]) -> None:
    """How many times as fast each file is as ONNX Runtime's of the same mode and as its own float32, by the medians of each turn."""
    by = {(row["model"], row["runtime"], row["mode"]): row for row in rows}
    for row in rows:
        for key, other in (
            ("times_as_fast_as_onnx_runtime", (row["model"], "ONNX Runtime", row["mode"])),
            ("times_as_fast_as_own_fp32", (row["model"], row["runtime"], "fp32")),
        ):
            if other in by:
                row[key] = statistics.median(b / a for a, b in zip(row["times"], by[other]["times"], strict=True))


def _print(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    table = Table(title=f"{options.length} tokens, {options.threads} thread(s), batch 1, {machine()['processor']}")
    headings = ("model", "runtime", "mode", "made by", "MB", "accuracy", "agrees", "ms", "× ONNX Runtime", "× own fp32")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in headings[:4] else "right")
    for row in rows:
        table.add_row(
            row["model"],
            row["runtime"],
            row["mode"],
            row["made_by"],
            f"{row['bytes'] / 1e6:.1f}",
            f"{100 * row['accuracy']:.1f}" if "accuracy" in row else "–",
            f"{100 * row['agreement']:.1f} %" if "agreement" in row else "–",
            f"{row['latency_ms']:.2f}",
            *(f"{row[key]:.2f}" if key in row else "–" for key in RATIOS),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
