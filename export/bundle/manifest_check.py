"""What a bundle's manifest says of its files and can be worked out again without data. Imports no TensorFlow."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

from tfdistill.data.splits import PER_TOKEN
from tfdistill.errors import UserError
from tfdistill.export.bundle.manifest import ADVICE, MANIFEST, MODEL, TEXT_MODEL, Check, read_lines, short
from tfdistill.export.convert.modes import MODES, SUPPORT, TASKS, tool_for
from tfdistill.export.tflite.delegates import delegates
from tfdistill.export.tflite.metadata import CARD, LABELS, VOCABULARY, files_within, metadata_within
from tfdistill.export.tflite.runtime import (
    PROBABILITIES,
    TEXT_OPERATORS,
    TFLiteModel,
    check_operators,
    operators,
    read_file,
    read_operators,
)

_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
# Worked out again by `verify`; what it does for each is said there.
RECHECKED = (
    *(
        "version",
        "task",
        "label_names",
        "family",
        "quantization",
        "quantizer",
        "length",
        "lengths",
        "output",
        "mediapipe",
    ),
    *("operators", "zipped_bytes", "delegates", "text_in", "judged", "max_drop", "model_card", "files", "seal"),
)
# These need data, the Keras model, or the machine that made the bundle.
SEALED_ONLY = ("format", "parameters", "max_length", "latency", "parity", "parity_random", "test", "versions")
# Machines have other versions of zlib, which pack a little better or worse.
ZIPPED_TOLERANCE = 0.02


def check_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Raises UserError for a manifest with other entries than those of a bundle, or with names that do not exist."""
    expected = {*RECHECKED, *SEALED_ONLY}
    for what, names in (("has no", expected - manifest.keys()), ("has the unknown", manifest.keys() - expected)):
        if names:
            raise UserError(f"{directory / MANIFEST} {what} {short(sorted(names)[0])}; {ADVICE}")
    for key, known in (("task", TASKS), ("family", tuple(SUPPORT)), ("quantization", tuple(MODES))):
        if manifest[key] not in known:
            raise UserError(
                f"{directory / MANIFEST} has the {key} {short(manifest[key])}; expected one of {', '.join(known)}; {ADVICE}"
            )
    tool = tool_for(manifest["family"], manifest["quantization"])
    if manifest["quantizer"] != tool:
        raise UserError(_differs("the quantizer", tool, manifest["quantizer"]))
    _check_gate(directory, manifest)


def check_file(directory: Path, manifest: dict[str, Any]) -> list[Check]:
    """Check what the manifest says of model.tflite, as bytes. Raises UserError for the first thing that is wrong."""
    content = read_file(directory / MODEL)
    counts = operators(content, MODEL)
    check_operators(counts, MODEL)
    if counts != manifest["operators"]:
        raise UserError(f"{MODEL} has other operators than {MANIFEST} says; {ADVICE}")
    checks = [Check("operators", f"{sum(counts.values())} of {len(counts)} kinds, all built in")]
    if (_LSTM in counts) != (manifest["family"] == "bilstm"):
        raise UserError(_differs(f"{counts.get(_LSTM, 0)} LSTMs", "another family", manifest["family"]))
    possible = quantizations_of(content)
    if manifest["quantization"] not in possible:
        raise UserError(_differs("tensors", f"of {' or '.join(possible)}", manifest["quantization"]))
    checks.append(Check("quantization", f"the types of its tensors are those of {manifest['quantization']}"))
    if delegates(content) != manifest["delegates"]:
        raise UserError(f"{MODEL} has other operators for delegates than {MANIFEST} says; {ADVICE}")
    zipped, said = len(zlib.compress(content, 9)), manifest["zipped_bytes"]
    if type(said) is not int or abs(zipped - said) > ZIPPED_TOLERANCE * zipped:
        raise UserError(_differs("zipped bytes", zipped, said))
    checks.append(Check("size", f"{len(content) / 1e6:.2f} MB, {zipped / 1e6:.2f} zipped"))
    return checks


def check_signature(directory: Path, manifest: dict[str, Any], model: TFLiteModel) -> list[Check]:
    """Check inputs, output, labels and what lies within `model`, which is model.tflite. Raises UserError likewise."""
    if model.length != manifest["length"]:
        raise UserError(f"{MODEL} takes {model.length} tokens, {MANIFEST} says {short(manifest['length'])}; {ADVICE}")
    if list(model.lengths) != manifest["lengths"]:
        raise UserError(
            f"{MODEL} has signatures of {list(model.lengths)} tokens, {MANIFEST} says {short(manifest['lengths'])}; {ADVICE}"
        )
    if model.output != manifest["output"]:
        raise UserError(f"{MODEL} gives {model.output}, {MANIFEST} says {short(manifest['output'])}; {ADVICE}")
    if model.per_token != (manifest["task"] in PER_TOKEN):
        raise UserError(_differs("logits", "for each token" if model.per_token else "for each text", manifest["task"]))
    shapes = ", ".join(f"[1, {length}]" for length in model.lengths)
    checks = [Check("signature", f"{', '.join(model.inputs)} {shapes} → {model.output}")]
    labels = read_lines(directory / LABELS)
    if labels != manifest["label_names"]:
        raise UserError(f"{LABELS} has {short(labels)}, {MANIFEST} says {short(manifest['label_names'])}; {ADVICE}")
    checks.append(
        Check("labels", ", ".join(labels[:10]) + (f", and {len(labels) - 10} more" if len(labels) > 10 else ""))
    )
    checks.append(_check_metadata(directory, manifest))
    if manifest["mediapipe"] is not (model.output == PROBABILITIES):
        raise UserError(_differs("the output", model.output, f"mediapipe: {short(manifest['mediapipe'])}"))
    return checks


