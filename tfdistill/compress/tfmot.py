"""Weight clustering and pruning of a BiLSTM, by TensorFlow Model Optimization (tfmot) on its twin in Keras 2.

Both leave the file of a model as large as it was and make it zip to a fraction, which is what an app store transfers. The twin
learns to give the outputs that the model gave before (its own soft targets; no labels are needed). See `tfmot_worker` for what runs
in the other process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfdistill.data.dataset import Data
from tfdistill.data.splits import concatenate
from tfdistill.errors import MissingExtra, UserError
from tfdistill.models.predict import encode, evaluate, predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.text.encoded import Encoded

WORKER = Path(__file__).with_name("tfmot_worker.py")


@dataclass(frozen=True)
class Compression:
    """What is done, and how long the twin learns.

    Args:
        method: "cluster": each matrix has `clusters` different values at most; "prune": the share `sparsity` of each is zero.
    """

    method: Literal["cluster", "prune"]
    clusters: int = 32
    sparsity: float = 0.5
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 1

    def __post_init__(self) -> None:
        if self.clusters < 2:
            raise UserError(f"--clusters is {self.clusters}; expected 2 or more")
        if not 0 < self.sparsity < 1:
            raise UserError(f"--sparsity is {self.sparsity}; expected a share above 0 and below 1, such as 0.5")


def compress(
    model: TextModel, rows: Encoded, logits: np.ndarray, how: Compression, advance: Callable[..., Any] = lambda *_: None
) -> None:
    """Cluster or prune the weights of a BiLSTM in place.

    Args:
        rows, logits: texts, and what the model says of them now, (rows, C).
        advance: told the steps that were done.

    Raises:
        UserError: no BiLSTM for whole texts, or the other process failed.
        MissingExtra: tfmot or tf_keras is not installed.
    """
    require_known(model)
    weights = named_weights(model)
    with tempfile.TemporaryDirectory() as place:
        job = {**asdict(how), "config": asdict(model.config), "outputs": model.num_outputs, "task": model.task}
        Path(place, "job.json").write_text(json.dumps(job), "utf-8")
        np.savez(Path(place, "weights.npz"), **{name: weight.numpy() for name, weight in weights.items()})
        arrays: dict[str, Any] = {"logits": logits, **_texts(rows, model.config.pair)}
        np.savez(Path(place, "rows.npz"), **arrays)
        _run(place, advance)
        with np.load(Path(place, "weights-out.npz")) as file:
            for name, weight in weights.items():
                weight.assign(file[name])


def compress_student(
    student: TextModel,
    data: Data,
    compression: Compression,
    *,
    max_length: int,
    advance: Callable[..., Any] = lambda *_: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compress a BiLSTM in place on the train and unlabelled texts of `data`.

    Args:
        student: a BiLSTM for whole texts.
        data: the texts; dev and test are evaluated before and after.
        compression: the method and its settings.
        max_length: tokens of an example.
        advance: receives the number of finished steps and a text with the loss.

    Returns:
        Measurements before and after: "zipped" (bytes of the float32 weights), "scores" by split, "matrices" as in `content`.

    Raises:
        UserError: the model is not a BiLSTM for whole texts, or the other process failed.
    """
    require_known(student)
    texts = concatenate([data.splits[name] for name in ("train", "unlabelled") if name in data.splits])
    rows = encode(student, texts, max_length)

    def measurements() -> dict[str, Any]:
        names = [name for name in ("dev", "test") if name in data.splits]
        scores = {name: evaluate(student, data, name, max_length=max_length) for name in names}
        return {"zipped": zipped(student), "scores": scores, "matrices": content(student)}

    before = measurements()
    compress(student, rows, predict_logits(student, rows), compression, advance)
    return before, measurements()


def require_known(model: TextModel) -> None:
    """Raises UserError for a model that has no twin."""
    if model.family != "bilstm" or model.task == "token_classification":
        raise UserError(
            f"this is a {model.family} model for {model.task}; clustering and pruning by tfmot know the BiLSTM for whole texts only: "
            "expected one (for transformers: the recipes head_pruning, neuron_pruning, layerdrop)"
        )


def named_weights(model: TextModel) -> dict[str, Any]:
    """Variables by the names that they have in the twin."""
    encoder = model.encoder
    named = {"embedding/embeddings": encoder.embedding.embeddings}
    for layer in [*encoder.forward, *encoder.backward]:
        for part in ("kernel", "recurrent_kernel", "bias"):
            named[f"{layer.name}/{part}"] = getattr(layer.cell, part)
    for layer in [*([encoder.dense] if encoder.dense is not None else []), model.head]:
        named |= {f"{layer.name}/kernel": layer.kernel, f"{layer.name}/bias": layer.bias}
    return named


def zipped(model: TextModel) -> int:
    """Bytes of the weights in float32, zipped."""
    return sum(len(zlib.compress(weight.numpy().tobytes(), 6)) for weight in named_weights(model).values())


def content(model: TextModel) -> dict[str, dict[str, float]]:
    """Of each matrix its size, how many different values it has and what share of them is zero."""
    return {
        name: {
            "size": int(np.prod(weight.shape)),
            "values": len(np.unique(weight.numpy())),
            "zero": float(np.mean(weight.numpy() == 0)),
        }
        for name, weight in named_weights(model).items()
        if len(weight.shape) == 2
    }


def _texts(rows: Encoded, pair: bool) -> dict[str, np.ndarray]:
    """Ids (rows, longest) and lengths of each text as `BiLSTMEncoder` reads them: of pairs the second by itself."""
    made: dict[str, np.ndarray] = {}
    for number in range(2 if pair else 1):
        mine = [
            np.flatnonzero(s == number) if pair else np.arange(len(s))
            for s in np.split(rows.segment_ids, rows.offsets[1:-1])
        ]
        lengths = np.array([len(places) for places in mine], np.int32)
        ids = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), np.int32)
        for row, (places, start) in enumerate(zip(mine, rows.offsets[:-1], strict=True)):
            ids[row, : len(places)] = rows.token_ids[start + places]
        made |= {f"ids_{number}": ids, f"lengths_{number}": lengths}
    return made


def _run(place: str, advance: Callable[..., Any]) -> None:
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    errors = Path(place, "errors.txt")
    with errors.open("wb") as told:
        command = [sys.executable, str(WORKER), place]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, env=environment, text=True) as process:
            done = 0
            try:
                for line in process.stdout or ():
                    if " of " in line:
                        now = int(line.split()[0])
                        advance(now - done, f"loss {line.split()[-1]}")
                        done = now
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        said = errors.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
        for library in ("tf_keras", "tensorflow_model_optimization"):
            if f"No module named '{library}'" in said[-1]:
                raise MissingExtra(library, "compress")
        raise UserError(f"the process of tfmot ended with {process.returncode}: {said[-1][:300]}")
