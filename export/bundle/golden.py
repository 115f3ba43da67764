"""Make golden vectors: texts with the ids and outputs that an app has to reproduce."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.data.splits import PER_TOKEN, Split
from tfdistill.export.bundle.golden_check import MOST_CHARACTERS
from tfdistill.export.convert.modes import MODES
from tfdistill.export.convert.request import reads_pairs
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.metrics.scores import softmax
from tfdistill.models.limits import check_encoded

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_LINES = resources.files(__package__).joinpath("golden_texts.txt").read_text("utf-8").split("\n")
TEXTS: tuple[str, ...] = tuple(json.loads(line) for line in _LINES if line.startswith('"'))
MOST_FROM_DATA = 200
_MOST_ADDED = 20
# The size of golden.json, below what `verify` reads, and of a number in it with its line and indentation.
_MOST_BYTES, _VALUE = 48 * 2**20, 24
# With more outputs not even a text of two tokens has a vector that fits.
MOST_OUTPUTS = _MOST_BYTES // (4 * _VALUE) - 100
_SOFTMAX_TASKS = ("classification", "next_sentence", "token_classification")


def golden_vectors(model: TextModel, file: TFLiteModel, quantization: str, data: Split | None = None) -> dict[str, Any]:
    """Return the content of golden.json.

    Args:
        model: the model, for its tokenizer and task. A model of pairs gets each of our texts with
            its neighbour. Some texts hold the tokens that were added to its vocabulary.
        file: model.tflite.
        quantization: its mode, which determines the tolerance.
        data: examples to add to our texts, at most 200.

    Returns:
        `length`, `tolerance`, `vectors`, and `left_out`: the number of texts whose vectors would make the file too large
        for `verify`, as those of 100,000 classes do.
    """
    added = [f"before {token.content} after{token.content}." for token in model.tokenizer.added[:_MOST_ADDED]]
    texts = [*TEXTS, *added]
    seconds = [*texts[1:], texts[0]] if reads_pairs(model) else None
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
    kept, count = _fitting(texts, seconds, encoded.lengths, file.outputs, model.task in PER_TOKEN), len(texts)
    encoded, texts = encoded.take(kept), [texts[row] for row in kept]
    seconds = None if seconds is None else [seconds[row] for row in kept]
    check_encoded(model.config, encoded)
    logits = file.predict(encoded, workers=1)
    vectors = []
    for number, text in enumerate(texts):
        span = slice(int(encoded.offsets[number]), int(encoded.offsets[number + 1]))
        vector: dict[str, Any] = {"text": text} if seconds is None else {"text": text, "text_b": seconds[number]}
        vector |= {"token_ids": encoded.token_ids[span].tolist(), "segment_ids": encoded.segment_ids[span].tolist()}
        values = logits[number] if logits.ndim == 2 else logits[number, : span.stop - span.start]
        vector["logits"] = values.astype(np.float64).round(6).tolist()
        probabilities = _probabilities(model.task, values)
        if probabilities is not None:
            vector["probabilities"] = probabilities.round(6).tolist()
        vectors.append(vector)
    largest = float(np.abs(of_real_tokens(logits, encoded.lengths)).max())
    tolerance = MODES[quantization].tolerance * max(1.0, largest)
    return {"length": file.length, "tolerance": tolerance, "left_out": count - len(texts), "vectors": vectors}


def _fitting(
    texts: Sequence[str], seconds: Sequence[str] | None, lengths: np.ndarray, outputs: int, per_token: bool
) -> list[int]:
    """Return the texts, in order, whose vectors fit into a file of `_MOST_BYTES`."""
    kept, total = [], 0
    for row, text in enumerate(texts):
        tokens = int(lengths[row])
        words = len(json.dumps([text, seconds and seconds[row]]))
        size = words + _VALUE * (2 * tokens + 2 * outputs * (tokens if per_token else 1))
        if total + size <= _MOST_BYTES:
            kept.append(row)
            total += size
    return kept


def _probabilities(task: str, logits: np.ndarray) -> np.ndarray | None:
    if task in _SOFTMAX_TASKS:
        return softmax(logits)
    if task == "multilabel":
        return 1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -700, None)))
    return None
