"""What an app needs of a model, in one directory: the file, its vocabulary and labels, test vectors, and a manifest."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import islice
from math import isfinite
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.export.bench.host import LEAST_RUNS, bench_files, machine
from tfdistill.export.bundle.golden_check import MOST_CHARACTERS, probabilities_of, tolerance_of
from tfdistill.export.bundle.golden_texts import TEXTS
from tfdistill.export.bundle.manifest import GOLDEN, MANIFEST, MODEL, TEXT_MODEL, VERSION, sealed
from tfdistill.export.bundle.mediapipe import check_fits
from tfdistill.export.bundle.readme import readme
from tfdistill.export.convert.convert import check_convertible, convert_model, lengths_of
from tfdistill.export.convert.modes import AEQ, MODES, check_modes, tool_for
from tfdistill.export.convert.text_input import check_text_in, compare_text_in, convert_text_in
from tfdistill.export.tflite.accuracy_gate import AccuracyDropped, Scores, compare
from tfdistill.export.tflite.delegates import delegates
from tfdistill.export.tflite.metadata import LABELS, VOCABULARY, model_card, with_metadata
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import TFLiteModel, operators
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import atomic_directory, atomic_write, require_new, sha256
from tfdistill.text.encoded import Encoded

README = "README.md"
MOST_FROM_DATA = 200
# Rows, the Keras model's logits on them, and what scores logits, if the rows have labels.
Measured = tuple[Encoded, np.ndarray, Scores | None] | None

# Names of outputs that are no classes of the data.
_OUTPUTS = {"question_answering": ("start", "end"), "next_sentence": ("next", "other")}


def export_bundle(
    model: TextModel,
    out: str | os.PathLike,
    *,
    quantize: str = "dynamic_int8",
    length: int | Sequence[int] = 64,
    dev: Measured = None,
    test: Measured = None,
    max_drop: float | None = None,
    recipe: dict[str, Any] | None = None,
    calibration: Encoded | None = None,
    golden_data: Split | None = None,
    mediapipe: bool = False,
    card: Mapping[str, str] | None = None,
    latency: bool = False,
    text_in: bool = False,
) -> Path:
    """Write a bundle, all or nothing: model.tflite, vocab.txt, tokenizer_config.json, labels.txt, golden.json, README.md
    and manifest.json.

    Args:
        model: with its tokenizer in `model.tokenizer`.
        out: the directory; a bundle that is there is replaced.
        quantize: one of `tfdistill.export.convert.modes.MODES`.
        length: tokens in a row, with [CLS] and [SEP]; several give the file a signature for each.
        dev: a tokenized corpus, the model's logits (N, C) or (N, L, C) on it, and a function from logits to scores, or None
            (`tfdistill.models.predict.measure` gives all three). The manifest then says how close the file comes, as
            `tfdistill.export.tflite.accuracy_gate.compare` does.
        test: likewise; reported only.
        max_drop: points of the task's metric that the file may lose on dev. None: any. Without labelled rows in `dev` the file is
            not judged, and the manifest says so.
        recipe: what made the model; kept as recipe.json.
        calibration: tokenized training data, for int8 and int8_int16.
        golden_data: texts whose first 200 (of no more than a million characters) go into golden.json, beside a hundred of ours. It
            ships inside apps!
        mediapipe: make the file one for MediaPipe's TextClassifier, with `probabilities` in place of logits, and its tensors and
            tokenizer named as that wants. Logits in golden.json are then logarithms of the probabilities.
        card: fields of the model card in the file's metadata, some of `tfdistill.export.tflite.metadata.CARD`: name, description,
            version, author, license. The file holds vocabulary and labels, too.
        latency: measure the file on this machine, one thread and a full row of each length, for the manifest: some seconds.
        text_in: also write model-text.tflite, which takes the text itself and needs TensorFlow Text's operators.

    Raises:
        UserError: as `check_request`; `out` holds something else than a bundle; no calibration; a file that fails its audit.
        AccuracyDropped: the file loses more than `max_drop`, or a score is not finite. There is no bundle then, but
            `{out}.report.json`.
    """
    lengths = check_request(
        model, quantize=quantize, length=length, max_drop=max_drop, mediapipe=mediapipe, card=card, text_in=text_in
    )
    require_new(
        Path(out),
        MANIFEST,
        "Expected a new name or the directory of a bundle, which is replaced: choose another `--out`.",
    )
    tokenizer = model.tokenizer
    pair = getattr(model.config, "pair", False)
    if mediapipe:
        # A BERT for pairs looks like one for single texts; the data tells.
        rows = [each[0] for each in (dev, test) if each is not None]
        pairs = pair or any(np.any(each.segment_ids) for each in rows)
        check_fits(model.task, pairs, len(lengths), tokenizer.lower_case)
    names = model.label_names or _OUTPUTS.get(model.task) or tuple(f"LABEL_{n}" for n in range(model.num_outputs))
    if model.task == "regression" and not model.label_names:
        names = tuple("score" for _ in range(model.num_outputs))
    about = model_card(card or {}, family=model.family, task=model.task, quantization=quantize, label_names=names)
    with tempfile.TemporaryDirectory(prefix="tfdistill-bundle-") as work, atomic_directory(out) as directory:
        made = convert_model(
            model,
            work,
            name="model",
            length=length,
            modes=[quantize],
            calibration=calibration,
            probabilities=mediapipe,
        )[quantize]
        tokenizer.save(directory)
        atomic_write(directory / LABELS, "".join(f"{name}\n" for name in names))
        content = with_metadata(
            made.path.read_bytes(),
            (directory / VOCABULARY).read_bytes(),
            (directory / LABELS).read_bytes(),
            card=about,
            task=model.task,
            mediapipe=mediapipe,
        )
        atomic_write(directory / MODEL, content)
        if recipe is not None:
            atomic_write(directory / "recipe.json", json.dumps(recipe, indent=2, default=str) + "\n")
        file = TFLiteModel(directory / MODEL)
        golden = _golden(model, file, quantize, golden_data)
        atomic_write(directory / GOLDEN, json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
        from_text = None
        if text_in:
            other = convert_text_in(model, Path(work), length=lengths[-1], mode=quantize)
            atomic_write(directory / TEXT_MODEL, other)
            from_text = {"file": TEXT_MODEL, "operators": operators(other), **compare_text_in(other, golden)}
        on_dev = _measure(file, dev)
        on_test = _measure(file, test)
        said = {"quantization": quantize, "length": file.length, "parity": on_dev, "test": on_test}
        judged = _gate(on_dev, max_drop, _report_beside(out), said)
        manifest: dict[str, Any] = {
            "format": "tfdistill bundle",
            "version": VERSION,
            "task": model.task,
            "label_names": list(names),
            "family": model.family,
            "parameters": parameters_of(model),
            "quantization": quantize,
            "quantizer": tool_for(model.family, quantize),
            "length": file.length,
            "lengths": list(file.lengths),
            "max_length": getattr(model.config, "max_position_embeddings", None),
            "output": file.output,
            "mediapipe": mediapipe,
            "model_card": about,
            "operators": made.operators,
            "zipped_bytes": len(zlib.compress(content, 9)),
            "delegates": delegates(content),
            "text_in": from_text,
            "latency": _latency(directory / MODEL, file.lengths) if latency else None,
            "judged": judged,
            "max_drop": max_drop,
            "parity": on_dev,
            "parity_random": made.parity_random,
            "test": on_test,
            "versions": _versions(tool_for(model.family, quantize) == AEQ, text_in),
        }
        text = readme(manifest, pair=pair, lower_case=tokenizer.lower_case)
        atomic_write(directory / README, text)
        manifest["files"] = {
            path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(directory.iterdir())
        }
        atomic_write(directory / MANIFEST, sealed(manifest))
    _report_beside(out).unlink(missing_ok=True)
    return Path(out)


def _report_beside(out: str | os.PathLike) -> Path:
    """Where a refusal is written."""
    return Path(out).with_name(f"{Path(out).name}.report.json")


def check_request(
    model: TextModel,
    *,
    quantize: str,
    length: int | Sequence[int],
    max_drop: float | None = None,
    mediapipe: bool = False,
    card: Mapping[str, str] | None = None,
    text_in: bool = False,
) -> tuple[int, ...]:
    """What can be said of `export_bundle`'s arguments before anything is measured. Returns the lengths, ascending.

    Raises:
        UserError: no tokenizer, a quantization that is unknown or that nothing gives this family, a length out of range, a model
            that is not one for MediaPipe, or a field that a model card does not have.
    """
    check_modes([quantize])
    lengths = lengths_of(length)
    check_convertible([(model, "the model")], lengths, [quantize], probabilities=False)
    if max_drop is not None and not isfinite(max_drop):
        raise UserError(f"max_drop is {max_drop}; expected a number of points, such as 1")
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise UserError("the model has no tokenizer; expected one in model.tokenizer, the app needs its vocabulary")
    if text_in:
        check_text_in(model, quantize)
    if lengths[0] < 5:
        raise UserError(f"length is {lengths[0]}; expected at least 5, for a pair of texts with [CLS] and [SEP]")
    if mediapipe:
        check_fits(model.task, getattr(model.config, "pair", False), len(lengths), tokenizer.lower_case)
        if MODES[quantize].calibrated:
            raise UserError(
                f"MediaPipe takes probabilities, and {quantize} would round these to a few steps that do not sum to one; expected "
                "dynamic_int8, another quantization without calibration, or a file of logits: leave --mediapipe out"
            )
    model_card(
        card or {}, family=model.family, task=model.task, quantization=quantize, label_names=model.label_names or ()
    )
    return lengths


def _latency(path: Path, lengths: Sequence[int]) -> dict[str, Any]:
    """Of a full row, and under `by_tokens` of a full row of each signature."""
    found = bench_files([path], runs=LEAST_RUNS, repeats=1, tokens=lengths)
    kept = ("latency_ms", "first_ms", "memory_delta_mb", "threads", "runs", "tokens")
    by_tokens = {str(each["tokens"]): each["latency_ms"] for each in found}
    return {"machine": machine(), **{name: found[-1][name] for name in kept}, "by_tokens": by_tokens}


def _versions(quantizer: bool, text_in: bool) -> dict[str, str]:
    """Of Python and of what had a part in the bundle."""
    names = ["tfdistill", "tensorflow", "keras", "ai-edge-litert"]
    names += [name for name, used in ((AEQ, quantizer), ("tensorflow-text", text_in)) if used]
    return {"python": python_version(), **{name: metadata.version(name) for name in names}}


def parameters_of(model: TextModel) -> int:
    """Numbers that the file holds; the states of dropout are none of them."""
    return int(sum(np.prod(w.shape) for w in model.weights if "seed_generator" not in w.path))


def _golden(model: TextModel, file: TFLiteModel, quantization: str, data: Split | None) -> dict[str, Any]:
    """Texts, their ids and the file's logits. A model of pairs gets each text of ours with its neighbour."""
    texts = list(TEXTS)
    seconds = [*texts[1:], texts[0]] if getattr(model.config, "pair", False) else None
    if data is not None:
        columns = [data.texts] if data.texts_b is None else [data.texts, data.texts_b]
        fitting = (row for row in range(len(data)) if all(len(each[row]) <= MOST_CHARACTERS for each in columns))
        rows = list(islice(fitting, MOST_FROM_DATA))
        if data.texts_b is not None:
            seconds = [*(seconds or [""] * len(texts)), *(data.texts_b[row] for row in rows)]
        elif seconds is not None:
            seconds += [""] * len(rows)
        texts += [data.texts[row] for row in rows]
    encoded = model.tokenizer.encode(texts, seconds, max_length=file.length)
    logits = file.predict(encoded, workers=1)
    vectors = []
    for number, text in enumerate(texts):
        span = slice(int(encoded.offsets[number]), int(encoded.offsets[number + 1]))
        vector: dict[str, Any] = {"text": text} if seconds is None else {"text": text, "text_b": seconds[number]}
        vector |= {"token_ids": encoded.token_ids[span].tolist(), "segment_ids": encoded.segment_ids[span].tolist()}
        values = logits[number] if logits.ndim == 2 else logits[number, : span.stop - span.start]
        vector["logits"] = values.astype(np.float64).round(6).tolist()
        probabilities = probabilities_of(model.task, values)
        if probabilities is not None:
            vector["probabilities"] = probabilities.round(6).tolist()
        vectors.append(vector)
    tolerance = tolerance_of(quantization, of_real_tokens(logits, encoded.lengths))
    return {"length": file.length, "tolerance": tolerance, "vectors": vectors}