def _check_metadata(directory: Path, manifest: dict[str, Any]) -> Check:
    said = metadata_within(read_file(directory / MODEL), MODEL)
    for name, within in files_within(directory / MODEL).items():
        if within != (directory / name).read_bytes():
            raise UserError(f"{MODEL} holds another {name} than the bundle; {ADVICE}")
    for key, value in (("model_card", {key: said[key] for key in CARD}), ("mediapipe", said["mediapipe"])):
        if manifest[key] != value:
            raise UserError(f"{MODEL} has {key} {short(value)}, {MANIFEST} says {short(manifest[key])}; {ADVICE}")
    tokenizer = ", and a tokenizer for MediaPipe" if said["mediapipe"] else ""
    detail = f"{short(said['name'])}, {VOCABULARY} and {LABELS} inside as they are beside it{tokenizer}"
    return Check("metadata", detail)


def check_text_model(directory: Path, manifest: dict[str, Any], texts: int) -> list[Check]:
    """Check the operators of model-text.tflite, where there is one. It is not run: that takes TensorFlow Text.

    Args:
        texts: how many golden ones there are.

    Raises UserError likewise.
    """
    said, there = manifest["text_in"], TEXT_MODEL in manifest["files"]
    if said is None and not there:
        return []
    keys = {"file", "operators", "rows", "same_ids", "max_abs_difference"}
    if not isinstance(said, dict) or not there or set(said) != keys or said["file"] != TEXT_MODEL:
        raise UserError(f"{directory / MANIFEST} says {short(said)} of a file that takes text; {ADVICE}")
    content = read_file(directory / TEXT_MODEL)
    counts = operators(content, TEXT_MODEL)
    check_operators({name: count for name, count in counts.items() if name not in TEXT_OPERATORS}, TEXT_MODEL)
    if counts != said["operators"]:
        raise UserError(f"{TEXT_MODEL} has other operators than {MANIFEST} says; {ADVICE}")
    possible = quantizations_of(content)
    if manifest["quantization"] not in possible:
        raise UserError(_differs("tensors", f"of {' or '.join(possible)}", manifest["quantization"], TEXT_MODEL))
    if said["rows"] != texts:
        raise UserError(
            f"{directory / MANIFEST} says that {TEXT_MODEL} read {short(said['rows'])} texts of {texts}; {ADVICE}"
        )
    own = sum(count for name, count in counts.items() if name in TEXT_OPERATORS)
    return [Check("text in", f"{sum(counts.values())} operators, {own} of them TensorFlow Text's; not run")]


def quantizations_of(content: bytes) -> tuple[str, ...]:
    """The quantizations that the types of a file's tensors allow. Raises UserError for a damaged file.

    Most often that is one. The converter leaves products of few weights in float32, so that dynamic_int8 and weight_int8 of a
    tiny model look alike.
    """
    found = read_operators(content)
    products = [each for each in found if each.name in ("FULLY_CONNECTED", "BATCH_MATMUL", _LSTM)]
    activations = {each.inputs[0].type for each in products}
    weights = {each.inputs[1].type for each in products if each.inputs[1].constant}
    held = {tensor.type for each in found for tensor in each.inputs if tensor.constant and len(tensor.shape) > 1}
    unpacked = {each.inputs[0].type for each in found if each.name == "DEQUANTIZE" and each.inputs[0].constant}
    if "INT16" in activations:
        return ("int8_int16",)
    if "INT8" in activations:
        return ("int8",)
    if "INT4" in held:
        return ("weight_int4",)
    if "FLOAT16" in held:
        return ("fp16",)
    if "INT8" not in held:
        return ("fp32",)
    if "INT8" in weights:
        return ("dynamic_int8",)
    return ("weight_int8",) if "INT8" in unpacked else ("dynamic_int8", "weight_int8")


def _check_gate(directory: Path, manifest: dict[str, Any]) -> None:
    """What is said to have been judged has a drop, and none larger than was allowed."""
    judged, most, found = manifest["judged"], manifest["max_drop"], manifest["parity"]
    drop = found.get("drop") if isinstance(found, dict) else None
    allowed, lost = _finite(most), _finite(drop)
    strange = (allowed is None) != (most is None) or (lost is None) != (drop is None)
    too_much = allowed is not None and lost is not None and lost > allowed
    if strange or too_much or judged is not (allowed is not None and lost is not None):
        raise UserError(
            f"{directory / MANIFEST} has judged {short(judged)}, max_drop {short(most)} and a drop of {short(drop)}, "
            f"which do not go together; {ADVICE}"
        )


def _finite(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:  # JSON has whole numbers of any size
        return None


def _differs(what: str, found: object, said: object, file: str = MODEL) -> str:
    return f"{file} has {what} {found}, {MANIFEST} says {short(said)}; {ADVICE}"
