"""Convert the file that takes text, and compare it with a bundle's golden vectors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.convert.jobs import Job, run_jobs
from tfdistill.export.convert.modes import MODES, TF, tool_for
from tfdistill.export.convert.request import reads_pairs
from tfdistill.export.tflite.operators import TEXT_MODEL, TEXT_OPERATORS, operators, read_file
from tfdistill.export.tflite.runtime import LOGITS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def check_text_in(model: TextModel, mode: str) -> None:
    """Raise UserError for a quantization or a tokenizer that a file that takes text cannot have."""
    if MODES[mode].calibrated or tool_for(model.family, mode) != TF:
        raise UserError(f"`--text-in` does not support {mode}; choose fp32, fp16 or dynamic_int8")
    tokenizer = model.tokenizer
    if not tokenizer.is_wordpiece:
        raise UserError(
            "`--text-in` holds WordPiece vocabularies, and this tokenizer is of another kind; remove `--text-in`"
        )
    if tokenizer.added:
        raise UserError(
            f"`--text-in` cannot hold added tokens, such as {tokenizer.added[0].content!r}, which TensorFlow Text would split; "
            "remove `--text-in`"
        )
    if tokenizer.strip_accents not in (None, tokenizer.lower_case) or not tokenizer.tokenize_chinese_chars:
        raise UserError(
            "TensorFlow Text splits Chinese characters, and strips accents if and only if it lower-cases; this tokenizer differs, "
            "so remove `--text-in`"
        )


def convert_text_in(model: TextModel, directory: Path, *, length: int, mode: str) -> bytes:
    """Convert a model to a file from `text`, string [1] (and `text_b` for pairs), to `logits` and `token_ids`.

    Args:
        model: a model that `check_text_in` accepts.
        directory: a directory for temporary files.
        length: tokens in a row; longer texts are cut.
        mode: the quantization.

    Raises:
        UserError: the converter failed, or the file needs operators other than built-in ones and
            `TEXT_OPERATORS`.
    """
    from tfdistill.models.hf import write_model

    place = directory / "text"
    place.mkdir()
    write_model(model, place)
    text = {"lower_case": model.tokenizer.lower_case, "pair": reads_pairs(model)}
    job = Job(0, place, (length,), MODES[mode].table, {mode: TF}, None, model.count_params(), text=text)
    run_jobs([job], 1, lambda *_: None)
    content = read_file(place / f"{mode}.tflite")
    unknown = [name for name in operators(content) if name.startswith("custom:") and name not in TEXT_OPERATORS]
    if unknown:
        raise UserError(f"{TEXT_MODEL} needs {', '.join(unknown)}, which runtimes do not have; remove `--text-in`")
    return content


def run_text_in(content: bytes, texts: Sequence[str], texts_b: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Run the file with TensorFlow's interpreter and TensorFlow Text's operators.

    Returns:
        Logits (N, ...) and token ids (N, length).
    """
    import tensorflow_text as tf_text
    from tensorflow.lite.python.interpreter import InterpreterWithCustomOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow deprecates it for LiteRT, whose package has no TensorFlow Text
        interpreter = InterpreterWithCustomOps(
            model_content=content, custom_op_registerers=tf_text.tflite_registrar.SELECT_TFTEXT_OPS
        )
    run, logits, ids = interpreter.get_signature_runner(), [], []
    for number, text in enumerate(texts):
        columns = {"text": text} if texts_b is None else {"text": text, "text_b": texts_b[number]}
        outputs = run(**{name: np.array([value.encode("utf-8", "replace")], object) for name, value in columns.items()})
        logits.append(outputs[LOGITS][0])
        ids.append(outputs["token_ids"][0])
    return np.stack(logits), np.stack(ids)


def compare_text_in(content: bytes, golden: dict[str, Any]) -> dict[str, Any]:
    """Compare the file with golden vectors.

    Returns:
        For the manifest: `rows`, the number of texts; `same_ids`, the share of texts that get the
        golden ids; and `max_abs_difference` of the logits of these, None if there are none.

    Raises:
        UserError: the difference is above the golden tolerance.
    """
    vectors = golden["vectors"]
    seconds = [vector["text_b"] for vector in vectors] if "text_b" in vectors[0] else None
    logits, ids = run_text_in(content, [vector["text"] for vector in vectors], seconds)
    same, worst = 0, None
    for vector, values, row in zip(vectors, logits, ids, strict=True):
        size = len(vector["token_ids"])
        if row[:size].tolist() != vector["token_ids"] or row[size:].any():
            continue
        expected = np.asarray(vector["logits"])
        worst = max(worst or 0.0, float(np.abs(values[: len(expected)] - expected).max()))
        same += 1
    if worst is not None and worst > golden["tolerance"]:
        raise UserError(
            f"{TEXT_MODEL} differs by {worst:.2g} on the same ids; expected at most {golden['tolerance']:.2g}"
        )
    return {"rows": len(vectors), "same_ids": same / len(vectors), "max_abs_difference": worst}