def _measure(file: TFLiteModel, split: Measured) -> dict[str, Any] | None:
    if split is None:
        return None
    rows, expected, scores = split
    return compare(file.expected(np.asarray(expected)), file.predict(rows), np.diff(rows.offsets), scores)


def _gate(found: dict[str, Any] | None, max_drop: float | None, report: Path, said: dict[str, Any]) -> bool:
    """Whether there was something to judge the file by.

    Raises AccuracyDropped, with the numbers in `report`, when it lost more than `max_drop` points, or nobody knows how many.
    """
    if found is None or "drop" not in found:
        return False
    drop, metric = found["drop"], found["metric"]
    if isfinite(drop) and (max_drop is None or drop <= max_drop):
        return max_drop is not None
    atomic_write(report, json.dumps({"max_drop": max_drop, **said}, indent=2, ensure_ascii=False) + "\n")
    scores = f"{metric} on dev ({found['keras_' + metric]:.4f} → {found[metric]:.4f})"
    if isfinite(drop):
        what = f"loses {drop:.1f} points of {scores}, allowed are {max_drop:g}; choose another quantization, or raise --max-drop"
    else:
        what = f"has no finite score: {scores}; look at the model and the labels"
    raise AccuracyDropped(f"{said['quantization']} {what}; the numbers are in {report}", report)
