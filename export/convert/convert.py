"""From a model to .tflite files, each of them audited."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.errors import MissingExtra, UserError
from tfdistill.export.convert.jobs import Job, run_jobs
from tfdistill.export.convert.modes import AEQ, MODES, TASKS, TF, check_modes, tool_for
from tfdistill.export.tflite.parity import check_logits, of_real_tokens, parity
from tfdistill.export.tflite.runtime import (
    INPUTS,
    EncodedRows,
    Rows,
    TFLiteModel,
    check_operators,
    operators,
    read_file,
)
from tfdistill.models.hf import write_model
from tfdistill.models.quantization_aware import QuantizationAware
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import atomic_write

CALIBRATION, CALIBRATION_ROWS = "calibration.npz", 200
# fp32 differs from Keras by the order of sums only.
FP32_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ConvertedFile:
    """A .tflite file that passed the audit.

    Args:
        path: where it lies.
        quantization: its mode, one of `MODES`.
        bytes: its size.
        sha256: its checksum, as hexadecimal text.
        operators: how often each operator occurs.
        length: tokens in a row, of the longest signature.
        lengths: of all signatures.
        parity_random: how far it is from Keras on rows of random ids: `rows`, and what `tfdistill.export.tflite.parity.parity` gives.
    """

    path: Path
    quantization: str
    bytes: int
    sha256: str
    operators: dict[str, int]
    length: int
    lengths: tuple[int, ...]
    parity_random: dict[str, float]


def convert_model(
    model: TextModel,
    out_dir: str | os.PathLike,
    *,
    name: str,
    length: int | Sequence[int] = 64,
    modes: Sequence[str] = ("fp32", "fp16", "dynamic_int8"),
    calibration: EncodedRows | None = None,
    probabilities: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, ConvertedFile]:
    """Write `{name}-{mode}.tflite` into `out_dir` for each mode.

    The files take int32 [1, length] `token_ids`, `padding_mask` and `segment_ids` and give float32 `logits`: [1, C], or
    [1, length, C] for token classification and question answering, where those of padding say nothing.

    Args:
        model: of any family, with a head for a task of its own (not masked-LM).
        out_dir: made if need be.
        name: begins the file names.
        length: tokens in a row, with [CLS] and [SEP]. Several give a file with a signature for each, which share the weights:
            the longest is "serving_default", the others are "length_16" and so on.
        modes: some of `tfdistill.export.convert.modes.MODES`.
        calibration: tokenized rows of training data, for int8 and int8_int16; the first 200 are used.
        probabilities: the files give `probabilities`, the softmax of the logits, in their place; for classification.
        progress: called with a mode's name when its file is there.

    Returns:
        The files by mode.

    Raises:
        UserError: a mode that is unknown, not supported for the family or without calibration, a length the model cannot
            take, a converter that failed, or a file that fails its audit.
    """
    said = None if progress is None else lambda _, mode: progress(mode)
    return convert_models(
        [(model, name)],
        out_dir,
        length=length,
        modes=modes,
        calibration=calibration,
        probabilities=probabilities,
        workers=1,
        progress=said,
    )[0]


def convert_models(
    models: Sequence[tuple[TextModel, str]],
    out_dir: str | os.PathLike,
    *,
    length: int | Sequence[int] = 64,
    modes: Sequence[str] = ("fp32", "fp16", "dynamic_int8"),
    calibration: EncodedRows | None = None,
    probabilities: bool = False,
    workers: int = 2,
    progress: Callable[[str, str], None] | None = None,
) -> list[dict[str, ConvertedFile]]:
    """`convert_model` for several models, side by side.

    Args:
        models: each with the name that begins its files.
        out_dir, length, modes, calibration, probabilities: as for `convert_model`.
        workers: processes that convert. One takes about 2 GB for a model of 25 million parameters.
        progress: called with a model's name and a mode when that file is there.

    Returns:
        For each model its files by mode.

    Raises:
        UserError: as `convert_model`, or two models of one name. Then no file is written.
    """
    modes = [modes] if isinstance(modes, str) else list(dict.fromkeys(modes))
    check_modes(modes)
    lengths = lengths_of(length)
    check_convertible(models, lengths, modes, probabilities=probabilities)
    needy = [mode for mode in modes if MODES[mode].calibrated]
    if needy and (calibration is None or len(calibration.offsets) < 2):
        raise UserError(
            f"{needy[0]} measures ranges of activations on texts and got none; expected rows of training data: give --data"
        )
    with tempfile.TemporaryDirectory(prefix="tfdistill-convert-") as temporary:
        jobs = []
        if needy:
            assert calibration is not None
            arrays: dict[str, Any] = padded(calibration, lengths[-1], CALIBRATION_ROWS)
            np.savez(Path(temporary, CALIBRATION), **arrays)
        for number, (model, _) in enumerate(models):
            place = Path(temporary, str(number))
            place.mkdir()
            write_model(model, place)
            # Modes with the same table come from the same graph; calibrated ones have one of their own.
            for table, calibrated in dict.fromkeys((MODES[mode].table, MODES[mode].calibrated) for mode in modes):
                alike = [mode for mode in modes if (MODES[mode].table, MODES[mode].calibrated) == (table, calibrated)]
                group = {mode: tool_for(model.family, mode) for mode in alike}
                data = Path(temporary, CALIBRATION) if calibrated else None
                jobs.append(Job(number, place, lengths, table, group, data, model.count_params(), probabilities))
        jobs.sort(key=lambda job: -job.parameters * len(job.modes))  # the longest first, so that all end together
        audited: dict[tuple[int, str], tuple[dict[str, int], dict[str, float]]] = {}

        def check(job: Job, mode: str) -> None:
            model, name = models[job.number]
            audited[job.number, mode] = audit(job.place / f"{mode}.tflite", model, lengths, mode)
            if progress is not None:
                progress(name, mode)

        run_jobs(jobs, workers, check)
        made: list[dict[str, ConvertedFile]] = []
        for number, (_, name) in enumerate(models):
            files = {}
            for mode in modes:
                content = Path(temporary, str(number), f"{mode}.tflite").read_bytes()
                target = atomic_write(Path(out_dir) / f"{name}-{mode}.tflite", content)
                digest = hashlib.sha256(content).hexdigest()
                counts, random = audited[number, mode]
                files[mode] = ConvertedFile(target, mode, len(content), digest, counts, lengths[-1], lengths, random)
            made.append(files)
    return made


def check_convertible(
    models: Sequence[tuple[TextModel, str]], lengths: Sequence[int], modes: Sequence[str], *, probabilities: bool
) -> None:
    """Raises UserError for names, models, lengths and modes that `convert_models` does not take together."""
    names = [name for _, name in models]
    for model, name in models:
        if not name or Path(name).name != name:
            raise UserError(f"name is '{name}'; expected the beginning of a file name, without directories")
        if names.count(name) > 1:
            raise UserError(f"two models are called '{name}'; expected a name of its own for each")
        if model.task not in TASKS:
            raise UserError(f"'{name}' is a model for {model.task}; expected one fine-tuned for {', '.join(TASKS)}")
        if probabilities and model.task != "classification":
            raise UserError(f"'{name}' is a model for {model.task}; a file gives probabilities for classification only")
        if len(lengths) > 1 and (
            mode := next(
                (each for each in modes if MODES[each].calibrated and tool_for(model.family, each) == TF), None
            )
        ):
            raise UserError(
                f"{mode} of a {model.family} model has one length, since TensorFlow's calibration runs no file with several "
                f"signatures; received {', '.join(map(str, lengths))}; expected one, or another quantization such as dynamic_int8"
            )
        if any(tool_for(model.family, mode) == AEQ for mode in modes) and find_spec("ai_edge_quantizer") is None:
            raise MissingExtra("ai-edge-quantizer", "quantizer")
        most = getattr(model.config, "max_position_embeddings", 4096)
        for each in lengths:
            if not 1 <= each <= most:
                raise UserError(f"length is {each}; expected 1 to {most} for this model")


def lengths_of(length: int | Sequence[int]) -> tuple[int, ...]:
    """From the shortest to the longest. Raises UserError when there is none."""
    lengths = tuple(sorted({length} if isinstance(length, int) else {*length}))
    if not lengths:
        raise UserError("no length was given; expected one or several")
    return lengths


def audit(path: Path, model: TextModel, lengths: Sequence[int], mode: str) -> tuple[dict[str, int], dict[str, float]]:
    """Check a fresh file against the model it was made from; returns its operators and its `parity_random`.

    Raises UserError for operators that are not built in, weights that are missing, another signature, and outputs that are
    not finite, constant or (fp32) not the model's.
    """
    content = read_file(path)
    counts = operators(content, path.name)
    check_operators(counts, path.name)
    if model.family == "bilstm" and ("UNIDIRECTIONAL_SEQUENCE_LSTM" not in counts or "WHILE" in counts):
        raise UserError(f"{path.name} has no fused LSTM but {', '.join(counts)}; export it again")
    least = 0.8 * MODES[mode].bytes * _weights_in_file(model, max(lengths))
    if len(content) < least:
        raise UserError(
            f"{path.name} has {len(content)} bytes but its weights alone need {least:.0f}: they got lost; export it again"
        )
    rows, inputs = _probe(model, lengths)
    file = TFLiteModel(path)
    if file.lengths != tuple(lengths):
        takes, asked = (", ".join(map(str, each)) for each in (file.lengths, lengths))
        raise UserError(f"{path.name} takes {takes} tokens; expected {asked}; export it again")
    logits = file.predict(rows, workers=1)
    check_logits(logits, path.name)
    sizes = inputs["padding_mask"].sum(axis=1)
    expected = file.expected(np.asarray(model(inputs, training=False), "float32"))
    expected = of_real_tokens(expected, sizes)
    found: dict[str, float] = {"rows": len(sizes), **parity(expected, of_real_tokens(logits, sizes))}
    if mode == "fp32" and model.compute_dtype == "float32" and not isinstance(model, QuantizationAware):
        difference = found["max_abs_difference"]
        if difference > FP32_TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(
                f"{path.name} differs from the Keras model by {difference:.2g}; expected less than {FP32_TOLERANCE}"
            )
    return counts, found


def padded(rows: EncodedRows, length: int, most: int) -> dict[str, np.ndarray]:
    """The first `most` rows as int32 (n, length) `token_ids`, `padding_mask` and `segment_ids`. Longer rows are cut."""
    sizes = np.minimum(np.diff(rows.offsets)[:most], length)
    inputs = {name: np.zeros((len(sizes), length), np.int32) for name in INPUTS}
    for row, size in enumerate(sizes):
        span = slice(int(rows.offsets[row]), int(rows.offsets[row] + size))
        inputs["token_ids"][row, :size], inputs["segment_ids"][row, :size] = (
            rows.token_ids[span],
            rows.segment_ids[span],
        )
        inputs["padding_mask"][row, :size] = 1
    return inputs


def _weights_in_file(model: TextModel, length: int) -> int:
    """Weights that the graph reads: all but the positions behind `length`."""
    total = sum(int(np.prod(weight.shape)) for weight in model.weights if "seed_generator" not in weight.path)
    if model.family != "bilstm":
        total -= (model.config.max_position_embeddings - length) * model.config.hidden_size
    return total


def _probe(model: TextModel, lengths: Sequence[int]) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rows of different ids and sizes, for each of `lengths` too, as a corpus and as a padded batch.

    Every third is a pair. All are for a model that always reads two texts: what it makes of a missing one depends on padding.
    """
    random, length = np.random.default_rng(0), max(lengths)
    pairs = getattr(model.config, "pair", False)
    ids, segments = [], []
    for row, size in enumerate(sorted({*np.linspace(1, length, 6).astype(int)} | {*lengths}, reverse=True)):
        ids.append(random.integers(0, model.config.vocab_size, size))
        segments.append((np.arange(size) * 2 >= size).astype(int) * (pairs or row % 3 == 0))
    rows = Rows(ids, segments)
    return rows, padded(rows, length, len(ids))
