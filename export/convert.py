"""From a model to .tflite files, each of them audited."""

from __future__ import annotations

import difflib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.runtime import Rows, TFLiteModel, check_operators, operators, read_file
from tfdistill.export.verify import check_logits, parity
from tfdistill.files import atomic_write, sha256
from tfdistill.models.hf import write_model
from tfdistill.models.text import TextModel

# Mode → bytes that a weight takes.
MODES = {"fp32": 4, "fp16": 2, "dynamic_int8": 1}
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
        length: tokens in a row.
    """

    path: Path
    quantization: str
    bytes: int
    sha256: str
    operators: dict[str, int]
    length: int


def check_modes(modes: Sequence[str]) -> None:
    """Raises UserError for a quantization there is not."""
    for mode in modes:
        if mode not in MODES:
            near = difflib.get_close_matches(mode, MODES, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"quantization '{mode}' is unknown; expected one of {', '.join(MODES)}{hint}")
    if isinstance(modes, str) or not modes:
        raise UserError(f"modes is {modes!r}; expected a list of {', '.join(MODES)}")


def convert_model(
    model: TextModel,
    out_dir: str | os.PathLike,
    *,
    name: str,
    length: int = 64,
    modes: Sequence[str] = ("fp32", "fp16", "dynamic_int8"),
    progress: Callable[[str], None] | None = None,
) -> dict[str, ConvertedFile]:
    """Write `{name}-{mode}.tflite` into `out_dir` for each mode.

    The files take int32 [1, length] `token_ids`, `padding_mask` and `segment_ids` and give float32 [1, C] `logits`.

    Args:
        model: a BERT or BiLSTM model.
        out_dir: made if need be.
        name: begins the file names.
        length: tokens in a row, with [CLS] and [SEP].
        modes: some of fp32, fp16, dynamic_int8.
        progress: called with a mode's name when its file is there.

    Returns:
        The files by mode.

    Raises:
        UserError: an unknown mode, a length the model cannot take, a converter that failed, or a file that fails its audit.
    """
    modes = [modes] if isinstance(modes, str) else list(dict.fromkeys(modes))
    check_modes(modes)
    if not name or Path(name).name != name:
        raise UserError(f"name is '{name}'; expected the beginning of a file name, without directories")
    most = model.config.max_position_embeddings if model.family == "bert" else 4096
    if not 1 <= length <= most:
        raise UserError(f"length is {length}; expected 1 to {most} for this model")
    out_dir = Path(out_dir)
    files = {}
    with tempfile.TemporaryDirectory(prefix="tfdistill-convert-") as temporary:
        student, made = Path(temporary, "student"), Path(temporary, "made")
        student.mkdir()
        made.mkdir()
        write_model(model, student)
        _run_worker(student, made, length, modes, progress)
        for mode in modes:
            path = made / f"{mode}.tflite"
            counts = audit(path, model, length, mode)
            target = atomic_write(out_dir / f"{name}-{mode}.tflite", path.read_bytes())
            files[mode] = ConvertedFile(target, mode, target.stat().st_size, sha256(target), counts, length)
    return files


def audit(path: Path, model: TextModel, length: int, mode: str) -> dict[str, int]:
    """Check a fresh file against the model it was made from; returns its operators.

    Raises UserError for operators that are not built in, weights that are missing, another signature, and outputs that are
    not finite, constant or (fp32) not the model's.
    """
    content = read_file(path)
    counts = operators(content, path.name)
    check_operators(counts, path.name)
    if model.family == "bilstm" and ("UNIDIRECTIONAL_SEQUENCE_LSTM" not in counts or "WHILE" in counts):
        raise UserError(f"{path.name} has no fused LSTM but {', '.join(counts)}; export it again")
    least = 0.8 * MODES[mode] * _weights_in_file(model, length)
    if len(content) < least:
        raise UserError(
            f"{path.name} has {len(content)} bytes but its weights alone need {least:.0f}: they got lost; export it again"
        )
    rows, inputs = _probe(model, length)
    file = TFLiteModel(path)
    if file.length != length:
        raise UserError(f"{path.name} takes {file.length} tokens; expected {length}; export it again")
    logits = file.predict(rows, workers=1)
    check_logits(logits, path.name)
    if mode == "fp32" and model.compute_dtype == "float32":
        expected = np.asarray(model(inputs, training=False), "float32")
        difference = parity(expected, logits)["max_abs_difference"]
        if difference > FP32_TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(
                f"{path.name} differs from the Keras model by {difference:.2g}; expected less than {FP32_TOLERANCE}"
            )
    return counts


def _weights_in_file(model: TextModel, length: int) -> int:
    """Weights that the graph reads: all but the positions behind `length`."""
    total = sum(int(np.prod(weight.shape)) for weight in model.weights if "seed_generator" not in weight.path)
    if model.family == "bert":
        total -= (model.config.max_position_embeddings - length) * model.config.hidden_size
    return total


def _probe(model: TextModel, length: int) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rows of different ids and lengths, as a corpus and as a padded batch. Every third one is a pair."""
    random = np.random.default_rng(0)
    inputs = {name: np.zeros((6, length), np.int32) for name in ("token_ids", "padding_mask", "segment_ids")}
    ids, segments = [], []
    for row, size in enumerate(sorted({*np.linspace(1, length, 6).astype(int)} | {length}, reverse=True)[:6]):
        ids.append(random.integers(0, model.config.vocab_size, size))
        segments.append((np.arange(size) * 2 >= size).astype(int) * (row % 3 == 0))
        inputs["token_ids"][row, :size] = ids[-1]
        inputs["padding_mask"][row, :size] = 1
        inputs["segment_ids"][row, :size] = segments[-1]
    return Rows(ids, segments), {name: values[: len(ids)] for name, values in inputs.items()}


def _run_worker(
    student: Path, out: Path, length: int, modes: list[str], progress: Callable[[str], None] | None
) -> None:
    command = [sys.executable, "-P", "-m", "tfdistill.export.worker", str(student), str(out), str(length), *modes]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    # The converter makes and drops copies of all weights; with glibc's defaults most of its time goes into page faults.
    environment |= {
        "MALLOC_MMAP_THRESHOLD_": str(2**32),
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
        "MALLOC_TOP_PAD_": str(2**27),
    }
    log = out / "worker.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if progress is not None and line.strip() in modes:
                    progress(line.strip())
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
    if code == 0:
        return
    if code < 0:
        reason = f"was ended by {signal.Signals(-code).name}"
    else:
        lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        reason = f"failed: {lines[-1][:300] if lines else f'exit code {code}'}"
    missing = next((mode for mode in modes if not (out / f"{mode}.tflite").is_file()), modes[-1])
    raise UserError(
        f"the TFLite converter {reason} (at {missing}, length {length}); try another quantization or length"
    )
