"""Check a bundle's golden vectors against its vocabulary and its file. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.export.bundle.manifest import GOLDEN, MODEL, Check, damaged, read_object, short
from tfdistill.export.tflite.metadata import VOCABULARY
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import EncodedRows, Rows, TFLiteModel

# In one text: `tokenizers` needs some hundred bytes of memory for each character.
MOST_CHARACTERS = 2**20


def check_golden(directory: Path, model: TFLiteModel) -> Check:
    """Replay golden.json: ids from the bundle's own vocabulary, logits from its file.

    Args:
        directory: the bundle.
        model: its model.tflite.

    Raises:
        UserError: golden.json is malformed, an id differs, or a logit differs by more than the
            tolerance in golden.json.
    """
    from tfdistill.text.tokenizer import Tokenizer  # needs the library tokenizers

    path = directory / GOLDEN
    golden = read_object(path)
    try:
        vectors, tolerance = list(golden["vectors"]), float(golden["tolerance"])
        ids = [[int(value) for value in vector["token_ids"]] for vector in vectors]
        segments = [[int(value) for value in vector["segment_ids"]] for vector in vectors]
        expected = [np.array(vector["logits"], np.float64).reshape(-1, model.outputs) for vector in vectors]
        texts, seconds = _texts(vectors)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(f"{path} is malformed ({type(error).__name__}: {short(str(error))})") from error
    if not 0 <= tolerance < float("inf"):
        raise damaged(f"{path} allows a difference of {tolerance}; expected a number from 0 up")
    if golden.get("length") != model.length:
        raise damaged(f"{path} is for {short(golden.get('length'))} tokens, {MODEL} takes {model.length}")
    tokenizer = Tokenizer.from_directory(directory)
    outside = any(not 0 <= value < len(tokenizer.vocabulary) for row in ids for value in row)
    if outside or not ids or any(len(a) != len(b) or {*b} - {0, 1} for a, b in zip(ids, segments, strict=True)):
        raise damaged(f"{path} has no vectors, ids outside the vocabulary, or wrong segment ids")
    stored_rows, rows = Rows(ids, segments), tokenizer.encode(texts, seconds, max_length=model.length)
    other = [number for number in range(len(ids)) if _row(rows, number) != _row(stored_rows, number)]
    if other:
        raise damaged(
            f"{VOCABULARY} gives ids that differ from {path.name} for {len(other)} of {len(ids)} texts, such as "
            f"{short(texts[other[0]])}"
        )
    logits = of_real_tokens(model.predict(rows, workers=1), rows.lengths)
    stored = np.concatenate(expected)
    if logits.shape != stored.shape:
        raise damaged(f"{path} has logits of shape {stored.shape}, {MODEL} gives {logits.shape}")
    difference = float(np.abs(logits - stored).max())
    if not difference <= tolerance:  # NaN is not
        raise damaged(f"{MODEL} differs from {path.name} by {difference:.3g}; expected at most {tolerance:.3g}")
    return Check(
        "golden vectors",
        f"{len(ids)} texts get the same ids, and logits within {difference:.2g}; {tolerance:.2g} is allowed",
    )


def _row(rows: EncodedRows, number: int) -> tuple[list[int], list[int]]:
    span = slice(int(rows.offsets[number]), int(rows.offsets[number + 1]))
    return rows.token_ids[span].tolist(), rows.segment_ids[span].tolist()


def _texts(vectors: list[dict[str, Any]]) -> tuple[list[str], list[str] | None]:
    """Return the first and second texts; raise KeyError, TypeError or ValueError for malformed vectors."""
    texts = [vector["text"] for vector in vectors]
    seconds = [vector["text_b"] for vector in vectors] if any("text_b" in vector for vector in vectors) else None
    for text in [*texts, *(seconds or [])]:
        if not isinstance(text, str):
            raise TypeError("a text is not a string")
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"a text has {len(text)} characters; expected at most {MOST_CHARACTERS}")
        text.encode("utf-8")  # a lone surrogate raises a ValueError
    return texts, seconds
