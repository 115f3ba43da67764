"""Whether a bundle's golden vectors are those of its vocabulary and its file. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.bundle.manifest import ADVICE, GOLDEN, MODEL, Check, short
from tfdistill.export.bundle.word_pieces import word_pieces
from tfdistill.export.convert.modes import MODES
from tfdistill.export.tflite.metadata import VOCABULARY
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import Rows, TFLiteModel
from tfdistill.metrics.scores import softmax

SOFTMAX_TASKS = ("classification", "next_sentence", "token_classification")
# Logits and probabilities are written with six digits.
PROBABILITY_TOLERANCE = 1e-5
# Of one text: `tokenizers` takes some hundred bytes of memory for each.
MOST_CHARACTERS = 2**20
_KEYS = {"length", "tolerance", "vectors"}
_VECTOR_KEYS = {"text", "text_b", "token_ids", "segment_ids", "logits", "probabilities"}


def tolerance_of(quantization: str, logits: np.ndarray) -> float:
    """By how much the file's logits may differ from the golden ones: the mode's share of the largest of these, at least of 1."""
    return MODES[quantization].tolerance * max(1.0, float(np.abs(logits).max()))


def probabilities_of(task: str, logits: np.ndarray) -> np.ndarray | None:
    """What golden.json has as probabilities of logits (..., C), float64; None for tasks that have none."""
    if task in SOFTMAX_TASKS:
        return softmax(logits)
    if task == "multilabel":
        return 1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -700, None)))
    return None


def check_golden(
    directory: Path,
    golden: dict[str, Any],
    model: TFLiteModel,
    task: str,
    quantization: str,
    pieces: int,
    outputs: int,
) -> Check:
    """Check golden.json against the bundle's file and its vocabulary.

    The file's logits may differ by the file's own tolerance, which may be no wider than `tolerance_of` its logits; ids have to be
    those that vocab.txt and tokenizer_config.json give the texts; probabilities those of the logits, to `PROBABILITY_TOLERANCE`.

    Args:
        directory: the bundle.
        golden: what its golden.json holds.
        model: its file.
        task, quantization: as its manifest says, names that are known.
        pieces: of its vocabulary.
        outputs: how many it has labels for.

    Raises:
        UserError: the first thing that is wrong.
    """
    path = directory / GOLDEN
    if set(golden) != _KEYS:
        raise UserError(f"{path} has the keys {short(sorted(golden))}; expected {', '.join(sorted(_KEYS))}; {ADVICE}")
    try:
        vectors, tolerance = list(golden["vectors"]), float(golden["tolerance"])
        ids = [[int(value) for value in vector["token_ids"]] for vector in vectors]
        segments = [[int(value) for value in vector["segment_ids"]] for vector in vectors]
        logits = [np.array(vector["logits"], np.float64).reshape(-1, outputs) for vector in vectors]
        expected = np.concatenate([np.zeros((0, outputs)), *logits])
        texts, seconds = _texts(vectors)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is malformed ({type(error).__name__}: {short(str(error))}); {ADVICE}") from error
    if not 0 <= tolerance < float("inf"):
        raise UserError(f"{path} allows a difference of {tolerance}; expected a number from 0 up; {ADVICE}")
    outside = [value for row in ids for value in row if not 0 <= value < pieces]
    if outside or not ids or any(len(a) != len(b) or {*b} - {0, 1} for a, b in zip(ids, segments, strict=True)):
        raise UserError(f"{path} has no vectors, ids outside the vocabulary, or segment ids that do not fit; {ADVICE}")
    if golden["length"] != model.length:
        raise UserError(f"{path} is for {short(golden['length'])} tokens, {MODEL} takes {model.length}; {ADVICE}")
    found = of_real_tokens(model.predict(Rows(ids, segments), workers=1), np.array([len(row) for row in ids]))
    if found.shape != expected.shape:
        raise UserError(f"{path} has logits of shape {expected.shape}, {MODEL} gives {found.shape}; {ADVICE}")
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise UserError(
            f"{MODEL} differs from {path.name} by {difference:.3g}; expected at most {tolerance:.3g}; {ADVICE}"
        )
    widest = tolerance_of(quantization, expected)
    if tolerance > widest * (1 + 1e-3):  # it was worked out before logits were rounded
        raise UserError(
            f"{path} allows a difference of {tolerance:.3g}; expected {widest:.3g} at most for {quantization}; {ADVICE}"
        )
    _check_probabilities(path, vectors, logits, task)
    again = word_pieces(directory, texts, seconds, model.length)
    other = [number for number, row in enumerate(again) if row != (ids[number], segments[number])]
    if other:
        raise UserError(
            f"{VOCABULARY} gives other ids than {path.name} for {len(other)} of {len(ids)} texts, such as "
            f"{short(texts[other[0]])}: the vocabulary is not the model's; {ADVICE}"
        )
    return Check(
        "golden vectors",
        f"{len(ids)} texts get their ids from {VOCABULARY}, largest difference {difference:.2g} of {tolerance:.2g} allowed",
    )


def _texts(vectors: list[dict[str, Any]]) -> tuple[list[str], list[str] | None]:
    """First and second texts. Raises KeyError, TypeError and ValueError for vectors without."""
    strange = {key for vector in vectors for key in vector} - _VECTOR_KEYS
    if strange:
        raise ValueError(f"keys {short(sorted(strange))}")
    pairs = any("text_b" in vector for vector in vectors)
    texts = [vector["text"] for vector in vectors]
    seconds = [vector["text_b"] for vector in vectors] if pairs else None
    if not all(isinstance(text, str) for text in [*texts, *(seconds or [])]):
        raise TypeError("texts are strings")
    longest = max(map(len, [*texts, *(seconds or [])]), default=0)
    if longest > MOST_CHARACTERS:
        raise ValueError(f"a text of {longest} characters; expected {MOST_CHARACTERS} at most")
    return texts, seconds


def _check_probabilities(path: Path, vectors: list[dict[str, Any]], logits: list[np.ndarray], task: str) -> None:
    for number, (vector, values) in enumerate(zip(vectors, logits, strict=True)):
        expected = probabilities_of(task, values)
        if (expected is None) != ("probabilities" not in vector):
            raise UserError(f"{path} has probabilities for some texts and none for others, or not for {task}; {ADVICE}")
        if expected is None:
            continue
        try:
            found = np.array(vector["probabilities"], np.float64).reshape(expected.shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path} is malformed ({type(error).__name__}: {short(str(error))}); {ADVICE}") from error
        if not np.abs(found - expected).max(initial=0.0) <= PROBABILITY_TOLERANCE:
            raise UserError(
                f"{path} has probabilities for text {number + 1} that are not those of its logits; expected them "
                f"within {PROBABILITY_TOLERANCE}; {ADVICE}"
            )
