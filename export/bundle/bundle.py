"""Write a bundle: all that an app needs of a model, in one directory."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from math import isfinite
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

from tfdistill.data.splits import Split
from tfdistill.errors import with_advice
from tfdistill.export.bench.host import LEAST_RUNS, Case, bench_cases, machine
from tfdistill.export.bundle.golden import golden_vectors
from tfdistill.export.bundle.manifest import (
    GOLDEN,
    MANIFEST,
    MODEL,
    README,
    TOKENIZER_JSON,
    VERSION,
    check_size,
    sealed,
)
from tfdistill.export.bundle.origin import MODEL_SHA256
from tfdistill.export.bundle.readme import readme
from tfdistill.export.bundle.request import ExportRequest, refuse_for_mediapipe
from tfdistill.export.convert.convert import ConvertedFile, parameters_of, run_conversion
from tfdistill.export.convert.modes import AEQ, tool_for
from tfdistill.export.convert.request import longest_input, reads_pairs
from tfdistill.export.convert.text_input import compare_text_in, convert_text_in
from tfdistill.export.tflite.accuracy_gate import AccuracyDropped, Scores, compare
from tfdistill.export.tflite.delegates import delegates
from tfdistill.export.tflite.metadata import LABELS, VOCABULARY, with_metadata
from tfdistill.export.tflite.operators import TEXT_MODEL, operators
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.metrics.notation import shown
from tfdistill.models.fingerprint import fingerprint
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import task
from tfdistill.system.files import atomic_directory, atomic_write, sha256
from tfdistill.system.leftovers import temporary_directory
from tfdistill.text.encoded import Encoded

# Tokenized examples, the Keras model's logits on them, and a function from logits to scores, or None without labels.
Measured = tuple[Encoded, np.ndarray, Scores | None]


@dataclass(frozen=True)
class BundleData:
    """Data that an export uses. All of it is optional.

    Args:
        dev: examples to compare the file with the Keras model on, as
            `tfdistill.models.predict.measure` returns them. They decide whether the file is good
            enough.
        test: more examples, whose comparison is only reported.
        calibration: tokenized training data, for int8 and int8_int16.
        golden: examples to add to golden.json: the first 200 of at most a million characters.
            Golden texts ship inside apps!
        recipe: how the model was trained, for recipe.json.
        source: `name` and `fingerprint` of the data that dev and test belong to, for the manifest.
    """

    dev: Measured | None = None
    test: Measured | None = None
    calibration: Encoded | None = None
    golden: Split | None = None
    recipe: Mapping[str, Any] | None = None
    source: Mapping[str, str] | None = None


def export_bundle(
    model: TextModel,
    out: str | os.PathLike,
    data: BundleData | None = None,
    *,
    quantize: str = "dynamic_int8",
    length: int | Sequence[int] = 64,
    max_drop: float | None = None,
    mediapipe: bool = False,
    text_in: bool = False,
    card: Mapping[str, str] | None = None,
    latency: bool = False,
) -> Path:
    """Write a bundle: model.tflite, its tokenizer and labels, golden.json, README.md and manifest.json.

    Args:
        model: a model with its tokenizer in `model.tokenizer`.
        out: the directory; a bundle in it is replaced as a whole.
        data: examples to compare, calibrate and test the file with.
        quantize: one of `tfdistill.export.convert.modes.MODES`.
        length: tokens in a row, including [CLS] and [SEP]; several lengths give the file a
            signature for each.
        max_drop: percentage points of the task's metric that the file may lose on dev. None allows
            any loss. Without labelled examples in `data.dev` the file is not judged, and the
            manifest says so.
        mediapipe: write a file for MediaPipe's TextClassifier, with `probabilities` instead of
            logits and its tokenizer in the metadata. Logits in golden.json are then logarithms of
            the probabilities.
        text_in: also write model-text.tflite, which takes text and needs TensorFlow Text's
            operators.
        card: fields of the model card in the file's metadata, some of
            `tfdistill.export.tflite.metadata.CARD`.
        latency: measure the file on this machine with one thread and a full row of each length;
            takes some seconds.

    Returns:
        The directory.

    Raises:
        UserError: an invalid request (see `ExportRequest.of`), missing calibration data, or a file
            that fails its audit.
        AccuracyDropped: the file loses more than `max_drop`, or a score is not finite. Instead of a
            bundle there is `{out}.report.json`.
    """
    request = ExportRequest.of(
        model,
        out,
        quantize=quantize,
        length=length,
        max_drop=max_drop,
        mediapipe=mediapipe,
        text_in=text_in,
        card=card,
    )
    return write_bundle(request, data or BundleData(), latency=latency)


def write_bundle(request: ExportRequest, data: BundleData, *, latency: bool = False) -> Path:
    """Carry out a validated request, all or nothing; see `export_bundle`."""
    if request.mediapipe and any(np.any(each[0].segment_ids) for each in (data.dev, data.test) if each is not None):
        refuse_for_mediapipe("pairs")  # a BERT for pairs looks like one for single texts until it sees its data
    with temporary_directory("bundle") as work, atomic_directory(request.out) as directory:
        with task(f"converting to {request.quantization}", 1) as advance:
            (files,) = run_conversion(
                request.conversion, work, calibration=data.calibration, progress=lambda *_: advance()
            )
        converted = files[request.quantization]
        file = _write_model(request, converted, directory)
        if data.recipe is not None:
            _write_json(directory / "recipe.json", data.recipe)
        golden = golden_vectors(request.model, file, request.quantization, data.golden)
        atomic_write(directory / GOLDEN, json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
        text_in = _write_text_model(request, golden, Path(work), directory) if request.text_in else None
        manifest = {
            **_description(request, converted, file),
            "text_in": text_in,
            "latency": _latency(directory / MODEL, file.lengths) if latency else None,
            "data": None if data.source is None else dict(data.source),
            **judge(request, file, data),
            "parity_random": converted.parity_random,
            "golden": {"texts": len(golden["vectors"]), "left_out": golden["left_out"]},
            "versions": _versions(request),
        }
        tokenizer = request.model.tokenizer
        text = readme(
            manifest,
            pair=reads_pairs(request.model),
            lower_case=tokenizer.lower_case,
            added=bool(tokenizer.added),
            wordpiece=tokenizer.is_wordpiece,
        )
        atomic_write(directory / README, text)
        listed = sorted(directory.iterdir())
        manifest["files"] = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in listed}
        atomic_write(directory / MANIFEST, sealed(manifest))
        for path in directory.iterdir():
            check_size(path)
    request.report.unlink(missing_ok=True)
    return request.out


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def _write_model(request: ExportRequest, converted: ConvertedFile, directory: Path) -> TFLiteModel:
    """Write the tokenizer, the labels, and model.tflite with both of them inside."""
    tokenizer = request.model.tokenizer
    tokenizer.save(directory)
    atomic_write(directory / TOKENIZER_JSON, tokenizer.to_json())
    if not tokenizer.is_wordpiece:  # vocab.txt only names the ids
        names = (token.replace("\r", "\\r").replace("\n", "\\n") for token in tokenizer.vocabulary)
        atomic_write(directory / VOCABULARY, "".join(f"{name}\n" for name in names))
    atomic_write(directory / LABELS, "".join(f"{name}\n" for name in request.label_names))
    content = with_metadata(
        converted.path.read_bytes(),
        (directory / VOCABULARY).read_bytes(),
        (directory / LABELS).read_bytes(),
        card=request.card,
        task=request.model.task,
        mediapipe=request.mediapipe,
    )
    return TFLiteModel(atomic_write(directory / MODEL, content), MODEL)


def _write_text_model(request: ExportRequest, golden: dict[str, Any], work: Path, directory: Path) -> dict[str, Any]:
    """Write model-text.tflite and return its entry of the manifest."""
    content = convert_text_in(request.model, work, length=request.conversion.longest, mode=request.quantization)
    atomic_write(directory / TEXT_MODEL, content)
    return {"file": TEXT_MODEL, "operators": operators(content), **compare_text_in(content, golden)}


def _description(request: ExportRequest, converted: ConvertedFile, file: TFLiteModel) -> dict[str, Any]:
    """Return the entries of the manifest that describe the model and its file."""
    model, content = request.model, file.path.read_bytes()
    return {
        "format": "tfdistill bundle",
        "version": VERSION,
        "task": model.task,
        "label_names": list(request.label_names),
        "family": model.family,
        "parameters": parameters_of(model),
        MODEL_SHA256: fingerprint(model),
        "quantization": request.quantization,
        "quantizer": tool_for(model.family, request.quantization),
        "length": file.length,
        "lengths": list(file.lengths),
        "max_length": longest_input(model) if hasattr(model.config, "max_position_embeddings") else None,
        "output": file.output,
        "mediapipe": request.mediapipe,
        "model_card": dict(request.card),
        "operators": converted.operators,
        "zipped_bytes": len(zlib.compress(content, 9)),
        "delegates": delegates(content),
    }


def _latency(path: Path, lengths: Sequence[int]) -> dict[str, Any]:
    """Measure a full row of the longest signature and, under `by_tokens`, of each signature."""
    measured = bench_cases([Case(path, tokens=length) for length in lengths], runs=LEAST_RUNS, repeats=1)
    kept = ("latency_ms", "first_ms", "memory_delta_mb", "threads", "runs", "tokens")
    by_tokens = {str(each["tokens"]): each["latency_ms"] for each in measured}
    return {"machine": machine(), **{name: measured[-1][name] for name in kept}, "by_tokens": by_tokens}


def judge(request: ExportRequest, file: TFLiteModel, data: BundleData) -> dict[str, Any]:
    """Compare a file with the Keras model.

    Args:
        request: the request, for the loss that is allowed.
        file: model.tflite.
        data: the examples to compare on.

    Returns:
        The entries of the manifest about accuracy.

    Raises:
        AccuracyDropped: the file is not good enough. The numbers are in `request.report`.
    """

    def compared(measured: Measured | None, split: str) -> dict[str, Any] | None:
        if measured is None:
            return None
        rows, logits, scores = measured
        with task(f"model.tflite on {split}", len(rows)) as advance:
            predicted = file.predict(rows, progress=advance)
        return compare(file.expected(np.asarray(logits)), predicted, rows.lengths, scores)

    dev, allowed = compared(data.dev, "dev"), request.max_drop
    entries = {"max_drop": allowed, "parity": dev, "test": compared(data.test, "test")}
    if dev is None or "drop" not in dev:
        return {"judged": False, **entries}
    drop, metric = dev["drop"], dev["metric"]
    # One of 100 examples is 1.0000000000000009 points.
    if isfinite(drop) and (allowed is None or drop <= allowed + 1e-9):
        return {"judged": allowed is not None, **entries}
    _write_json(request.report, {"quantization": request.quantization, "length": file.length, **entries})
    scores = f"{metric} on dev ({shown(metric, dev['keras_' + metric])} → {shown(metric, dev[metric])})"
    if isfinite(drop):
        problem = f"loses {drop:.1f} points of {scores}, but {allowed:g} are allowed"
        advice = "choose another quantization, or raise `--max-drop`"
    else:
        problem, advice = f"has a score that is not finite: {scores}", "check the model and the labels"
    message = f"{request.quantization} {problem}; the numbers are in {request.report}"
    raise AccuracyDropped(with_advice(message, advice), request.report)


def _versions(request: ExportRequest) -> dict[str, str]:
    """Return the versions of Python and of the libraries that the bundle was made with."""
    names = ["tfdistill", "tensorflow", "keras", "ai-edge-litert"]
    if tool_for(request.model.family, request.quantization) == AEQ:
        names.append(AEQ)
    if request.text_in:
        names.append("tensorflow-text")
    return {"python": python_version(), **{name: metadata.version(name) for name in names}}
