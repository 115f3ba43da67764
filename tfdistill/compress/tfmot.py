"""Experimental: cluster or prune the weights of a BiLSTM with TensorFlow Model Optimization (tfmot).

The file of the model keeps its size but zips to a fraction, which is what an app store transfers.
tfmot works with Keras 2 only, so another process (`tfmot_worker`) trains a copy of the model there. It
learns the outputs that the model had before, without labels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfdistill.data.dataset import Data
from tfdistill.data.splits import concatenate
from tfdistill.errors import MissingExtra, UserError
from tfdistill.models.predict import encode, evaluate, predict_logits
from tfdistill.system.leftovers import temporary_directory
from tfdistill.text.encoded import Encoded

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

WORKER = Path(__file__).with_name("tfmot_worker.py")


@dataclass(frozen=True)
class Compression:
    """Describe a compression and its training.

    Args:
        method: "cluster" leaves `clusters` different values in each matrix; "prune" sets a share of it to zero.
        clusters: the number of values of a matrix.
        sparsity: the share of zeros of a matrix.
        steps: optimizer steps.
        batch_size: examples in a step.
        learning_rate: of Adam.
        seed: of the order of the examples.

    Raises:
        UserError: a number out of range.
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
            raise UserError(f"`--clusters` is {self.clusters}. Use 2 or more.")
        if not 0 < self.sparsity < 1:
            raise UserError(f"`--sparsity` is {self.sparsity}. Use a share above 0 and below 1, such as 0.5.")


def compress(
    model: TextModel, rows: Encoded, logits: np.ndarray, how: Compression, advance: Callable[..., Any] = lambda *_: None
) -> None:
    """Cluster or prune the weights of a BiLSTM in place.

    Args:
        model: a BiLSTM for whole texts.
        rows: n tokenized examples.
        logits: the model's logits of them, (n, C).
        how: what is done.
        advance: called with the number of finished steps and a note.

    Raises:
        UserError: another model, or the other process failed.
        MissingExtra: tfmot or tf_keras is not installed.
    """
    require_known(model)
    weights = named_weights(model)
    with temporary_directory("compress") as place:
        job = {**asdict(how), "config": asdict(model.config), "outputs": model.num_outputs, "task": model.task}
        Path(place, "job.json").write_text(json.dumps(job), "utf-8")
        np.savez(Path(place, "weights.npz"), **{name: weight.numpy() for name, weight in weights.items()})
        arrays: dict[str, Any] = {"logits": logits, **_texts(rows, model.config.pair)}
        np.savez(Path(place, "rows.npz"), **arrays)
        _run(str(place), advance)
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
    texts = concatenate([data.splits[name] for name in ("train", "unlabelled") if name in data.splits])
    rows = encode(student, texts, max_length)

    def measurements(first: bool) -> dict[str, Any]:
        names = [name for name in ("dev", "test") if name in data.splits]
        option = "" if first else None
        scores = {name: evaluate(student, data, name, max_length=max_length, cut_option=option) for name in names}
        return {"zipped": zipped(student), "scores": scores, "matrices": content(student)}

    before = measurements(first=True)
    compress(student, rows, predict_logits(student, rows), compression, advance)
    return before, measurements(first=False)


def require_known(model: TextModel) -> None:
    """Raise UserError for a model that tfmot cannot compress."""
    if model.family != "bilstm" or model.task == "token_classification":
        raise UserError(
            f"This is a {model.family} model for {model.task}. Use a BiLSTM for whole texts; for transformers use the recipes "
            "head_pruning, neuron_pruning or layerdrop."
        )


def named_weights(model: TextModel) -> dict[str, Any]:
    """Return the variables by their names in the other process."""
    encoder = model.encoder
    named = {"embedding/embeddings": encoder.embedding.embeddings}
    for layer in [*encoder.forward, *encoder.backward]:
        for part in ("kernel", "recurrent_kernel", "bias"):
            named[f"{layer.name}/{part}"] = getattr(layer.cell, part)
    for layer in [*([encoder.dense] if encoder.dense is not None else []), model.head]:
        named |= {f"{layer.name}/kernel": layer.kernel, f"{layer.name}/bias": layer.bias}
    return named


def zipped(model: TextModel) -> int:
    """Return the number of bytes of the zipped float32 weights."""
    return sum(len(zlib.compress(weight.numpy().tobytes(), 6)) for weight in named_weights(model).values())


def content(model: TextModel) -> dict[str, dict[str, float]]:
    """Return the size, the number of different values and the share of zeros of each matrix."""
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
    """Return ids (rows, longest) and lengths as `BiLSTMEncoder` reads them, separately for the texts of a pair."""
    texts: dict[str, np.ndarray] = {}
    for number in range(2 if pair else 1):
        positions = [
            np.flatnonzero(s == number) if pair else np.arange(len(s))
            for s in np.split(rows.segment_ids, rows.offsets[1:-1])
        ]
        lengths = np.array([len(places) for places in positions], np.int32)
        ids = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), np.int32)
        for row, (places, start) in enumerate(zip(positions, rows.offsets[:-1], strict=True)):
            ids[row, : len(places)] = rows.token_ids[start + places]
        texts |= {f"ids_{number}": ids, f"lengths_{number}": lengths}
    return texts


def _run(place: str, advance: Callable[..., Any]) -> None:
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    errors = Path(place, "errors.txt")
    with errors.open("wb") as log:
        command = [sys.executable, str(WORKER), place]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process:
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
        lines = errors.read_text("utf-8", "replace").strip().splitlines() or ["no message"]
        for library in ("tf_keras", "tensorflow_model_optimization"):
            if f"No module named '{library}'" in lines[-1]:
                raise MissingExtra(library, "compress")
        raise UserError(f"The process of tfmot ended with {process.returncode}: {lines[-1][:300]}")
