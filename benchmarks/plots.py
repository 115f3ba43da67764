"""Plot the results in results/, one SVG for each JSON file.

python benchmarks/plots.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from training import NAMES

RESULTS = Path(__file__).with_name("results")


def training(axes: Any, results: dict[str, Any]) -> None:
    for name, runs in results["runs"].items():
        for number, run in enumerate(runs):
            seconds, scores = zip(*run["curve"], strict=True)
            label = NAMES[name] if number == 0 else None
            axes.plot(
                seconds,
                [100 * score for score in scores],
                "o-",
                color=f"C{list(results['runs']).index(name)}",
                label=label,
            )
    axes.set(xlabel="seconds, the teacher's work included", ylabel="dev accuracy, %")
    axes.legend()


def corpus(axes: Any, results: dict[str, Any]) -> None:
    sizes = [run["megabytes"] for run in results["runs"]]
    axes.loglog(sizes, [run["processor_seconds"] for run in results["runs"]], "o-", label="processor seconds")
    axes.loglog(sizes, [run["peak_memory_mb"] for run in results["runs"]], "o-", label="peak memory, MB")
    axes.set(xlabel="text, MB")
    axes.legend()


def devices(axes: Any, results: dict[str, Any]) -> None:
    outcome = {name: statistics.median(values) for name, values in results["examples_per_second"].items()}
    axes.barh(list(outcome), list(outcome.values()))
    axes.invert_yaxis()
    axes.set(xlabel=f"examples of {results['length']} tokens a second")


def teacher_cache(axes: Any, results: dict[str, Any]) -> None:
    for name, values in results["seconds"].items():
        axes.barh(name, statistics.median(values), color="C0")
    axes.invert_yaxis()
    axes.set(xlabel=f"seconds an epoch of {results['rows']} rows")


def lengths(axes: Any, results: dict[str, Any]) -> None:
    outcome = {name: each["mean_ms"] for name, each in results["files"].items()}
    axes.barh(list(outcome), list(outcome.values()))
    axes.invert_yaxis()
    axes.set(xlabel=f"mean ms of a text, {results['mode']}", ylabel="signatures of the file")


def runtimes(axes: Any, results: dict[str, Any]) -> None:
    for number, model in enumerate(dict.fromkeys(row["model"] for row in results["rows"])):
        own = [row for row in results["rows"] if row["model"] == model]
        for marker, runtime in (("o", "LiteRT"), ("x", "ONNX Runtime")):
            rows = [row for row in own if row["runtime"] == runtime]
            axes.scatter(
                [row["latency_ms"] for row in rows],
                [100 * row.get("accuracy", 0) for row in rows],
                marker=marker,
                color=f"C{number}",
                label=f"{model}, {runtime}" if rows else None,
            )
    axes.set(xlabel=f"ms, {results['length']} tokens, {results['threads']} thread", ylabel="test accuracy, %")
    axes.legend(fontsize="x-small")


PLOTS = {plot.__name__: plot for plot in (training, corpus, devices, teacher_cache, lengths, runtimes)}


def main() -> None:
    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "tfdistill", "axes.spines.top": False, "axes.spines.right": False}
    for name, plot in PLOTS.items():
        source = RESULTS / f"{name}.json"
        if not source.is_file():
            print(f"{source.name} is not there; it is left out")
            continue
        figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
        plot(axes, json.loads(source.read_text("utf-8")))
        figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
        print(RESULTS / f"{name}.svg")


if __name__ == "__main__":
    main()
