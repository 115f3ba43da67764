"""Convert models to .tflite files, and audit each file against its model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.convert.jobs import Job, run_jobs
from tfdistill.export.convert.modes import MODES, tool_for
from tfdistill.export.convert.request import ConversionRequest, NamedModel, reads_pairs
from tfdistill.export.tflite.operators import check_operators, operators, read_file
from tfdistill.export.tflite.parity import check_logits, of_real_tokens, parity
from tfdistill.export.tflite.runtime import INPUTS, EncodedRows, Rows, TFLiteModel
from tfdistill.models.hf import write_model
from tfdistill.models.limits import check_encoded, most_tokens
from tfdistill.models.quantization_aware import QuantizationAware
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import atomic_write, sha256
from tfdistill.system.leftovers import temporary_directory
from tfdistill.text.encoded import Encoded

CALIBRATION, CALIBRATION_ROWS = "calibration.npz", 200
# fp32 files differ from Keras only in the order of sums.
FP32_TOLERANCE = 1e-3


class ConvertedFile(NamedTuple):
    """A .tflite file that passed the audit.

    Attributes:
        path: the file.
        quantization: its mode, one of `MODES`.
        bytes: its size.
        sha256: its checksum, as hexadecimal text.
        operators: the number of operators by kind.
        lengths: tokens in a row of each signature, ascending.
        parity_random: the distance from Keras on rows of random ids: `rows`, and the keys of
            `tfdistill.export.tflite.parity.parity`.
    """

    path: Path
    quantization: str
    bytes: int
    sha256: str
    operators: dict[str, int]
    lengths: tuple[int, ...]
    parity_random: dict[str, float]


def convert_model(
    model: TextModel,
    out_dir: str | os.PathLike,
    *,
    name: str,
    length: int | Sequence[int] = 64,
    modes: str | Sequence[str] = ("fp32", "fp16", "dynamic_int8"),
    calibration: Encoded | None = None,
) -> dict[str, ConvertedFile]:
    """Convert one model to `{name}-{mode}.tflite` files in `out_dir`, one for each mode.

    The files take int32 [1, length] `token_ids`, `padding_mask` and `segment_ids` and return
    float32 `logits`: [1, C], or [1, length, C] for token classification and question answering,
    where the values of padding are undefined.

    Args:
        model: a model of any family with a head for one of `EXPORTED_HEADS`.
        out_dir: the directory; it is created if necessary.
        name: the beginning of the file names.
        length: tokens in a row, including [CLS] and [SEP]. Several lengths give one file with a
            signature for each, which share the weights: the longest is "serving_default", the
            others are called "length_16" and so on.
        modes: some of `tfdistill.export.convert.modes.MODES`.
        calibration: tokenized training data for int8 and int8_int16; the first 200 examples are
            used.

    Returns:
        The files by mode.

    Raises:
        UserError: an invalid request (see `ConversionRequest.of`), no calibration data for a mode
            that needs it, a failed conversion, or a file that fails its audit.
    """
    request = ConversionRequest.of([(model, name)], length=length, modes=modes)
    return run_conversion(request, out_dir, calibration=calibration)[0]


def convert_models(
    models: Sequence[NamedModel],
    out_dir: str | os.PathLike,
    *,
    length: int | Sequence[int] = 64,
    modes: str | Sequence[str] = ("fp32", "fp16", "dynamic_int8"),
    calibration: Encoded | None = None,
    workers: int = 2,
    progress: Callable[[str, str], None] | None = None,
) -> list[dict[str, ConvertedFile]]:
    """Convert several models in parallel; see `convert_model`.

    Args:
        models: each with the name that its files begin with.
        out_dir: the directory; it is created if necessary.
        length: tokens in a row; see `convert_model`.
        modes: some of `tfdistill.export.convert.modes.MODES`.
        calibration: tokenized training data for int8 and int8_int16.
        workers: number of converter processes. Each takes about 2 GB for a model of 25 million
            parameters.
        progress: called with a model's name and a mode when that file is written.

    Returns:
        For each model its files by mode.

    Raises:
        UserError: see `convert_model`. No file is written then.
    """
    request = ConversionRequest.of(models, length=length, modes=modes)
    return run_conversion(request, out_dir, calibration=calibration, workers=workers, progress=progress)


def run_conversion(
    request: ConversionRequest,
    out_dir: str | os.PathLike,
    *,
    calibration: Encoded | None = None,
    workers: int = 1,
    progress: Callable[[str, str], None] | None = None,
) -> list[dict[str, ConvertedFile]]:
    """Carry out a validated request; arguments and result as for `convert_models`."""
    if request.calibrated and (calibration is None or len(calibration.offsets) < 2):
        raise UserError(f"{request.calibrated[0]} measures ranges on training data and received none; add `--data`")
    with temporary_directory("convert") as temporary:
        jobs = _jobs(request, Path(temporary), calibration)
        audited: dict[tuple[int, str], ConvertedFile] = {}

        def check(job: Job, mode: str) -> None:
            model, name = request.models[job.number]
            named = f"the {mode} file" if len(request.models) == 1 else f"the {mode} file of {name}"
            audited[job.number, mode] = audit(job.place / f"{mode}.tflite", model, request.lengths, mode, named)
            if progress is not None:
                progress(name, mode)

        run_jobs(jobs, workers, check)
        converted: list[dict[str, ConvertedFile]] = []
        for number, (_, name) in enumerate(request.models):
            files = {}
            for mode in request.modes:
                file = audited[number, mode]
                target = atomic_write(Path(out_dir) / f"{name}-{mode}.tflite", file.path.read_bytes())
                files[mode] = file._replace(path=target)
            converted.append(files)
    return converted


def _jobs(request: ConversionRequest, directory: Path, calibration: Encoded | None) -> list[Job]:
    """Write what the converter processes read, and return their jobs."""
    data = directory / CALIBRATION
    if request.calibrated and calibration is not None:
        for model, _ in request.models:
            check_encoded(model.config, calibration, cut_to=request.longest)
        arrays: dict[str, Any] = padded(calibration, request.longest, CALIBRATION_ROWS)
        np.savez(data, **arrays)
    jobs = []
    for number, (model, _) in enumerate(request.models):
        place = directory / str(number)
        place.mkdir()
        write_model(model, place)
        # Modes with the same embedding table share a graph. Calibrated modes have a different graph.
        groups: dict[tuple[str, bool], dict[str, str]] = {}
        for mode in request.modes:
            group = groups.setdefault((MODES[mode].table, MODES[mode].calibrated), {})
            group[mode] = tool_for(model.family, mode)
        for (table, calibrated), group in groups.items():
            rows = data if calibrated else None
            size, probabilities = model.count_params(), request.probabilities
            jobs.append(Job(number, place, request.lengths, table, group, rows, size, probabilities))
    # The longest jobs start first, so that all workers finish at about the same time.
    return sorted(jobs, key=lambda job: -job.parameters * len(job.modes))


def audit(path: Path, model: TextModel, lengths: Sequence[int], mode: str, name: str | None = None) -> ConvertedFile:
    """Check a new file against the model that it was converted from, and describe it.

    Args:
        path: the file, whose name may be a temporary one.
        model: the model.
        lengths: tokens in a row of each signature.
        mode: its quantization.
        name: what messages call the file; by default its name.

    Raises:
        UserError: operators that are not built in, missing weights, a different signature, or
            outputs that are not finite, constant or (fp32) not the model's.
    """
    name = name or path.name
    content = read_file(path)
    counts = operators(content, name)
    check_operators(counts, name)
    if model.family == "bilstm" and ("UNIDIRECTIONAL_SEQUENCE_LSTM" not in counts or "WHILE" in counts):
        raise UserError(f"{name} has no fused LSTM but {', '.join(counts)}; export it again")
    least = 0.8 * MODES[mode].bytes * _weights_in_file(model, max(lengths))
    if len(content) < least:
        raise UserError(
            f"{name} has {len(content)} bytes, but its weights need {least:.0f}; weights are missing, export it again"
        )
    rows, inputs = _probe(model, lengths)
    file = TFLiteModel(path, name)
    if file.lengths != tuple(lengths):
        received, expected_lengths = (", ".join(map(str, each)) for each in (file.lengths, lengths))
        raise UserError(f"{name} takes {received} tokens; expected {expected_lengths}; export it again")
    logits = file.predict(rows, workers=1)
    check_logits(logits, name, _cause(model, mode))
    sizes = inputs["padding_mask"].sum(axis=1)
    expected = file.expected(np.asarray(model(inputs, training=False), "float32"))
    expected = of_real_tokens(expected, sizes)
    distance: dict[str, float] = {"rows": len(sizes), **parity(expected, of_real_tokens(logits, sizes))}
    if mode == "fp32" and model.compute_dtype == "float32" and not isinstance(model, QuantizationAware):
        difference = distance["max_abs_difference"]
        if difference > FP32_TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(
                f"{name} differs from the Keras model by {difference:.2g}; expected less than {FP32_TOLERANCE}"
            )
    return ConvertedFile(path, mode, len(content), sha256(path), counts, file.lengths, distance)


def _cause(model: TextModel, mode: str) -> str:
    """Say why a file may give logits that are not finite or all equal, and what to do."""
    if not np.isfinite([np.abs(np.asarray(weight)).max(initial=0.0) for weight in model.weights]).all():
        return "the model has weights that are not finite, so train it again"
    if mode == "fp16":
        return "values above 65,504 overflow float16, so choose another quantization"
    if MODES[mode].calibrated:
        small = "; LSTM cells within ±0.25 do so, see docs/export_support.md" if model.family == "bilstm" else ""
        return f"values that are small beside the range of {mode} are rounded away{small}. Train longer, or choose dynamic_int8"
    if mode != "fp32":
        return f"{mode} rounds its weights away. Train longer, or choose fp16"
    return "its weights are missing or damaged, so train or load the model again"


def padded(rows: EncodedRows, length: int, most: int) -> dict[str, np.ndarray]:
    """Return the first `most` rows, cut to `length`, as int32 (n, length) arrays by input name."""
    sizes = np.minimum(np.diff(rows.offsets)[:most], length)
    inputs = {name: np.zeros((len(sizes), length), np.int32) for name in INPUTS}
    for row, size in enumerate(sizes):
        span = slice(int(rows.offsets[row]), int(rows.offsets[row] + size))
        inputs["token_ids"][row, :size] = rows.token_ids[span]
        inputs["segment_ids"][row, :size] = rows.segment_ids[span]
        inputs["padding_mask"][row, :size] = 1
    return inputs


def parameters_of(model: TextModel) -> int:
    """Count the weights that a model's file holds; the random state of dropout is not part of it."""
    return sum(int(np.prod(weight.shape)) for weight in model.weights if "seed_generator" not in weight.path)


def _weights_in_file(model: TextModel, length: int) -> int:
    """Count the weights that the graph reads: all but the positions after `length`."""
    limit = most_tokens(model.config)
    if limit is None:
        return parameters_of(model)
    return parameters_of(model) - (limit - length) * model.encoder.embeddings.position.embeddings.shape[1]


def _probe(model: TextModel, lengths: Sequence[int]) -> tuple[Rows, dict[str, np.ndarray]]:
    """Return random rows of different sizes, including all `lengths`, as a corpus and as a padded batch.

    Every third row is a pair, if the model has two segments. A model of pairs gets pairs only: its
    output for a missing second text depends on padding.
    """
    random, length = np.random.default_rng(0), max(lengths)
    ids, segments = [], []
    reads_two = getattr(model.config, "type_vocab_size", 2) != 1
    for row, size in enumerate(sorted({*np.linspace(1, length, 6).astype(int)} | {*lengths}, reverse=True)):
        ids.append(random.integers(0, model.config.vocab_size, size))
        segments.append(
            (np.arange(size) * 2 >= size).astype(int) * (reads_pairs(model) or (reads_two and row % 3 == 0))
        )
    rows = Rows(ids, segments)
    return rows, padded(rows, length, len(ids))
