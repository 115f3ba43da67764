"""The file that takes text: made beside a bundle's model, and compared with it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.convert.jobs import Job, run_jobs
from tfdistill.export.convert.modes import MODES, TF, tool_for
from tfdistill.export.tflite.runtime import LOGITS, TEXT_OPERATORS, operators, read_file
from tfdistill.models.hf import write_model
from tfdistill.models.text_model import TextModel


def check_text_in(model: TextModel, mode: str) -> None:
    """Raises UserError for a quantization or a tokenizer that there is no such file of."""
    if MODES[mode].calibrated or tool_for(model.family, mode) != TF:
        raise UserError(f"a file that takes text cannot be {mode}; expected fp32, fp16 or dynamic_int8")
    tokenizer = model.tokenizer
    if tokenizer.strip_accents not in (None, tokenizer.lower_case) or not tokenizer.tokenize_chinese_chars:
        raise UserError(
            "TensorFlow Text lower-cases and strips accents or neither, and splits Chinese characters; this tokenizer does "
            "otherwise: leave --text-in out"
        )


def convert_text_in(model: TextModel, directory: Path, *, length: int, mode: str) -> bytes:
    """The file for rows of `length`, made in `directory`: `text`, string [1] (pairs: `text_b` too), to `logits` and `token_ids`.

    Raises UserError as `check_text_in`, for a converter that failed, and for other operators than built-in ones and `TEXT_OPERATORS`.
    """
    check_text_in(model, mode)
    place = directory / "text"
    place.mkdir()
    write_model(model, place)
    text = {"lower_case": model.tokenizer.lower_case, "pair": bool(getattr(model.config, "pair", False))}
    table, made = MODES[mode].table, []
    job = Job(0, place, (length,), table, {mode: TF}, None, model.count_params(), text=text)
    run_jobs([job], 1, lambda _, name: made.append(name))
    content = read_file(place / f"{mode}.tflite")
    strange = [name for name in operators(content) if name.startswith("custom:") and name not in TEXT_OPERATORS]
    if strange:
        raise UserError(
            f"the file that takes text needs {', '.join(strange)}, which no runtime has; leave --text-in out"
        )
    return content


def run_text_in(content: bytes, texts: Sequence[str], texts_b: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """(logits (N, ...), token_ids (N, length)), with TensorFlow's interpreter and TensorFlow Text's operators."""
    import tensorflow_text as tf_text
    from tensorflow.lite.python.interpreter import InterpreterWithCustomOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this interpreter moves to LiteRT, whose package has no TensorFlow Text
        interpreter = InterpreterWithCustomOps(
            model_content=content, custom_op_registerers=tf_text.tflite_registrar.SELECT_TFTEXT_OPS
        )
    run, logits, ids = interpreter.get_signature_runner(), [], []
    for number, text in enumerate(texts):
        given = {"text": text} if texts_b is None else {"text": text, "text_b": texts_b[number]}
        said = run(**{name: np.array([value.encode("utf-8", "replace")], object) for name, value in given.items()})
        logits.append(said[LOGITS][0])
        ids.append(said["token_ids"][0])
    return np.stack(logits), np.stack(ids)


def compare_text_in(content: bytes, golden: dict[str, Any]) -> dict[str, Any]:
    """For the manifest: `rows`, the share of golden texts with the `same_ids`, and over these `max_abs_difference` of logits.

    Raises UserError when these differ by more than the golden tolerance.
    """
    vectors = golden["vectors"]
    seconds = [vector["text_b"] for vector in vectors] if "text_b" in vectors[0] else None
    logits, ids = run_text_in(content, [vector["text"] for vector in vectors], seconds)
    same, worst = 0, 0.0
    for vector, found, row in zip(vectors, logits, ids, strict=True):
        size = len(vector["token_ids"])
        if row[:size].tolist() != vector["token_ids"] or row[size:].any():
            continue
        expected = np.asarray(vector["logits"])
        worst = max(worst, float(np.abs(found[: len(expected)] - expected).max()))
        same += 1
    if worst > golden["tolerance"]:
        raise UserError(
            f"the file that takes text differs by {worst:.2g} on the same ids; expected at most {golden['tolerance']:.2g}"
        )
    return {"rows": len(vectors), "same_ids": same / len(vectors), "max_abs_difference": worst}
